"""What a training leaves to look at: a table, curves, and pictures of validation images."""

import csv
import importlib.util
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from instseg.charts import curves
from instseg.data.patches import Sample
from instseg.errors import InstsegError
from instseg.files import make_folder, replacing
from instseg.images import write_picture
from instseg.predict import Model
from instseg.render import (
    Picture,
    embeddings_picture,
    foreground_picture,
    label_colours,
    side_by_side,
    to_rgb8,
)

_EVERY = 25
_PICTURES = 2
_LARGEST_PICTURE = 512


class Row(NamedTuple):
    """One iteration's figures."""

    iteration: int
    learning_rate: float
    images_per_second: float
    losses: dict[str, float]


class Report:
    """Collects figures and writes them into a folder.

    `metrics.csv` has a row for every 25 iterations (means over them) and one
    for every validation; `curves.png`, `validation-N.png` and `embeddings-N.png` are drawn
    with each save; TensorBoard logs are written where `tensorboard` is installed.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    resume_at : int
        Rows of an earlier training up to this iteration are kept; 0 begins anew.

    Raises
    ------
    InstsegError
        If the folder cannot be made, or its table cannot be read.
    """

    def __init__(self, folder: Path, *, resume_at: int = 0) -> None:
        self._folder = make_folder(folder)
        self._table = folder / "metrics.csv"
        self._rows = self._read(resume_at) if resume_at else self._clear()
        self._pending: list[Row] = []
        self._board = _board(folder / "tensorboard")

    def add(self, row: Row) -> None:
        """Take the figures of one iteration."""
        self._pending.append(row)
        if row.iteration % _EVERY == 0:
            self._flush()

    def write(self, iteration: int, scores: dict[str, float], model: Model, samples: Sequence[Sample]) -> None:
        """Add validation scores and write everything."""
        self._flush()
        self._append({"iteration": iteration, **scores})
        self._write_table()
        losses = {name: self._series(name) for name in self._columns() if name.startswith("loss")}
        chart = curves(losses, title="Training losses", x_label="iteration", log_y=True)
        aps = {name: self._series(name) for name in self._columns() if name.startswith("AP")}
        quality = curves(aps, title="AP on validation images", x_label="iteration")
        write_picture(self._folder / "curves.png", np.concatenate([chart, quality]))
        for number, sample in enumerate(samples[:_PICTURES]):
            panels, embeddings = _pictures(model, sample)
            write_picture(self._folder / f"validation-{number}.png", panels)
            write_picture(self._folder / f"embeddings-{number}.png", embeddings)
        if self._board is not None:
            self._board.flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        last = self._pending[-1]
        losses = {
            ("loss" if name == "loss" else f"loss_{name}"): float(np.mean([row.losses[name] for row in self._pending]))
            for name in last.losses
        }
        self._append(
            {
                "iteration": last.iteration,
                "learning_rate": last.learning_rate,
                "images_per_second": last.images_per_second,
                **losses,
            }
        )
        self._pending.clear()

    def _append(self, row: dict[str, float]) -> None:
        self._rows.append(row)
        if self._board is not None:
            self._board.add(row)

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self._rows for name in row))

    def _series(self, name: str) -> list[tuple[float, float]]:
        return [(row["iteration"], row[name]) for row in self._rows if name in row]

    def _write_table(self) -> None:
        with replacing(self._table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns())
            writer.writeheader()
            for row in self._rows:
                writer.writerow({name: _short(value) for name, value in row.items()})

    def _clear(self) -> list[dict[str, float]]:
        """Remove what an earlier training left, which would be taken for this one's, and nothing else."""
        if not self._is_ours():
            return []
        shutil.rmtree(self._folder / "tensorboard", ignore_errors=True)
        for picture in self._folder.glob("*.png"):
            if re.fullmatch(r"(validation|embeddings)-\d+\.png", picture.name):
                picture.unlink()
        return []

    def _is_ours(self) -> bool:
        """Return whether the folder holds a table that this class wrote."""
        try:
            with self._table.open(encoding="utf-8") as file:
                return file.readline().startswith("iteration,")
        except (OSError, UnicodeDecodeError):
            return False

    def _read(self, until: int) -> list[dict[str, float]]:
        if not self._table.is_file():
            return []
        try:
            with self._table.open(newline="", encoding="utf-8") as file:
                rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
            return [row for row in rows if row["iteration"] <= until]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InstsegError(f"cannot read {self._table} ({error}); move it away to go on without it") from error


def _short(value: float) -> str:
    return f"{value:.6g}"


def _pictures(model: Model, sample: Sample) -> tuple[Picture, Picture]:
    """Draw one validation image; of a large one its upper left corner."""
    part = np.s_[:_LARGEST_PICTURE, :_LARGEST_PICTURE]
    maps = model.embed(sample.image)
    labels = model.predict(sample.image)
    panels = side_by_side(
        to_rgb8(sample.image[part]),
        label_colours(sample.labels[part]),
        foreground_picture(maps.foreground[part]),
        label_colours(labels[part]),
        captions=["image", "true labels", "foreground", "predicted labels"],
    )
    return panels, embeddings_picture(maps.embeddings[part], maps.foreground[part])


class _Board:
    """TensorBoard's log."""

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        self._summary = tf.summary
        self._writer = tf.summary.create_file_writer(str(folder))

    def add(self, row: dict[str, float]) -> None:
        with self._writer.as_default():
            for name, value in row.items():
                if name != "iteration":
                    self._summary.scalar(name, value, step=int(row["iteration"]))

    def flush(self) -> None:
        self._writer.flush()


def _board(folder: Path) -> Any:
    """Return a TensorBoard log where the package is installed; `tf.summary` is there without it, and fails."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    with suppress(ImportError):
        return _Board(folder)
    return None
