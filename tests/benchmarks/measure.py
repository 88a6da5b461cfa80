"""Measuring 50,000 objects in an image of 8192 x 8192 with two channels, against scikit-image.

    python tests/benchmarks/measure.py [--side 8192] [--objects 50000] [--runs 3] [--share 0.04]

scikit-image measures a share of the objects, as its time grows with their number. Both take one core, so that it is the
time of the processor that counts, whatever else the machine does.
"""

import argparse
import statistics
import time

import numpy as np
from history import record
from skimage.measure import regionprops_table

from instseg.measurements import measure

PROPERTIES = (
    *("label", "centroid", "bbox", "area", "perimeter", "equivalent_diameter_area", "axis_major_length"),
    *("axis_minor_length", "eccentricity", "orientation", "solidity", "euler_number"),
    *("intensity_mean", "intensity_median", "intensity_std", "intensity_min", "intensity_max"),
)


def draw(side: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ellipses in the cells of a square grid."""
    labels = np.zeros((side, side), np.int32)
    across = int(np.ceil(np.sqrt(count)))
    cell = side / across
    reach = int(cell / 2)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    for number in range(count):
        row, column = ((np.array(divmod(number, across)) + 0.5) * cell).astype(int)
        high, wide = rng.uniform(0.6, 0.95, 2) * reach
        angle = rng.uniform(0, np.pi)
        along = rows * np.cos(angle) + columns * np.sin(angle)
        beside = columns * np.cos(angle) - rows * np.sin(angle)
        inside = (along / high) ** 2 + (beside / wide) ** 2 < 1
        part = labels[row - reach : row + reach + 1, column - reach : column + reach + 1]
        part[inside[: part.shape[0], : part.shape[1]]] = number + 1
    return labels


def main() -> None:
    """Print times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--objects", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.04)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    labels = draw(options.side, options.objects, rng)
    image = rng.integers(0, 4096, (*labels.shape, 2), np.uint16)
    rows = int(options.side * np.sqrt(options.share))
    part, share = labels[:rows, :rows], image[:rows, :rows]
    of_part = len(np.unique(part)) - 1
    ratios, ours, theirs = [], [], []
    for _ in range(options.runs):
        start = time.process_time()
        regionprops_table(part, share, properties=PROPERTIES)
        theirs.append((time.process_time() - start) * options.objects / of_part)
        start = time.process_time()
        columns = measure(labels, image)
        ours.append(time.process_time() - start)
        assert len(columns["label"]) == options.objects
        ratios.append(ours[-1] / theirs[-1])
    print(f"{options.objects} objects of {np.median(columns['area']):.0f} pixels, {options.side} x {options.side} x 2")
    print(f"scikit-image {statistics.median(theirs):.1f} s, instseg {statistics.median(ours):.1f} s")
    print(f"ratio {statistics.median(ratios):.3f} (median of {options.runs})")
    record("measuring over scikit-image", statistics.median(ratios), better="lower")


if __name__ == "__main__":
    main()
