"""The figures of an evaluation as a table in a file."""

import csv
from pathlib import Path

from instseg.evaluation.results import Evaluation
from instseg.io.atomic import atomic_write


def write_csv(path: Path, evaluation: Evaluation) -> None:
    """Write a table with a row for each image, in the columns of `ImageResult.row`.

    Raises
    ------
    InstsegError
        If it cannot be written.
    """
    rows = [image.row() for image in evaluation.images]
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
