"""The report of a training: a page, a table, curves, and pictures of validation images."""

import csv
import importlib.util
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instseg.clustering.embeddings import Embeddings
from instseg.data.samples import Sample
from instseg.errors import InstsegError
from instseg.evaluation.cases import Case
from instseg.io.atomic import atomic_write, ensure_dir
from instseg.io.images import write_picture
from instseg.reports.markup import Markup
from instseg.training.report_page import PAGE, TrainingState, validation_figures, write_training_page
from instseg.visualization.charts import line_chart
from instseg.visualization.pictures import embeddings_picture, foreground_picture, hstack, label2rgb, to_rgb8

PICTURES = 2
"""Validation images that pictures are drawn of."""

_ROW_EVERY = 25
_LARGEST_PICTURE = 512


class MetricsRow(NamedTuple):
    """The figures of one iteration.

    Attributes
    ----------
    iteration : int
        Steps so far.
    learning_rate, images_per_second : float
    losses : dict of str to float
        The total, `loss`, first.
    """

    iteration: int
    learning_rate: float
    images_per_second: float
    losses: dict[str, float]


class TrainingReport:
    """Collects figures and writes them into a folder.

    `index.html` shows all of it in one page; `metrics.csv` has a row for every 25 iterations (means over them) and
    one for every validation; `curves.png` is drawn with each; `validation-N.png` and `embeddings-N.png` show what
    the saved model makes of validation images; TensorBoard logs are written where `tensorboard` is installed.

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
        self._folder = ensure_dir(folder)
        self._table = folder / "metrics.csv"
        self._rows = self._read(resume_at) if resume_at else self._clear()
        self._pending: list[MetricsRow] = []
        self._board = _tensorboard(folder / "tensorboard")
        self._figures: list[Markup] = []

    def add(self, row: MetricsRow) -> None:
        """Add the figures of one iteration."""
        self._pending.append(row)
        if row.iteration % _ROW_EVERY == 0:
            self._flush()

    def write(self, iteration: int, scores: dict[str, float]) -> None:
        """Add validation scores, and write the table and the curves."""
        self._flush()
        self._append({"iteration": iteration, **scores})
        self._write_table()
        chart = line_chart(self._series_of("loss"), title="Training losses", x_label="iteration", log_y=True)
        quality = line_chart(self._series_of("AP"), title="AP on validation images", x_label="iteration")
        write_picture(self._folder / "curves.png", np.concatenate([chart, quality]))
        if self._board is not None:
            self._board.flush()

    def write_pictures(self, number: int, sample: Sample, labels: NDArray[np.int32], embeddings: Embeddings) -> None:
        """Draw a validation image; of a large one the upper left corner, of a volume the plane of the most objects.

        Parameters
        ----------
        number : int
            Of the image, for the names of the files.
        sample : Sample
        labels : (H, W) or (Z, H, W) int32
            As predicted; 0 is background.
        embeddings : Embeddings
            What was clustered.
        """
        corner: Any = np.s_[:_LARGEST_PICTURE, :_LARGEST_PICTURE]
        if labels.ndim == 3:
            corner = (int((sample.labels > 0).sum(axis=(1, 2)).argmax()), *corner)
        foreground = embeddings.foreground[corner]
        panels = hstack(
            to_rgb8(sample.image[corner]),
            label2rgb(sample.labels[corner]),
            foreground_picture(foreground),
            label2rgb(labels[corner]),
            captions=["image", "true labels", "foreground", "predicted labels"],
        )
        write_picture(self._folder / f"validation-{number}.png", panels)
        picture = embeddings_picture(embeddings.embeddings[corner], foreground)
        write_picture(self._folder / f"embeddings-{number}.png", picture)

    def show_cases(self, cases: list[Case]) -> None:
        """Have the page show validation images with what is right and wrong in them, in the place of those before."""
        self._figures = validation_figures(cases)

    def write_page(self, state: TrainingState) -> None:
        """Write `index.html`.

        Raises
        ------
        InstsegError
            If it cannot be written.
        """
        losses, quality = self._series_of("loss"), self._series_of("AP")
        write_training_page(self._folder / PAGE, state, losses, quality, self._figures)

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

    def _series_of(self, kind: str) -> dict[str, list[tuple[float, float]]]:
        return {name: self._series(name) for name in self._columns() if name.startswith(kind)}

    def _series(self, name: str) -> list[tuple[float, float]]:
        return [(row["iteration"], row[name]) for row in self._rows if name in row]

    def _write_table(self) -> None:
        with atomic_write(self._table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns())
            writer.writeheader()
            for row in self._rows:
                writer.writerow({name: _short(value) for name, value in row.items()})

    def _clear(self) -> list[dict[str, float]]:
        """Remove what an earlier training left, which would be taken for this one's, and nothing else."""
        if not self._has_our_table():
            return []
        shutil.rmtree(self._folder / "tensorboard", ignore_errors=True)
        for picture in self._folder.glob("*.png"):
            if re.fullmatch(r"(validation|embeddings)-\d+\.png", picture.name):
                picture.unlink()
        return []

    def _has_our_table(self) -> bool:
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


class _TensorBoardWriter:
    """Writes the rows as TensorBoard's log."""

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


def _tensorboard(folder: Path) -> Any:
    """Return a TensorBoard log where the package is installed; `tf.summary` exists without it, and fails."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    with suppress(ImportError):
        return _TensorBoardWriter(folder)
    return None
