"""What the dataclass of the maps accepts, and what it says of the rest."""

import numpy as np
import pytest

from instseg.clustering.embeddings import Embeddings
from instseg.errors import InstsegError


def test_floats_of_any_kind_become_float32():
    maps = Embeddings(embeddings=[[[0.0, 1.0]]], foreground=np.ones((1, 1), np.float16), seeds=np.ones((1, 1)))
    assert {array.dtype for array in maps.arrays().values()} == {np.dtype(np.float32)}
    assert list(maps.arrays()) == ["embeddings", "foreground", "seeds"]
    assert maps.embeddings.tolist() == [[[0, 1]]]


def test_classes_without_names_are_numbered():
    maps = Embeddings(embeddings=np.zeros((1, 1, 2)), foreground=np.zeros((1, 1)), classes=np.full((1, 1, 3), 1 / 3))
    assert maps.class_names == ("1", "2", "3")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"embeddings": np.zeros((2, 3))},
            r"'embeddings' is of shape \(2, 3\), expected \(height, width, dimensions\)",
        ),
        ({"embeddings": np.zeros((2, 3, 1), int)}, "'embeddings' is int64, expected floats"),
        ({"embeddings": np.full((2, 3, 1), 1e16)}, "'embeddings' goes up to 1e\\+16, expected at most 1e\\+15"),
        ({"embeddings": np.full((2, 3, 1), np.nan)}, "'embeddings' holds NaN or infinite values"),
        ({"embeddings": np.full((2, 3, 1), 1e300)}, "'embeddings' holds NaN or infinite values"),
        ({"foreground": np.ones((3, 2))}, r"'foreground' is of shape \(3, 2\), expected \(2, 3\) as 'embeddings' has"),
        ({"foreground": np.full((2, 3), 1.5)}, "'foreground' goes from 1.5 to 1.5, expected 0 to 1"),
        ({"bandwidth": np.zeros((2, 3))}, "'bandwidth' goes down to 0, expected values above 0"),
        ({"bandwidth": np.full((2, 3), 1e-20)}, "'bandwidth' goes from 1e-20 to 1e-20, expected 1e-15 to 1e15"),
        ({"classes": np.zeros((2, 3))}, r"'classes' is of shape \(2, 3\), expected \(2, 3, classes\)"),
        ({"class_names": ("a",)}, "'class_names' holds 1 names, expected 0, one for each class"),
    ],
)
def test_maps_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InstsegError, match=message):
        Embeddings(**({"embeddings": np.zeros((2, 3, 1)), "foreground": np.ones((2, 3))} | changes))
