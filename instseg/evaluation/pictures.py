"""Pictures of the errors in predictions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from instseg.evaluation.error_analysis import ErrorAnalysis
from instseg.evaluation.results import named_errors
from instseg.evaluation.views import worst_view
from instseg.visualization.colours import Picture
from instseg.visualization.pictures import (
    IGNORED_COLOUR,
    hstack,
    label2rgb,
    legend,
    outline_mask,
    to_rgb8,
    vstack,
)

# The Okabe-Ito colours, which people who confuse red and green tell apart, too.
_MATCHED_COLOUR = (0, 158, 115)
_ERROR_COLOURS = {
    "false_negatives": (213, 94, 0),
    "false_positives": (86, 180, 233),
    "splits": (240, 228, 66),
    "merges": (204, 121, 167),
}


def error_picture(panels: Sequence[Picture], *, ignored: bool = False) -> Picture:
    """Put the panels of several images below each other, with a legend.

    Parameters
    ----------
    panels : sequence of (h, w, 3) uint8
        One or more, as `error_panel` returns them; they may differ in size.
    ignored : bool
        Whether the legend is to explain ignored pixels.

    Returns
    -------
    picture : (h, w, 3) uint8
    """
    width = max(panel.shape[1] for panel in panels)
    return vstack([*panels, error_legend(width, ignored=ignored)])


def error_panel(
    title: str,
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    image: NDArray[np.number] | None = None,
    ignored: NDArray[np.bool_] | None = None,
) -> Picture:
    """Draw an image and the errors in its prediction side by side, with the title and the numbers of errors.

    Parameters
    ----------
    title : str
    truth, predicted : (H, W) or (Z, Y, X) integers
        One label per pixel, 0 is background. Of a volume, the plane with the most mistakes is drawn, and those of the
        whole volume are counted.
    image : (H, W) or (H, W, C) numbers, optional
        Without it the true labels are drawn in its place. Of a volume (Z, Y, X) or (Z, Y, X, C).
    ignored : bool of the shape of the labels, optional
        Pixels that do not count, where both labels are 0; they become gray.

    Returns
    -------
    panel : (h, w, 3) uint8
    """
    shown = worst_view(truth, predicted, image, ignored)
    counts = named_errors(shown.analysis.counts())
    caption = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
    plane = "" if shown.plane is None else f", z = {shown.plane}"
    labels = shown.truth if shown.ignored is None else np.where(shown.ignored, -1, shown.truth)
    return hstack(
        label2rgb(labels) if shown.image is None else to_rgb8(shown.image),
        error_overlay(shown.image, shown.truth, shown.predicted, shown.analysis, shown.ignored),
        captions=[f"{title}{plane}", caption or "no mistakes"],
    )


def error_overlay(
    image: NDArray[np.number] | None,
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    analysis: ErrorAnalysis,
    ignored: NDArray[np.bool_] | None = None,
) -> Picture:
    """Colour the errors in a prediction, in the colours of `error_legend`.

    False negatives and splits are filled where they truly are, false positives and merges where they were predicted.
    Matched instances have a thin outline, as predicted; white lines part the predictions of a split and the true
    instances of a merge.

    Parameters
    ----------
    image : (H, W) or (H, W, C) numbers, or None
        The ground, stretched as by `to_rgb8` and dimmed; black without it.
    truth, predicted : (H, W) integers
        One label per pixel, 0 is background.
    analysis : ErrorAnalysis
        Of these two.
    ignored : (H, W) bool, optional
        Pixels that do not count; they become gray.

    Returns
    -------
    picture : (H, W, 3) uint8
    """
    ground = np.zeros((*truth.shape, 3), np.uint8) if image is None else to_rgb8(image)
    picture = ground // 2
    drawn_on = {"false_negatives": truth, "splits": truth, "merges": predicted, "false_positives": predicted}
    parted_by = {"splits": predicted, "merges": truth}
    for kind, labels in drawn_on.items():
        inside = np.isin(labels, getattr(analysis, kind)) & (labels > 0)
        colour = np.array(_ERROR_COLOURS[kind], np.uint8)
        picture[inside] = (0.35 * ground[inside] + 0.65 * colour).astype(np.uint8)
        if kind in parted_by:
            picture[inside & outline_mask(parted_by[kind])] = 255
    matched = np.isin(predicted, analysis.matched_predicted) & (predicted > 0)
    picture[matched & outline_mask(predicted)] = _MATCHED_COLOUR
    if ignored is not None:
        picture[ignored] = (0.35 * ground[ignored] + 0.65 * np.array(IGNORED_COLOUR)).astype(np.uint8)
    return picture


def error_legend(width: int, *, ignored: bool = False) -> Picture:
    """Draw a strip (h, width, 3) uint8 that names the colours of `error_overlay`, that of ignored pixels if asked."""
    colours = dict(zip(named_errors(dict.fromkeys(_ERROR_COLOURS, 0)), _ERROR_COLOURS.values(), strict=True))
    names = {name.replace("_", " "): colour for name, colour in colours.items()}
    return legend(width, {"right": _MATCHED_COLOUR, **names} | ({"ignored": IGNORED_COLOUR} if ignored else {}))
