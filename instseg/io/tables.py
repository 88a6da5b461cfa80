"""The table of instances as CSV."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from instseg.clustering.instances import Instances
from instseg.io.atomic import StrPath, atomic_write

_DECIMALS = 4


def write_table(path: StrPath, instances: Instances) -> None:
    """Write a row for each instance as CSV, with the columns that `table_columns` returns.

    Raises
    ------
    InstsegError
        If the file cannot be written.
    """
    columns = table_columns(instances)
    with atomic_write(Path(path)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def table_columns(instances: Instances) -> dict[str, list[Any]]:
    """Return the columns of the table, N values each, with numbers rounded to four decimals.

    Returns
    -------
    dict of str to list
        'id', 'score', 'area', 'row' and 'column' of the centroid, and the bounding box as its first and last row and
        column: 'top', 'left', 'bottom', 'right'. With classes also 'class', and a 'p(NAME)' for each.

    Examples
    --------
    >>> instances = Instances(
    ...     label=np.array([1], np.int32),
    ...     score=np.array([0.5]),
    ...     area=np.array([3]),
    ...     centroid=np.array([[1 / 3, 5 / 3]]),
    ...     bbox=np.array([[0, 1, 2, 3]]),
    ... )
    >>> table_columns(instances)  # doctest: +NORMALIZE_WHITESPACE
    {'id': [1], 'score': [0.5], 'area': [3], 'row': [0.3333], 'column': [1.6667],
     'top': [0], 'left': [1], 'bottom': [1], 'right': [2]}
    """
    rows, columns = instances.centroid.T
    top, left, below, beyond = instances.bbox.T
    arrays = {
        "id": instances.label,
        "score": instances.score,
        "area": instances.area,
        "row": rows,
        "column": columns,
        "top": top,
        "left": left,
        "bottom": below - 1,
        "right": beyond - 1,
    }
    probabilities = dict(zip(instances.class_names, instances.class_probabilities.T, strict=True))
    table: dict[str, list[Any]] = {name: np.round(values, _DECIMALS).tolist() for name, values in arrays.items()}
    if instances.class_names:
        table["class"] = instances.classes
    return table | {f"p({name})": np.round(values, _DECIMALS).tolist() for name, values in probabilities.items()}
