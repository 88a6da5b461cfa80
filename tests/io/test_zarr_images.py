"""Plates, wells and groups of images in OME-Zarr, of which all images are taken."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr_models.v04.hcs import HCS as Hcs04
from ome_zarr_models.v05.hcs import HCS as Hcs05

from instseg.errors import InstsegError
from instseg.io.folders import find_images, find_pairs, search_images
from instseg.io.label_images import write_labels
from instseg.io.omezarr import ZarrReader
from instseg.io.pairs import read_pair
from instseg.io.zarr_images import zarr_images
from instseg.io.zarr_labels import write_zarr_labels

VERSIONS = ["0.4", "0.5"]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def group(path, version, attributes):
    attributes = {"ome": {"version": version, **attributes}} if version == "0.5" else attributes
    return zarr.create_group(path, zarr_format=3 if version == "0.5" else 2, attributes=attributes)


def image(path, version, value=0):
    multiscale = {
        "version": version,
        "axes": [{"name": name, "type": "space"} for name in "yx"],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}],
    }
    group(path, version, {"multiscales": [multiscale]})
    values = np.full((12, 10), value, np.uint16)
    zarr.create_array(
        f"{path}/0",
        data=values,
        zarr_format=3 if version == "0.5" else 2,
        **({"dimension_names": ["y", "x"]} if version == "0.5" else {"chunk_key_encoding": None}),
    )


def plate(path, version, wells=("A/1", "A/2", "B/2"), fields=2):
    rows, columns = sorted({well[0] for well in wells}), sorted({well[2:] for well in wells})
    content = {
        "version": version,
        "name": "test",
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": [
            {"path": well, "rowIndex": rows.index(well[0]), "columnIndex": columns.index(well[2:])} for well in wells
        ],
        "field_count": fields,
    }
    group(path, version, {"plate": content})
    for row in rows:
        group(f"{path}/{row}", version, {})
    for number, well in enumerate(wells):
        images = [{"path": str(field)} for field in range(fields)]
        group(f"{path}/{well}", version, {"well": {"version": version, "images": images}})
        for field in range(fields):
            image(f"{path}/{well}/{field}", version, 10 * number + field)
    return Path(path)


ALL = [f"{well}/{field}" for well in ("A/1", "A/2", "B/2") for field in (0, 1)]


@pytest.mark.parametrize("version", VERSIONS)
def test_all_fields_of_all_wells_of_a_plate_are_found(version):
    path = plate("a.zarr", version)
    # The plate is one, for the validator of the format, too.
    (Hcs05 if version == "0.5" else Hcs04).from_zarr(zarr.open_group(path, mode="r"))
    found = zarr_images(path)
    assert found == [path / name for name in ALL]
    values = [int(ZarrReader(one).read(_corner()).max()) for one in found]
    assert values == [0, 1, 10, 11, 20, 21]
    assert zarr_images(path / "A/2") == [path / "A/2/0", path / "A/2/1"]
    assert zarr_images(path / "A/2/1") == [path / "A/2/1"]
    assert zarr_images(path / "A/2/1/0") == [path / "A/2/1/0"]


def _corner():
    from instseg.tiling.grid import Box

    return Box(0, 0, 2, 2)


@pytest.mark.parametrize("version", VERSIONS)
def test_all_images_of_bioformats2raw_are_found(version):
    layout = {"bioformats2raw.layout": 3}
    group("raw.zarr", version, layout)
    group("raw.zarr/OME", version, {})
    for name in ("0", "1", "10", "2"):
        image(f"raw.zarr/{name}", version)
    assert zarr_images(Path("raw.zarr")) == [Path("raw.zarr") / name for name in ("0", "1", "2", "10")]
    group("one.zarr", version, layout)
    image("one.zarr/0", version)
    # A file of one image stands for it, and its results have the name of the file.
    assert zarr_images(Path("one.zarr")) == [Path("one.zarr")]


def test_plates_are_taken_apart_in_folders_and_patterns():
    path = plate("plates/a.zarr", "0.4")
    image("plates/b.zarr", "0.4")
    expected = [path / name for name in ALL]
    for given in (["a.zarr", "b.zarr"], ["*.zarr"], [""], ["a.zarr", ""]):
        found = search_images([Path("plates") / name for name in given])
        assert list(found.files) == [*expected, Path("plates/b.zarr")]
        assert found.notes == ()
        assert find_images([Path("plates") / name for name in given]) == list(found.files)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_images_of_a_plate_have_labels_of_the_names_of_results(version):
    path = plate("data/images/plate.ome.zarr", version, wells=("A/1",))
    image("data/images/single.zarr", version)
    Path("data/labels").mkdir()
    for name in ("plate.ome-A-1-0", "plate.ome-A-1-1", "single"):
        write_labels(f"data/labels/{name}.png", np.eye(3, dtype=np.int32))
    assert [(pair.name, pair.image, pair.labels.name) for pair in find_pairs("data")] == [
        ("plate.ome-A-1-0", path / "A/1/0", "plate.ome-A-1-0.png"),
        ("plate.ome-A-1-1", path / "A/1/1", "plate.ome-A-1-1.png"),
        ("single", Path("data/images/single.zarr"), "single.png"),
    ]
    # Messages say which field it is.
    Path("data/labels/plate.ome-A-1-1.png").unlink()
    with pytest.raises(InstsegError, match=r"1 images without labels \(plate.ome.zarr/A/1/1\): add their labels"):
        find_pairs("data")


def test_labels_in_an_image_are_taken_by_a_link():
    image("data/images/a.zarr", "0.5")
    group("data/images/a.zarr/labels", "0.5", {"labels": ["cells"]})
    write_zarr_labels("data/images/a.zarr/labels/cells", (12, 10), iter([np.full((12, 10), 7, np.int32)]))
    Path("data/labels").mkdir()
    Path("data/labels/a.zarr").symlink_to("../images/a.zarr/labels/cells")
    (pair,) = find_pairs("data")
    assert (pair.name, read_pair(pair)[1].max()) == ("a", 7)


@pytest.mark.parametrize(
    "change",
    [
        {"plate": 3},
        {"plate": {"wells": "A/1"}},
        {"plate": {"wells": [{"path": 3}]}},
        {"plate": {"wells": ["A/1"]}},
        {"plate": {"wells": [{"path": "../../etc"}]}},
        {"plate": {"wells": []}},
    ],
)
def test_a_damaged_plate_stands_for_itself_so_that_opening_it_says_why(change):
    path = plate("a.zarr", "0.4", fields=1)
    Path("a.zarr/.zattrs").write_text(json.dumps(change))
    assert zarr_images(path) == [path]


def test_a_well_that_is_missing_fails_alone():
    path = plate("a.zarr", "0.4", fields=1)
    attributes = json.loads(Path("a.zarr/.zattrs").read_text())
    attributes["plate"]["wells"].append({"path": "C/3", "rowIndex": 0, "columnIndex": 0})
    Path("a.zarr/.zattrs").write_text(json.dumps(attributes))
    assert zarr_images(path)[-1] == path / "C/3"
    assert len(zarr_images(path)) == 4


def test_plates_in_plates_end():
    group("a.zarr", "0.4", {"plate": {"wells": [{"path": "."}]}})
    assert zarr_images(Path("a.zarr")) == [Path("a.zarr")]
