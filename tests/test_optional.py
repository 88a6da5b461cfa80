"""Packages that only some installations have are named with what installs them."""

import pytest

from instseg import optional
from instseg.errors import InstsegError
from instseg.optional import require_extra


@pytest.mark.parametrize(
    ("extra", "purpose"),
    [("onnx", "ONNX needs"), ("dask", "A cluster of workers needs"), ("imagej", "ImageJ ROIs need")],
)
def test_missing_packages_are_named(monkeypatch, extra, purpose):
    monkeypatch.setitem(optional._PACKAGES, extra, ("numpy", "no_such_package", "nor_this"))
    with pytest.raises(InstsegError) as caught:
        require_extra(extra)
    assert str(caught.value) == (
        f"{purpose} no_such_package, nor_this; install what is missing with: python -m pip install '.[{extra}]'"
    )


def test_nothing_is_said_where_nothing_is_missing(monkeypatch):
    monkeypatch.setitem(optional._PACKAGES, "onnx", ("numpy",))
    assert require_extra("onnx") is None
