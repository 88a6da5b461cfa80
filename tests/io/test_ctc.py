"""Folders of the Cell Tracking Challenge."""

import numpy as np
import pytest
import tifffile

from instseg.errors import InstsegError
from instseg.io.ctc import TrackTable, find_ctc, mask_files, read_table, write_mask, write_table
from instseg.io.image_file import ImageFileError


def test_tables_are_written_as_they_are_read(tmp_path):
    table = TrackTable.of([(1, 0, 3, 0), (2, 4, 9, 1), (3, 4, 4, 1)])
    write_table(tmp_path / "res_track.txt", table)
    assert (tmp_path / "res_track.txt").read_text() == "1 0 3 0\n2 4 9 1\n3 4 4 1\n"
    again = read_table(tmp_path / "res_track.txt")
    assert all(
        np.array_equal(getattr(again, name), getattr(table, name)) for name in ("track", "begin", "end", "parent")
    )
    write_table(tmp_path / "res_track.txt", TrackTable.of([]))
    assert len(read_table(tmp_path / "res_track.txt").track) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    (
        ("1 0 3", "line 1 is not four whole numbers"),
        ("1 0 3 0\nx 0 3 0", "line 2 is not four whole numbers"),
        ("1 0 -3 0", "line 1 is not four whole numbers"),
        ("1 0 3 0\n1 4 5 0", "line 2 has a track that is 0, there twice or ends too early"),
        ("1 5 3 0", "line 1 has a track that is 0, there twice or ends too early"),
        ("2 4 9 1", "the parent 1 of track 2 is not there or ends too late"),
        ("1 0 4 0\n2 4 9 1", "the parent 1 of track 2 is not there or ends too late"),
    ),
)
def test_damaged_tables_are_refused(tmp_path, text, message):
    (tmp_path / "man_track.txt").write_text(text)
    with pytest.raises(ImageFileError, match=message):
        read_table(tmp_path / "man_track.txt")


def test_masks_have_16_bits(tmp_path):
    write_mask(tmp_path / "mask000.tif", np.array([[0, 65_535]]))
    assert tifffile.imread(tmp_path / "mask000.tif").dtype == np.uint16
    with pytest.raises(InstsegError, match="do not fit into the 16 bits"):
        write_mask(tmp_path / "mask001.tif", np.array([[0, 65_536]]))
    assert sorted(mask_files(tmp_path)) == [0]


def test_truth_and_results_are_found(tmp_path):
    gt, res = tmp_path / "01_GT", tmp_path / "01_RES"
    for folder in (gt / "TRA", gt / "SEG", res):
        folder.mkdir(parents=True)
    for frame in (0, 1):
        write_mask(gt / "TRA" / f"man_track{frame:03}.tif", np.ones((2, 2), int))
        write_mask(res / f"mask{frame:03}.tif", np.ones((2, 2), int))
    write_mask(gt / "SEG" / "man_seg001.tif", np.ones((2, 2), int))
    write_table(gt / "TRA" / "man_track.txt", TrackTable.of([(1, 0, 1, 0)]))
    write_table(res / "res_track.txt", TrackTable.of([(1, 0, 1, 0)]))
    for folder in (gt, gt / "TRA"):
        assert (list(find_ctc(folder).masks), list(find_ctc(folder).segmented)) == ([0, 1], [1])
    assert (list(find_ctc(res).masks), find_ctc(res).segmented) == ([0, 1], {})


def test_folders_without_tracks_are_refused(tmp_path):
    with pytest.raises(InstsegError, match="holds no tracks; expected res_track.txt or man_track.txt"):
        find_ctc(tmp_path)
    write_table(tmp_path / "res_track.txt", TrackTable.of([]))
    with pytest.raises(InstsegError, match="holds no label images"):
        find_ctc(tmp_path)
    for name in ("mask001.tif", "mask0001.tif"):
        write_mask(tmp_path / name, np.ones((2, 2), int))
    with pytest.raises(InstsegError, match="two label images of frame 1"):
        find_ctc(tmp_path)
    write_table(tmp_path / "man_track.txt", TrackTable.of([]))
    with pytest.raises(InstsegError, match="keep one of them"):
        find_ctc(tmp_path)
