"""Pictures of errors, pixel by pixel in rows."""

import numpy as np

from instseg.evaluation.error_analysis import classify_errors
from instseg.evaluation.pictures import error_legend, error_overlay, error_panel, error_picture

MATCHED, MISSED, EXTRA, SPLIT, MERGED = (0, 158, 115), (213, 94, 0), (86, 180, 233), (240, 228, 66), (204, 121, 167)


def blocks(text, side=6):
    """A square of pixels per character, '.' is background."""
    row = np.array([[0 if character == "." else int(character) for character in text]])
    return np.kron(row, np.ones((side, side), int))


def overlay(truth, predicted):
    """The colours in the middle of each block, on black, and the whole picture."""
    truth, predicted = blocks(truth), blocks(predicted)
    picture = error_overlay(None, truth, predicted, classify_errors(truth, predicted))
    return [tuple(colour) for colour in picture[3, 3::6].tolist()], picture


def dimmed(colour):
    return tuple(int(0.65 * value) for value in colour)


def test_false_negatives_and_false_positives_are_filled():
    colours, _ = overlay("1.2.", "1..3")
    assert colours == [(0, 0, 0), (0, 0, 0), dimmed(MISSED), dimmed(EXTRA)]


def test_matched_instances_have_an_outline():
    _, picture = overlay(".1.", ".1.")
    assert tuple(picture[3, 6]) == tuple(picture[3, 11]) == MATCHED
    assert (picture[3, 7:11] == 0).all()


def test_splits_and_merges_are_parted_by_white_lines():
    colours, picture = overlay("1122", "3455")
    assert colours[:2] == [dimmed(SPLIT)] * 2
    assert tuple(picture[3, 5]) == (255, 255, 255)
    colours, picture = overlay("12.", "33.")
    assert colours[:2] == [dimmed(MERGED)] * 2
    assert tuple(picture[3, 6]) == (255, 255, 255)


def test_the_image_lies_below():
    truth = blocks("1.")
    image = np.where(truth > 0, 200, 10).astype(np.uint8)
    picture = error_overlay(image, truth, truth, classify_errors(truth, truth))
    assert picture[3, 3].tolist() == [127] * 3


def test_panels_of_different_sizes_make_one_picture_with_a_legend():
    panels = [error_panel("a", blocks("12"), blocks("1.")), error_panel("b", blocks("1234"), blocks("1234"))]
    picture = error_picture(panels)
    assert picture.shape[1] >= max(panel.shape[1] for panel in panels)
    assert picture.shape[0] >= sum(panel.shape[0] for panel in panels)
    legend = error_legend(600)
    assert legend.shape[1] == 600
    shown = {tuple(colour) for colour in legend.reshape(-1, 3).tolist()}
    assert {MATCHED, MISSED, EXTRA, SPLIT, MERGED} <= shown


def test_ignored_pixels_become_gray():
    truth, predicted, ignored = blocks("1.."), blocks("1.."), blocks("..1") > 0
    picture = error_overlay(None, truth, predicted, classify_errors(truth, predicted), ignored)
    assert picture[3, 15].tolist() == list(dimmed((128, 128, 128)))
    assert not picture[3, 9].any()
    panel = error_panel("a", truth, predicted, None, ignored)
    assert (panel == 128).all(axis=2).sum() >= 36
    with_ignored, without = error_legend(800, ignored=True), error_legend(800)
    assert ((with_ignored == 128).all(axis=2).any(), (without == 128).all(axis=2).any()) == (True, False)
    assert error_picture([panel], ignored=True).shape[0] > panel.shape[0]
