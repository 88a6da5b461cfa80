import os
from pathlib import Path

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.io.folders import (
    Pair,
    find_images,
    find_pairs,
    is_report,
    match_folder,
    match_folders,
    search_images,
)
from instseg.io.images import write_picture
from instseg.io.label_images import write_labels
from instseg.io.pairs import read_pair

GRAY = np.arange(20, dtype=np.uint8).reshape(4, 5)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A function that makes empty files, with the working folder above them."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return Path()

    return make


def error_of(call, *args):
    with pytest.raises(InstsegError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_images_of_folders_files_and_patterns_sorted_and_once(folder):
    folder("a/2.png", "a/1.TIF", "a/.3.png", "a/note.txt", "a/deep/4.png", "b/5.jpg", "b/6.bmp", "7.dat")
    found = find_images([Path("b/*.jpg"), Path("a"), Path("a/2.png"), Path("7.dat")])
    assert found == [Path("7.dat"), Path("a/1.TIF"), Path("a/2.png"), Path("b/5.jpg")]
    assert find_images([Path("*/[25].*")]) == [Path("a/2.png"), Path("b/5.jpg")]


def test_one_file_under_two_names_is_one(folder):
    folder("a/1.png")
    assert find_images([Path("a"), Path("a/../a/1.png"), Path("a/1.png").resolve()]) != []
    assert len(find_images([Path("a"), Path("a/../a/1.png"), Path("a/1.png").resolve()])) == 1


def test_links_are_files_of_their_own_names(folder):
    """As git-annex and DataLad lay them out: every image a link, and two of the same content a link to one file."""
    folder("store/X1", "in/c.png", "real/d.png")
    for name in "ab":
        Path(f"in/{name}.png").symlink_to("../store/X1")
    assert find_images([Path("in")]) == [Path("in/a.png"), Path("in/b.png"), Path("in/c.png")]
    assert len(find_images([Path("in"), Path("in/a.png").absolute()])) == 3
    # A folder is the same by whatever links it is reached.
    Path("other").symlink_to("real")
    assert find_images([Path("real"), Path("other")]) == [Path("real/d.png")]


def test_links_that_lead_nowhere_are_images_that_somebody_expects(folder):
    folder("in/a.png", "data/images/b.png", "data/labels/b.png", "data/labels/c.png")
    Path("in/lost.png").symlink_to("../nowhere.png")
    Path("in/circle.png").symlink_to("circle.png")
    Path("data/images/c.png").symlink_to("nowhere.png")
    expected = [Path("in/a.png"), Path("in/circle.png"), Path("in/lost.png")]
    assert find_images([Path("in")]) == find_images([Path("in/*.png")]) == expected
    assert find_images([Path("in/lost.png")]) == [Path("in/lost.png")]
    assert [pair.name for pair in find_pairs("data")] == ["b", "c"]


def test_what_is_left_out_is_counted(folder):
    folder("in/a.png", *(f"in/{n}.LIF" for n in range(3)), "in/notes.txt", "in/README", "in/.hidden", "in/run.json")
    folder("in/one/b.png", "in/two/c.png", "in/results/a.png", "in/failed-1-of-3.csv", "in/.cache/d.png", "a/e.png")
    found = search_images([Path("in")], results=[Path("in/results")])
    assert found.files == (Path("in/a.png"),)
    assert found.notes == (
        "5 files of other kinds were left out: .lif (3), no suffix (1), .txt (1)",
        "2 sub-folders are not searched: one, two",
    )
    assert search_images([Path("a")]).notes == ()
    assert search_images([Path("in/*.[pt]*")]).notes == ("1 file of another kind was left out: .txt (1)",)
    # What is named one by one is taken, and not left out.
    assert search_images([Path("in/notes.txt"), Path("in/*.[pt]*")]).notes == ()


def test_zarr_images_in_a_folder(folder):
    folder("in/a.png", "in/b.zarr/zarr.json", "in/c.zarr/note.txt")
    found = search_images([Path("in")])
    assert found.files == (Path("in/a.png"), Path("in/b.zarr"))
    assert found.notes == ("1 sub-folder is not searched: c.zarr",)
    assert search_images([Path("in/*.zarr")]).files == (Path("in/b.zarr"),)
    assert find_images([Path("in")]) == [Path("in/a.png"), Path("in/b.zarr")]
    # In a data folder a picture of the same name is the image; to predict, both are.
    folder("in/a.zarr/zarr.json", "out/a.png", "out/b.tif")
    assert find_images([Path("in")]) == [Path("in/a.png"), Path("in/b.zarr")]
    assert search_images([Path("in")]).files == (Path("in/a.png"), Path("in/a.zarr"), Path("in/b.zarr"))
    pairs, unmatched = match_folders(Path("in"), Path("out"))
    assert [pair.image for pair in pairs] == [Path("in/a.png"), Path("in/b.zarr")]
    assert unmatched == []


@pytest.mark.parametrize(
    ("name", "ours"),
    [("run.json", True), ("run-2-of-14.json", True), ("failed.csv", True), ("failed-1-of-3.csv", True)]
    + [("run.csv", False), ("rerun.json", False), ("run-x-of-y.json", False), ("run.json.png", False)],
)
def test_reports_are_known_by_their_names(name, ours):
    assert is_report(Path("results", name)) is ours


def test_accents_are_the_same_however_they_are_written(folder):
    composed, apart = "caf\u00e9", "cafe\u0301"
    root = folder(f"images/{composed}.png", f"labels/{apart}.png", "images/b.png", "labels/b.tif")
    assert [(pair.name, pair.labels.stem) for pair in find_pairs(root)] == [("b", "b"), (composed, apart)]
    folder(f"images/{apart}.png")
    (doubled,) = match_folder(root)[1]
    assert doubled.what == "images that share a name"


def test_a_file_whose_name_looks_like_a_pattern(folder):
    folder("a[1].png", "a1.png")
    assert find_images([Path("a[1].png")]) == [Path("a[1].png")]


def test_images_that_are_not_there(folder):
    folder("a/note.txt")
    assert error_of(find_images, [Path("no.png")]) == "there is no file or folder no.png; check the name"
    assert "no image matches *.png; expected files named *.png, *.tif" in error_of(find_images, [Path("*.png")])
    assert "the folder a holds no image; expected files named" in error_of(find_images, [Path("a")])
    assert "no images given; name files, folders or patterns" in error_of(find_images, [])


def test_pairs_are_matched_by_stem(folder):
    root = folder("images/b.jpg", "images/a.png", "images/.x.png", "labels/a.tif", "labels/b.png", "labels/read.me")
    assert find_pairs(root) == [
        Pair("a", Path("images/a.png"), Path("labels/a.tif")),
        Pair("b", Path("images/b.jpg"), Path("labels/b.png")),
    ]


def test_files_without_partners_are_counted_in_one_message(folder):
    root = folder(*(f"images/{i}.png" for i in range(6)), "labels/0.png", "labels/8.png", "labels/9.png")
    assert error_of(find_pairs, root) == (
        "cannot use .: 5 images without labels (1.png, 2.png, 3.png, ...): add their labels or remove them; "
        "2 labels without an image (8.png, 9.png): add their images or remove them"
    )


def test_files_that_share_a_stem_are_refused(folder):
    root = folder("images/a.png", "images/a.tif", "labels/a.png", "images/b.png", "labels/b.png")
    assert error_of(find_pairs, root) == (
        "cannot use .: 2 images that share a name (a.png, a.tif): keep one file of each name"
    )


def test_folders_that_are_missing_or_empty(folder):
    root = folder("images/a.png", "note.txt")
    assert "the folder labels is missing; put the labels into labels" in error_of(find_pairs, root)
    assert "there is no such folder; give a folder that holds images/ and labels/" in error_of(find_pairs, Path("no"))
    assert "it is a file; give a folder" in error_of(find_pairs, Path("note.txt"))
    assert error_of(find_pairs, Path("images").resolve()).endswith(f"is missing; give {Path.cwd()}")
    Path("labels").mkdir()
    assert "the folder labels holds no image; expected files named *.png" in error_of(find_pairs, root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(folder):
    folder("a/1.png")
    Path("a").chmod(0)
    try:
        assert "cannot read the folder a: Permission denied" in error_of(find_images, [Path("a")])
    finally:
        Path("a").chmod(0o700)


def test_a_pair_is_read_and_sizes_must_agree(tmp_path):
    pair = Pair("a", tmp_path / "a.png", tmp_path / "b.png")
    write_picture(pair.image, GRAY)
    write_labels(pair.labels, np.array([[1] * 5] + [[2] * 5] * 3))
    image, labels = read_pair(pair)
    assert (image.shape, image.dtype, labels.shape, labels.dtype) == ((4, 5, 1), np.uint8, (4, 5), np.int32)
    write_labels(pair.labels, np.array([[1, 2, 3]]))
    assert error_of(read_pair, pair) == (
        f"{pair.image} is 4 x 5 pixels and {pair.labels} is 1 x 3, expected equal sizes; "
        "export the labels at the image's size"
    )


def test_a_pair_of_a_mask_takes_connected_components(tmp_path):
    pair = Pair("a", tmp_path / "a.png", tmp_path / "b.png")
    write_picture(pair.image, GRAY[:1, :3])
    write_labels(pair.labels, np.array([[255, 0, 255]]))
    assert "`connected_components=True`" in error_of(read_pair, pair)
    assert read_pair(pair, connected_components=True)[1].tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("ending", ["_masks", "_cp_masks", "_label", "-mask", "_SEG"])
def test_labels_may_have_the_ending_that_a_tool_appends(folder, ending):
    folder("images/a.png", "images/b.ome.tif", f"labels/a{ending}.tif", f"labels/b{ending}.tif")
    pairs = find_pairs(folder())
    assert [(pair.name, pair.image.name, pair.labels.name) for pair in pairs] == [
        ("a", "a.png", f"a{ending}.tif"),
        ("b.ome", "b.ome.tif", f"b{ending}.tif"),
    ]


def test_ome_tiff_belongs_to_labels_with_and_without_it(folder):
    folder(
        "images/a.ome.tif", "labels/a.tif", "images/b.tif", "labels/b.ome.tif", "images/c.ome.tif", "labels/c.ome.tif"
    )
    assert [pair.labels.name for pair in find_pairs(folder())] == ["a.tif", "b.ome.tif", "c.ome.tif"]


@pytest.mark.parametrize(
    "names",
    [
        # An image that is called like labels, whose own labels are missing.
        ("images/a.png", "images/a_mask.png", "labels/a.png"),
        # Two endings: which of the two is meant?
        ("images/a.png", "images/b.png", "labels/a_mask.png", "labels/b_label.png"),
        ("images/a.png", "labels/a_mask.png", "labels/a_label.png"),
        ("images/a.png", "images/a.ome.tif", "labels/a_mask.png"),
        ("images/a.png", "labels/a_mask.png", "labels/a_mask.tif"),
        ("images/a.png", "labels/a_mitochondria.png"),
    ],
)
def test_nothing_is_paired_that_might_be_wrong(folder, names):
    folder(*names)
    assert "cannot use" in error_of(find_pairs, folder())
    assert not [pair for pair in match_folder(folder())[0] if pair.name != pair.labels.stem]


def test_names_that_are_equal_come_before_endings(folder):
    folder("images/a.png", "images/a_mask.png", "labels/a.png", "labels/a_mask.png", "labels/b_mask.png")
    pairs, (mismatch,) = match_folder(folder())
    assert [(pair.image.name, pair.labels.name) for pair in pairs] == [("a.png", "a.png"), ("a_mask.png", "a_mask.png")]
    assert [path.name for path in mismatch.files] == ["b_mask.png"]


def test_files_of_all_formats_are_found_unless_a_picture_of_the_name_lies_beside_them(tmp_path):
    taken = ["a.png", "b.npy", "c.npz", "d.h5", "e.GIF", "f.webp", "g.jp2", "h.czi", "i.svs", "j.NDPI"]
    left = ["a.npy", "a.npz", "a.h5", "a_seg.npy", "b_seg.npy", "a.txt"]
    for name in (*taken, *left):
        (tmp_path / name).touch()
    found = search_images([tmp_path])
    assert [file.name for file in found.files] == taken
    assert found.notes == ("6 files of other kinds were left out: .npy (3), .h5 (1), .npz (1), .txt (1)",)
    # What is named is taken.
    assert find_images([tmp_path / "a_seg.npy"]) == [tmp_path / "a_seg.npy"]
    assert [file.name for file in find_images([tmp_path / "*.npz"])] == ["a.npz", "c.npz"]


def test_a_part_of_a_file_is_found_by_its_name(tmp_path):
    (tmp_path / "a.h5").touch()
    inner = [tmp_path / "a.h5:" / name for name in ("raw", "group/other")]
    assert find_images(inner) == sorted(inner)
    with pytest.raises(InstsegError, match="there is no file or folder b.h5:/raw"):
        find_images(["b.h5:/raw"])


def test_images_and_labels_of_any_format_are_pairs(tmp_path):
    for name in ("images/a.npy", "labels/a.h5", "images/b.webp", "labels/b.npy", "images/c.png", "labels/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    # Cellpose leaves these beside its images.
    (tmp_path / "images/c_seg.npy").touch()
    assert [pair.name for pair in find_pairs(tmp_path)] == ["a", "b", "c"]
