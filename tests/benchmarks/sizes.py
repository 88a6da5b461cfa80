"""Measure how a model does on images whose objects are of another size than in its training, with `--diameter auto`.

    python tests/benchmarks/sizes.py MODEL DATA

DATA holds `images/` and `labels/`, such as `dsb2018/val`. Images are predicted as they are, those whose objects have a
median diameter of at least 16 pixels also shrunk twice, and those of at most 50 pixels enlarged twice; each with and
without `diameter='auto'`. Labels are brought back to the original's size and compared with the original's labels.
Printed is the mean AP (0.50 to 0.90, mean over the images) of each, and that of the same images as they are.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from instseg.clustering.instances import median_diameter
from instseg.evaluation.metrics import macro_average, score
from instseg.io.folders import find_pairs
from instseg.io.images import read_image
from instseg.io.label_images import read_labels

_LEAST, _MOST = 16, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("data", type=Path, metavar="DATA")
    options = parser.parse_args()
    from instseg.inference.model import load

    model = load(options.model)
    found: dict[str, list[list[float]]] = {"as they are": [], "shrunk twice": [], "enlarged twice": []}
    for pair in find_pairs(options.data):
        image, labels = read_image(pair.image), read_labels(pair.labels)
        areas = np.unique(labels[labels > 0], return_counts=True)[1]
        diameter = median_diameter(areas)
        factors = {"as they are": 1.0}
        if diameter >= _LEAST:
            factors["shrunk twice"] = 0.5
        if 0 < diameter <= _MOST:
            factors["enlarged twice"] = 2.0
        original = mean_ap(labels, model.predict(image))
        for name, factor in factors.items():
            seen = resized(image, factor)
            tried = [mean_ap(labels, model.predict(seen, diameter=size), factor) for size in (None, "auto")]
            found[name].append([original, *tried])
    print("| images | how many | the same as they are | seen like this | with auto |\n|---|--:|--:|--:|--:|")
    for name, values in found.items():
        means = " | ".join(f"{value:.3f}" for value in np.mean(values, axis=0))
        print(f"| {name} | {len(values)} | {means} |")


def resized(image, factor: float):
    """Return an image (H, W, C) of another size: of pixels' means where it is smaller, else bicubic."""
    if factor == 1:
        return image
    height, width = (round(side * factor) for side in image.shape[:2])
    way = Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC
    planes = [
        np.asarray(Image.fromarray(plane.astype(np.float32)).resize((width, height), way))
        for plane in np.moveaxis(image.reshape(*image.shape[:2], -1), -1, 0)
    ]
    return np.clip(np.round(np.stack(planes, axis=-1)), 0, np.iinfo(image.dtype).max).astype(image.dtype)


def mean_ap(labels, predicted, factor: float = 1.0) -> float:
    rows, columns = (
        np.minimum(((np.arange(side) + 0.5) * factor).astype(int), there - 1)
        for side, there in zip(labels.shape, predicted.shape, strict=True)
    )
    return macro_average([score(labels, predicted[rows[:, None], columns])]).mean_ap


if __name__ == "__main__":
    main()
