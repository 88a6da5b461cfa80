"""What the tests of writers share: labels with all that formats may lose."""

import numpy as np
import pytest

from instseg.io.labelled_image import LabelledImage

# A ring (2) with another object in its hole, parts that touch at a corner (5), a single pixel (7) and a corner (9) of
# the image; 11 touches it, and has a hole that meets the outside at a corner.
LABELS = np.array(
    [
        [2, 2, 2, 2, 0, 5, 0, 0, 9],
        [2, 0, 0, 2, 5, 0, 0, 9, 9],
        [2, 0, 3, 2, 0, 0, 0, 11, 11],
        [2, 2, 2, 2, 7, 0, 11, 11, 11],
        [0, 0, 0, 0, 0, 0, 11, 0, 11],
        [0, 0, 0, 0, 0, 0, 11, 11, 0],
    ],
    np.int32,
)


@pytest.fixture
def labels():
    return LABELS


@pytest.fixture
def labelled():
    """The labels as writers take them, with scores and classes."""
    label = np.unique(LABELS)[1:]
    return LabelledImage(
        name="a.png",
        labels=LABELS,
        label=label,
        score=np.array([0.25, 0.5, 0.75, 0.875, np.nan, 1.0]),
        class_number=np.arange(len(label)) % 2,
        class_names=("round", 'of "two" words: #1'),
    )
