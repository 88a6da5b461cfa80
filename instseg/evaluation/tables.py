"""The figures of an evaluation as a table in a file."""

from pathlib import Path

from instseg.evaluation.results import Evaluation
from instseg.io.tables import write_csv


def write_results(path: Path, evaluation: Evaluation) -> None:
    """Write a table with a row for each image, in the columns of `ImageResult.row`.

    Raises
    ------
    InstsegError
        If it cannot be written.
    """
    rows = [image.row() for image in evaluation.images]
    write_csv(path, rows[0], [row.values() for row in rows])
