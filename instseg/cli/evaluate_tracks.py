"""`instseg evaluate --tracks`: tracks compared with true ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from instseg.cli import terminal
from instseg.errors import UsageError

if TYPE_CHECKING:
    from instseg.evaluation.tracking import TrackScores

_ROWS = {
    "TRA": "tra",
    "DET": "det",
    "SEG": "seg",
    "frames": "frames",
    "true objects": "objects",
    "true links": "links",
    "objects missed": "missed",
    "objects made up": "wrong",
    "objects to split": "splits",
    "links missed": "links_missed",
    "links made up": "links_wrong",
    "links of another kind": "links_of_other_kind",
}


def evaluate_tracks(tracks: Path, labels: Path | None, others: Mapping[str, object], as_json: bool) -> None:
    """Compare the tracks of one folder with those of another, and print the scores.

    Parameters
    ----------
    tracks : Path
        Results of the Cell Tracking Challenge.
    labels : Path or None
        The truth.
    others : mapping of str to value
        Options that have no meaning here; values that are given are refused.
    as_json : bool

    Raises
    ------
    UsageError
        If the truth is missing, or another option is given.
    """
    if labels is None:
        raise UsageError("`tracks` needs the true tracks; give `labels=DIR`")
    if given := [name for name, value in others.items() if value]:
        raise UsageError(f"`{given[0]}` does not go with `tracks`; leave one of them out")
    from instseg.evaluation.track_folders import score_track_folders

    with terminal.progress_bar("Evaluating") as progress:
        scores = score_track_folders(labels, tracks, progress)
    if as_json:
        terminal.print_json(scores.to_dict())
    else:
        _print(scores)


def _print(scores: "TrackScores") -> None:
    from rich.table import Table

    table = Table(title="Tracks", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, field in _ROWS.items():
        value = getattr(scores, field)
        shown = "-" if value is None else f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
        table.add_row(name, shown)
    terminal.console().print(table)
