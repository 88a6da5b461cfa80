"""Count what a model finds in nearly empty, empty, spotted and framed images, where levels are easily wrong.

    python tests/benchmarks/sparse.py DATA OUT --model MODEL

DATA is a folder of images and labels of bright nuclei, such as `dsb2018/val`; MODEL is `nuclei` by default. 20 of its
images make fields of four kinds. `sparse`: one to three nuclei of the image, on background that is put together from
parts of the image without nuclei. `empty`: such background alone, noise, a gradient, one value. `hot pixels`: the image
with 0.4 % of its pixels at the largest value. `border`: the image in a white or black frame. In the last two, right is
what the model finds in the image as it was. Images, labels and what was found go to OUT, a folder a kind.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.ndimage as ndi
from PIL import Image

import instseg
from instseg.evaluation.metrics import score
from instseg.inference.model import Model
from instseg.io.folders import find_pairs
from instseg.io.images import read_image
from instseg.io.label_images import read_label_values

COUNT = 20
KINDS = ("sparse", "empty", "hot pixels", "border")
_BLOCK, _MARGIN, _FEATHER = 16, 12, 6
_HOT_SHARE = 0.004


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--model", default="nuclei")
    options = parser.parse_args()
    report(options.data, options.out, instseg.load(options.model))


def report(data: Path, out: Path, model: Model) -> None:
    """Make the fields, segment them, and print a row a kind."""
    totals = {kind: np.zeros(4, int) for kind in KINDS}
    for number, (kind, image, truth) in enumerate(fields(data, model)):
        found = model.predict(image)
        folder = out / kind.replace(" ", "-")
        for name, pixels in (
            ("images", image),
            ("labels", truth.astype(np.uint16)),
            ("found", found.astype(np.uint16)),
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.png")
        at_half = score(truth, found)
        totals[kind] += 1, truth.max(), at_half.tp[0], at_half.fp[0]
    print("| kind | images | instances made | found | missed | phantoms |\n|---|--:|--:|--:|--:|--:|")
    for kind, (images, made, matched, phantoms) in totals.items():
        print(f"| {kind} | {images} | {made} | {matched} | {made - matched} | {phantoms} |")


def fields(data: Path, model: Model) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield a kind, an image (H, W) uint8 or uint16 and its labels (H, W)."""
    rng = np.random.default_rng(0)
    pairs = find_pairs(data)
    for index in rng.permutation(len(pairs))[:COUNT].tolist():
        image = read_image(pairs[index].image)[..., 0]
        labels = read_label_values(pairs[index].labels)
        side = int(rng.choice([512, 1024]))
        background = resample_background(rng, image, labels, side)
        yield "sparse", *paste_nuclei(rng, background, image, labels, int(rng.integers(1, 4)))
        for empty in (background, *noise(rng, side)):
            yield "empty", empty, np.zeros(empty.shape, np.int32)
        clean = model.predict(image)
        yield "hot pixels", np.where(rng.random(image.shape) < _HOT_SHARE, np.iinfo(image.dtype).max, image), clean
        width = round(rng.uniform(0.1, 0.4) * min(image.shape) / 2)
        white = int(rng.integers(2)) * np.iinfo(image.dtype).max
        yield "border", np.pad(image, width, constant_values=white), np.pad(clean, width)


def resample_background(rng: np.random.Generator, image: np.ndarray, labels: np.ndarray, side: int) -> np.ndarray:
    """Return a square of parts of an image that are as far from nuclei as any, brought to one brightness."""
    distance = ndi.distance_transform_edt(labels == 0)
    blocks = [
        np.s_[top : top + _BLOCK, left : left + _BLOCK]
        for top in range(0, image.shape[0] - _BLOCK + 1, _BLOCK // 2)
        for left in range(0, image.shape[1] - _BLOCK + 1, _BLOCK // 2)
    ]
    blocks = sorted(blocks, key=lambda block: -min(float(distance[block].min()), _MARGIN))
    blocks = [block for block in blocks if distance[block].min() >= _MARGIN] or blocks[:4]
    # What nobody has labelled shows in the spread of the values.
    blocks = sorted(blocks, key=lambda block: float(image[block].std()))[: max(4, len(blocks) // 2)]
    level = float(np.median([image[block].mean() for block in blocks]))
    made = np.empty((side, side), np.float32)
    for top in range(0, side, _BLOCK):
        for left in range(0, side, _BLOCK):
            part = image[blocks[int(rng.integers(len(blocks)))]].astype(np.float32)
            made[top : top + _BLOCK, left : left + _BLOCK] = level + np.rot90(part - part.mean(), int(rng.integers(4)))
    return to_dtype(made, image.dtype)


def paste_nuclei(
    rng: np.random.Generator, background: np.ndarray, image: np.ndarray, labels: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a background with nuclei of an image in it, apart from each other, and their labels."""
    made, truth = background.astype(np.float32), np.zeros(background.shape, np.int32)
    boxes = ndi.find_objects(labels)
    areas = np.bincount(labels.ravel(), minlength=len(boxes) + 1)[1:]
    whole = [
        label
        for label, box in enumerate(boxes, 1)
        if box
        and areas[label - 1] >= 50
        and not touches(box, labels.shape)
        and max(s.stop - s.start for s in box) < 200
    ]
    cell = background.shape[0] // 2
    corners = [(row, column) for row in (0, cell) for column in (0, cell)]
    for number, label in enumerate(rng.choice(whole, min(count, len(whole)), replace=False).tolist(), 1):
        box = tuple(
            slice(max(0, part.start - _FEATHER), min(part.stop + _FEATHER, length))
            for part, length in zip(boxes[label - 1], labels.shape, strict=True)
        )
        mask = labels[box] == label
        away = ndi.distance_transform_edt(~mask)
        # Of a neighbour nothing is shown.
        weight = np.clip(1 - away / _FEATHER, 0, 1) * ((labels[box] == 0) | mask)
        ring = image[box][(labels[box] == 0) & (away > _FEATHER - 2)]
        level = float(np.median(ring)) if ring.size else float(image[box].min())
        top, left = (int(c + rng.integers(cell - s)) for c, s in zip(corners[number - 1], mask.shape, strict=True))
        place = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
        made[place] += weight * (image[box] - level)
        truth[place][mask] = number
    return to_dtype(made, image.dtype), truth


def touches(box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    """Return whether a box lies at the border of an image."""
    return any(part.start == 0 or part.stop == length for part, length in zip(box, shape, strict=True))


def noise(rng: np.random.Generator, side: int) -> Iterator[np.ndarray]:
    """Yield images without objects: noise of different kinds and strengths, a gradient, one value."""
    size = (side, side)
    spread = float(rng.choice([1, 3, 10, 30]))
    yield to_dtype(rng.normal(20 + 3 * spread, spread, size), np.uint8)
    yield to_dtype(rng.normal(2000, 20 * spread, size), np.uint16)
    yield to_dtype(rng.poisson(spread**2, size), np.uint16)
    yield to_dtype(rng.normal(np.linspace(20, 60, side), 3, size), np.uint8)
    yield np.full(size, int(rng.integers(256)), np.uint8)


def to_dtype(image: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Round to integers of a type."""
    return np.clip(np.rint(image), 0, np.iinfo(dtype).max).astype(dtype)


if __name__ == "__main__":
    main()
