"""Evaluate a trained model on a folder of images and labels.

    python tests/benchmarks/folder.py MODEL DATA_DIR [--limit N] [--min-size PIXELS]

DATA_DIR holds `images` and `labels`, as for training.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from report import Example, evaluate

from instseg.data.folder import find_pairs, read_pair


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate a trained model on a folder of images and labels.")
    parser.add_argument("model", type=Path, help="model directory")
    parser.add_argument("data", type=Path, help="folder with images and labels")
    parser.add_argument("--limit", type=int, help="evaluate the first LIMIT images only")
    parser.add_argument("--min-size", type=int, default=0, help="take true instances of fewer pixels out of the truth")
    options = parser.parse_args()
    evaluate(options.model, examples(options.data, options.limit), min_truth_size=options.min_size)


def examples(folder: Path, limit: int | None) -> Iterator[Example]:
    for pair in find_pairs(folder)[:limit]:
        image, labels = read_pair(pair)
        yield Example(pair.name, image, labels, ignored=None)


if __name__ == "__main__":
    main()
