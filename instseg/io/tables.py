"""Tables as CSV and Parquet: how cells are written that others have named, and the table of instances."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.instances import Instances
from instseg.errors import printable
from instseg.io.atomic import StrPath, atomic_write
from instseg.optional import require_extra

TABLE_SUFFIXES = (".csv", ".parquet")
"""What the names of the files end in that `write_columns` writes."""

_DECIMALS = 4
# More than float32 holds, and than a pixel's worth of anything.
_DIGITS = 9
# What makes a spreadsheet take a cell for a formula; the wide forms do so in East Asian settings.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_table(path: StrPath, instances: Instances) -> None:
    """Write a row for each instance as CSV, with the columns that `table_columns` returns.

    Raises
    ------
    InstsegError
        If the file cannot be written.
    """
    columns = table_columns(instances)
    write_csv(path, columns, zip(*columns.values(), strict=True))


def write_csv(path: StrPath, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table as CSV in UTF-8, under another name until it is complete.

    Parameters
    ----------
    path : path-like
        Where it goes.
    header : iterable of str
        The names of the columns.
    rows : iterable of iterable
        The cells of each row. Numbers are written as Python writes them, and None as an empty cell; everything else is
        text, and written as `safe_cell` returns it.

    Raises
    ------
    InstsegError
        If the file cannot be written.
    """
    with atomic_write(Path(path)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([safe_cell(name) for name in header])
        writer.writerows([_cell(value) for value in row] for row in rows)


def require_table(path: StrPath) -> None:
    """Check that what a table of this name needs is installed.

    Raises
    ------
    InstsegError
        If a package is missing.
    """
    if Path(path).suffix.lower() == ".parquet":
        require_extra("parquet")


def write_columns(path: StrPath, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of equal lengths as CSV, or as Parquet if the name ends so; it appears when it is complete.

    Parameters
    ----------
    path : path-like
        Ends in .csv or .parquet.
    columns : mapping of str to (N,) array
        Numbers, truth values or text. In CSV other numbers than whole ones have nine digits, those that are not known
        (NaN) empty cells, and text is written as `safe_cell` returns it; Parquet has all as they are.

    Raises
    ------
    InstsegError
        If the file cannot be written, or the extra for Parquet is not installed.
    """
    path = Path(path)
    require_table(path)
    if path.suffix.lower() != ".parquet":
        write_csv(path, columns, zip(*map(_column_cells, columns.values()), strict=True))
        return
    import pyarrow
    from pyarrow import parquet

    # pyarrow knows no text of NumPy's.
    arrays = {
        name: pyarrow.array(values.tolist(), pyarrow.string()) if values.dtype.kind == "U" else pyarrow.array(values)
        for name, values in columns.items()
    }
    with atomic_write(path) as temporary:
        parquet.write_table(pyarrow.table(arrays), temporary)


def _column_cells(values: NDArray[Any]) -> list[Any]:
    if values.dtype.kind != "f":
        return list(values.tolist())
    if np.isfinite(values).all() and (np.abs(values) < 2**53).all() and (values == np.trunc(values)).all():
        return list(values.astype(np.int64).tolist())
    return [float(f"{value:.{_DIGITS}g}") if value == value else None for value in values.tolist()]


def safe_cell(text: str) -> str:
    r"""Return the text of a cell that no spreadsheet takes for a formula, on one line and without control characters.

    Names of files and of classes come from others, and a spreadsheet runs what looks like a formula.

    Parameters
    ----------
    text : str
        Such as the name of a file.

    Returns
    -------
    str
        The text as `instseg.errors.printable` returns it, after an apostrophe if it begins like a formula.

    Examples
    --------
    >>> safe_cell("=1+1"), safe_cell("a.png")
    ("'=1+1", 'a.png')
    """
    return ("'" if text.lstrip().startswith(_FORMULA) or text.startswith(("\t", "\r")) else "") + printable(text)


def unquoted_cell(cell: str) -> str:
    """Return a name without the apostrophe that `safe_cell` puts before what looks like a formula.

    Examples
    --------
    >>> unquoted_cell("'=1+1"), unquoted_cell("'a'")
    ('=1+1', "'a'")
    """
    plain = cell.removeprefix("'")
    return plain if safe_cell(plain) == cell else cell


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | np.number) else safe_cell(str(value))


def table_columns(instances: Instances) -> dict[str, list[Any]]:
    """Return the columns of the table, N values each, with numbers rounded to four decimals.

    Returns
    -------
    dict of str to list
        'id', 'score', 'area', 'row' and 'column' of the centroid, and the bounding box: 'first_row', 'first_column',
        'last_row' and 'last_column', all of which hold pixels of the instance. In volumes 'area' is the number of
        voxels, and a 'plane' comes before each row. With classes also 'class', and a 'p(NAME)' for each.

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
     'first_row': [0], 'first_column': [1], 'last_row': [1], 'last_column': [2]}
    """
    axes = ("plane", "row", "column")[-instances.ndim :]
    first, beyond = np.split(instances.bbox, 2, axis=1)
    arrays: dict[str, NDArray[Any]] = {"id": instances.label, "score": instances.score, "area": instances.area}
    arrays |= dict(zip(axes, instances.centroid.T, strict=True))
    arrays |= {f"first_{name}": values for name, values in zip(axes, first.T, strict=True)}
    arrays |= {f"last_{name}": values - 1 for name, values in zip(axes, beyond.T, strict=True)}
    probabilities = dict(zip(instances.class_names, instances.class_probabilities.T, strict=True))
    table: dict[str, list[Any]] = {name: np.round(values, _DECIMALS).tolist() for name, values in arrays.items()}
    if instances.class_names:
        table["class"] = instances.classes
    return table | {f"p({name})": np.round(values, _DECIMALS).tolist() for name, values in probabilities.items()}
