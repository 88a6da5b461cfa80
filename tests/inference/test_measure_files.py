"""Files of labels to one table."""

import numpy as np
import pytest
import tifffile

from instseg.errors import InstsegError, UsageError
from instseg.inference.measure_files import measure_files
from instseg.io.label_images import write_labels

LABELS = np.array([[0, 1, 1, 0], [2, 1, 1, 3], [2, 0, 0, 3]])


@pytest.fixture
def folders(tmp_path):
    """Three images, of one and two channels and one with a size of its pixels, and labels of other names."""
    labels, images = tmp_path / "labels", tmp_path / "images"
    labels.mkdir()
    images.mkdir()
    for name in ("a", "b", "c"):
        write_labels(labels / f"{name}_masks.png", LABELS)
    tifffile.imwrite(images / "a.tif", np.full((3, 4), 5, np.uint16))
    tifffile.imwrite(images / "b.ome.tif", np.full((3, 4, 2), 7, np.uint8), photometric="minisblack", planarconfig=1)
    metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(images / "c.tif", LABELS.astype(np.uint8), ome=True, metadata=metadata)
    return labels, images


def test_a_folder_is_one_table_with_a_column_of_images(folders, tmp_path):
    labels, images = folders
    seen = []
    result = measure_files(
        labels, images, out=tmp_path / "o.csv", summary=tmp_path / "s.csv", progress=lambda *step: seen.append(step[:2])
    )
    columns = result.columns
    assert (result.failed, result.notes) == ((), ())
    assert list(columns)[:2] == ["image", "label"]
    assert columns["image"].tolist() == ["a"] * 3 + ["b.ome"] * 3 + ["c"] * 3
    assert columns["area"].tolist() == [4, 2, 2] * 3
    assert columns["intensity_mean"][[0, 6, 7]].tolist() == [5, 1, 2]
    # What an image does not have is not known.
    assert np.isnan(columns["intensity_mean-1"]).tolist() == [True] * 3 + [False] * 3 + [True] * 3
    assert np.isnan(columns["area_um2"]).tolist() == [True] * 6 + [False] * 3
    assert seen == [(1, 3), (2, 3), (3, 3)]
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[0].startswith("image,height,width,count,density,")
    assert [line.split(",")[:4] for line in lines[1:]] == [[name, "3", "4", "3"] for name in ("a", "b.ome", "c")]
    assert lines[1].endswith(",,") and lines[3].endswith(",1000000.0,0.5")
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 10


def test_labels_alone_and_labels_that_are_empty(folders, tmp_path):
    labels, _ = folders
    write_labels(labels / "d.tif", 0 * LABELS)
    result = measure_files(labels, out=tmp_path / "o.csv")
    assert [file.figures["count"] for file in result.files] == [3, 3, 3, 0]
    assert not any(name.startswith("intensity") for name in result.columns)
    single = measure_files(labels / "d.tif", out=tmp_path / "d.csv")
    assert "image" not in single.columns
    assert (tmp_path / "d.csv").read_text().startswith("label,centroid-0,centroid-1,bbox-0,")


def test_a_file_that_fails_costs_no_other(folders, tmp_path):
    labels, images = folders
    (images / "a.tif").write_bytes(b"no image")
    tifffile.imwrite(images / "c.tif", np.zeros((4, 4), np.uint8))
    result = measure_files(labels, images, out=tmp_path / "o.csv")
    assert [file.name for file in result.failed] == ["a", "c"]
    assert "its content is no" in str(result.failed[0].error)
    assert "expected equal sizes" in str(result.failed[1].error)
    assert set(result.columns["image"]) == {"b.ome"}
    with pytest.raises(InstsegError, match="its content is no"):
        measure_files(labels / "a_masks.png", images / "a.tif", out=tmp_path / "o.csv")
    for name in ("b.ome.tif", "c.tif"):
        (images / name).write_bytes(b"")
    result = measure_files(labels, images, out=tmp_path / "none.csv")
    assert (len(result.failed), len(result.columns["image"])) == (3, 0)


def test_what_does_not_belong_together_is_refused(folders, tmp_path):
    labels, images = folders
    out = tmp_path / "o.csv"
    with pytest.raises(UsageError, match="is a folder and .* is none; give the folder of the images"):
        measure_files(labels, images / "a.tif", out=out)
    with pytest.raises(UsageError, match="cannot share a file"):
        measure_files(labels, out=out, summary=out)
    with pytest.raises(InstsegError, match=r"expected a name that ends in .csv or .parquet"):
        measure_files(labels, out=tmp_path / "o.xlsx")
    with pytest.raises(UsageError, match="pixel_size is 0"):
        measure_files(labels, out=out, pixel_size=(0, 0))
    tifffile.imwrite(images / "unused.tif", LABELS.astype(np.uint8))
    assert measure_files(labels, images, out=out).notes == ("1 images have no labels and are left out",)
    tifffile.imwrite(images / "a.ome.tif", LABELS.astype(np.uint8))
    with pytest.raises(InstsegError, match="1 label images in .* have several images"):
        measure_files(labels, images, out=out)
    (images / "a.tif").unlink()
    (images / "a.ome.tif").unlink()
    with pytest.raises(InstsegError, match=r"1 label images in .* have no image in .*\(a_masks.png\); add their"):
        measure_files(labels, images, out=out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InstsegError, match="holds no image"):
        measure_files(tmp_path / "empty", out=out)


def test_a_mask_is_taken_apart_on_request(tmp_path):
    mask = np.zeros((5, 5), np.uint8)
    mask[0, 0] = mask[4, 2:] = 255
    tifffile.imwrite(tmp_path / "m.tif", mask)
    with pytest.raises(InstsegError, match="binary mask"):
        measure_files(tmp_path / "m.tif", out=tmp_path / "o.csv")
    result = measure_files(tmp_path / "m.tif", out=tmp_path / "o.csv", connected_components=True)
    assert result.columns["area"].tolist() == [1, 3]
