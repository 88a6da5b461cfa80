"""Where results go is checked before the work begins."""

import pytest

from instseg.errors import InstsegError, UsageError
from instseg.inference.outputs import OutputFolder, SingleOutput


def test_paths_of_a_single_image(tmp_path):
    outputs = SingleOutput(tmp_path / "l.png", {"scores": tmp_path / "s.csv", "overlay": None}, tmp_path / "image.png")
    assert outputs.labels("whatever") == tmp_path / "l.png"
    assert outputs.extra("scores", "whatever") == tmp_path / "s.csv"
    assert outputs.extra("embeddings", "whatever") is None
    assert (outputs.wants("scores"), outputs.wants("overlay", "outlines")) == (True, False)


def test_paths_in_folders(tmp_path):
    folders = {"embeddings": tmp_path / "e", "outlines": tmp_path / "o"}
    outputs = OutputFolder(tmp_path / "labels", "tif", folders, [tmp_path / "images" / "a.png"], shared=False)
    outputs.prepare()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "labels", "o"]
    assert outputs.labels("a") == tmp_path / "labels" / "a.tif"
    assert outputs.extra("embeddings", "a") == tmp_path / "e" / "a.npz"
    assert outputs.extra("outlines", "a") == tmp_path / "o" / "a.geojson"
    assert not outputs.holds("a")
    for path in (outputs.labels("a"), outputs.extra("embeddings", "a"), outputs.extra("outlines", "a")):
        # What is empty is left of a power failure, and no result.
        path.touch()
        assert not outputs.holds("a")
        path.write_text("something")
    assert outputs.holds("a")
    assert not outputs.holds("a-0000")


def test_absolute_paths_are_for_other_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    single = SingleOutput(Path("l.png"), {"scores": Path("s.csv")}, Path("image.png"))
    folder = OutputFolder(Path("labels"), "png", {"scores": Path("scores")}, [Path("images/a.png")], shared=False)
    assert single.absolute().labels("") == tmp_path / "l.png"
    assert single.absolute().extra("scores", "") == tmp_path / "s.csv"
    assert folder.absolute().labels("a") == tmp_path / "labels" / "a.png"
    assert folder.absolute().extra("scores", "a") == tmp_path / "scores" / "a.csv"
    # The first ones stay as they were given.
    assert single.labels("") == Path("l.png")


def test_what_cannot_be_written_is_refused(tmp_path):
    image = tmp_path / "image.png"
    image.touch()
    with pytest.raises(UsageError, match="cannot share a file"):
        SingleOutput(tmp_path / "a.png", {"overlay": tmp_path / "a.png"}, image)
    with pytest.raises(UsageError, match="is the image itself"):
        SingleOutput(image, {}, image)
    with pytest.raises(InstsegError, match=r"expected a name that ends in .png or .tif or .tiff or .npy or .zarr"):
        SingleOutput(tmp_path / "a.jpg", {}, image)
    with pytest.raises(UsageError, match="1 image names occur twice"):
        OutputFolder(tmp_path / "out", "png", {}, [tmp_path / "x" / "a.png", tmp_path / "y" / "a.tif"], shared=False)
    with pytest.raises(UsageError, match="holds the images"):
        OutputFolder(tmp_path, "png", {}, [image], shared=True)
    with pytest.raises(InstsegError, match="holds 1 files; add `overwrite=True` or `skip_existing=True`"):
        OutputFolder(tmp_path, "png", {}, [tmp_path / "images" / "a.png"], shared=False)


def test_streamed_images_have_results_that_can_be_written_part_by_part(tmp_path):
    image = tmp_path / "image.zarr"
    SingleOutput(tmp_path / "l.tif", {"scores": tmp_path / "s.csv"}, image).check_streamable(image, "")
    with pytest.raises(InstsegError, match=r"give `out=NAME.tif` or `file_format='tif'`"):
        SingleOutput(tmp_path / "l.png", {}, image).check_streamable(image, "")
    with pytest.raises(InstsegError, match="which `embeddings` and `overlay` cannot be"):
        extras = {"overlay": tmp_path / "o.png", "embeddings": tmp_path / "e.npz"}
        SingleOutput(tmp_path / "l.tif", extras, image).check_streamable(image, "")
