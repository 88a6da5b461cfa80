"""`instseg track`, `evaluate --tracks` and `data generate --frames`."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

import instseg
from instseg.data.generate_frames import generate_frames
from instseg.inference.track_files import track_files
from instseg.io.label_images import read_labels, write_labels
from instseg.settings import DiscSettings

SMALL = DiscSettings(size=96, min_discs=6, max_discs=12, noise=0.0)


@pytest.fixture
def discs():
    """A folder of a generated sequence of twelve frames."""
    generate_frames("discs", frames=12, seed=3, settings=SMALL)
    return Path("discs")


def read_csv(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_track_writes_labels_tables_and_a_picture(run, files, discs):
    result = run("track", discs / "labels", "--out", "tracks", "--ctc", "res", "--overlay", "ways.png")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = read_csv("tracks/tracks.csv")
    count = len({row["track"] for row in rows})
    assert result.stdout.startswith(f"tracks: {count} tracks, ")
    assert " in 12 frames; objects moved up to " in result.stdout
    assert list(rows[0]) == ["track", "parent", "frame", "label", "row", "column", "area"]
    labels, truth = read_labels("tracks/0005.png"), read_labels(discs / "labels" / "0005.png")
    assert np.array_equal(labels > 0, truth > 0)
    for row in (row for row in rows if row["frame"] == "5"):
        assert (labels[truth == int(row["label"])] == int(row["track"])).all()
        assert int(row["area"]) == (truth == int(row["label"])).sum()
    assert [name for name in files() if name.startswith("res/")] == [
        *(f"res/mask{frame:03}.tif" for frame in range(12)),
        "res/res_track.txt",
    ]
    assert tifffile.imread("res/mask011.tif").dtype == np.uint16
    assert instseg.read_image("ways.png").shape == (96, 96, 3)


def test_tracks_are_evaluated(run, discs, refused):
    assert run("track", discs / "labels", "--ctc", "res").exit_code == 0
    result = run("evaluate", "--tracks", "res", "--labels", discs)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "TRA" in result.stdout and "links missed" in result.stdout
    scores = json.loads(run("evaluate", "--tracks", "res", "--labels", discs, "--json").stdout)
    assert scores["det"] == scores["seg"] == 1.0 and scores["tra"] > 0.99
    assert (scores["frames"], scores["missed"]) == (12, 0)
    assert "--tracks needs the true tracks; give --labels DIR" in refused(run("evaluate", "--tracks", "res"), code=2)
    message = refused(run("evaluate", "--tracks", "res", "--labels", discs, "--pred", "x"), code=2)
    assert "--pred does not go with --tracks" in message
    assert "holds no tracks" in refused(run("evaluate", "--tracks", discs / "labels", "--labels", discs))
    Path("res/mask003.tif").unlink()
    assert "discs has frames without a label image in res (3)" in refused(
        run("evaluate", "--tracks", "res", "--labels", discs)
    )


def test_results_are_replaced_only_when_asked(run, discs, refused, files):
    assert run("track", discs / "labels", "--out", "tracks", "--ctc", "res").exit_code == 0
    before = {name: Path(name).read_bytes() for name in files()}
    message = refused(run("track", discs / "labels", "--out", "tracks"))
    assert message == (
        "tracks holds results already, such as tracks.csv; add --overwrite to replace them or give another folder"
    )
    assert "res holds results already" in refused(run("track", discs / "labels", "--ctc", "res"))
    assert "would be replaced by its own result" in refused(
        run("track", discs / "labels", "--out", discs / "labels", "--overwrite"), code=2
    )
    assert "--out and --ctc cannot share a folder" in refused(
        run("track", discs / "labels", "--out", "x", "--ctc", "x"), code=2
    )
    assert "there is nothing to write; give --out DIR" in refused(run("track", discs / "labels"), code=2)
    assert {name: Path(name).read_bytes() for name in files()} == before
    fewer = [discs / "labels" / f"000{frame}.png" for frame in range(4)]
    assert run("track", *fewer, "--ctc", "res", "--out", "tracks", "--overwrite").exit_code == 0
    assert [name for name in files() if name.startswith("res/mask")] == [f"res/mask00{frame}.tif" for frame in range(4)]
    assert {row["frame"] for row in read_csv("tracks/tracks.csv")} == {"0", "1", "2", "3"}


def test_a_stack_is_tracked_like_its_frames(run, discs):
    stack = np.stack([read_labels(path) for path in sorted((discs / "labels").iterdir())])
    tifffile.imwrite("stack.ome.tif", stack.astype(np.uint16), metadata={"axes": "TYX"}, photometric="minisblack")
    assert run("track", "stack.ome.tif", "--out", "a").exit_code == 0
    assert run("track", discs / "labels", "--out", "b").exit_code == 0
    for frame in (0, 7, 11):
        assert np.array_equal(read_labels(f"a/stack.ome-{frame:04}.tif"), read_labels(f"b/{frame:04}.png"))
    assert read_csv("a/tracks.csv") == read_csv("b/tracks.csv")


def test_the_graph_of_all_objects(run, discs, refused):
    assert run("track", discs / "labels", "--out", "tracks", "--geff", "discs.geff").exit_code == 0
    rows = read_csv("tracks/tracks.csv")
    group = zarr.open_group("discs.geff", mode="r")
    metadata = group.attrs["geff"]
    assert (metadata["geff_version"], metadata["directed"]) == ("1.3", True)
    assert [axis["name"] for axis in metadata["axes"]] == ["t", "y", "x"]
    values = {name: group[f"nodes/props/{name}/values"][:] for name in metadata["node_props_metadata"]}
    assert all(kept.dtype.name == metadata["node_props_metadata"][name]["dtype"] for name, kept in values.items())
    assert sorted(zip(values["track"], values["t"], values["label"], strict=True)) == sorted(
        (int(row["track"]), int(row["frame"]), int(row["label"])) for row in rows
    )
    edges = group["edges/ids"][:]
    earlier, later = values["t"][edges].T
    assert (earlier < later).all() and len(np.unique(edges[:, 1])) == len(edges)
    roots = {row["track"] for row in rows if row["parent"] == "0"}
    assert len(edges) == len(rows) - len(roots)
    assert run("track", discs / "labels", "--geff", "discs.geff").exit_code == 0
    assert "expected a name that ends in .geff" in refused(run("track", discs / "labels", "--geff", "discs.zarr"))
    Path("mine.geff").mkdir()
    Path("mine.geff/notes.txt").touch()
    assert "it exists and is no Zarr group" in refused(run("track", discs / "labels", "--geff", "mine.geff"))


def test_missing_frames_are_said_and_are_empty_in_ctc(run, discs):
    (discs / "labels" / "0006.png").unlink()
    result = run("track", discs / "labels", "--out", "tracks", "--ctc", "res")
    assert result.exit_code == 0
    assert result.stderr == "Note: 1 frame is missing in the series (6); objects may be linked over gaps\n"
    assert not tifffile.imread("res/mask006.tif").any()
    assert not Path("tracks/0006.png").exists()
    # Tracks go on over the gap, and are cut there for the challenge, whose tables know no gaps.
    rows = read_csv("tracks/tracks.csv")
    frames_of = {}
    for row in rows:
        frames_of.setdefault(row["track"], []).append(int(row["frame"]))
    assert any({5, 7} <= set(frames) for frames in frames_of.values())
    table = np.loadtxt("res/res_track.txt", dtype=int, ndmin=2)
    assert not any(begin <= 6 <= end for _, begin, end, _ in table.tolist())


def test_what_is_strange_is_said(run):
    for frame in range(3):
        write_labels(f"t{frame}.png", np.zeros((8, 9), int))
    result = run("track", "t?.png", "--out", "none", "--geff", "none.geff", "--overlay", "none.png")
    assert (result.exit_code, result.stderr) == (0, "Note: there is no object in any frame\n")
    assert result.stdout.startswith("none: 0 tracks, 0 divisions, 0 gaps in 3 frames")
    assert read_csv("none/tracks.csv") == []
    labels = np.zeros((8, 9), int)
    labels[2:5, 2:5] = 70_000
    for frame in range(3):
        write_labels(f"t{frame}.png", np.minimum(labels, 9))
    write_labels("one.tif", labels)
    twice = run("track", "t0.png", "t1.png", "t2.png", "--out", "twice")
    assert "Note: frames that are the same as the frame before: 1, 2; check whether" in twice.stderr
    alone = run("track", "one.tif", "--out", "alone", "--overlay", "alone.png")
    assert alone.exit_code == 0 and "1 track, 0 divisions" in alone.stdout
    assert read_labels("alone/one.tif").max() == 1
    assert read_csv("alone/tracks.csv")[0]["label"] == "70000"


def test_bad_frames_cost_no_file(run, refused, files, discs):
    (discs / "labels" / "0004.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    assert "0004.png" in refused(run("track", discs / "labels", "--out", "tracks", "--ctc", "res"))
    write_labels(discs / "labels" / "0004.png", np.ones((5, 5), int))
    message = refused(run("track", discs / "labels", "--out", "tracks"))
    assert message.startswith("discs/labels/0004.png: frame 4 has 5 x 5 pixels and frame 3 has 96 x 96")
    assert not [name for name in files() if not name.startswith("discs/")]
    Path("empty").mkdir()
    assert "holds no image" in refused(run("track", "empty", "--out", "tracks"))
    assert "--max-distance is -1.0, expected" in refused(
        run("track", discs / "labels", "--out", "x", "--max-distance", "-1"), code=2
    )
    assert "--gap is 99, expected 0 to 10" in refused(run("track", discs / "labels", "--out", "x", "--gap", 99), code=2)


def test_more_tracks_than_16_bits_hold():
    # Objects of three pixels, at the left in the first frame and at the right in the second.
    for frame in range(2):
        labels = np.zeros((300, 900), int)
        labels[:, 450 * frame : 450 * frame + 450] = np.arange(1, 45_001).reshape(300, 150).repeat(3, axis=1)
        write_labels(f"{frame}.png", labels)
    result = track_files("*.png", out="tracks", max_distance=0.01, gap=0, divisions=False, drift=False)
    assert len(result.tracks) > 65_535
    assert result.notes[-1].endswith("labels are written as TIFF")
    assert sorted(path.name for path in Path("tracks").iterdir()) == ["0.tif", "1.tif", "tracks.csv"]
    assert read_labels("tracks/1.tif").max() == len(result.tracks)
    with pytest.raises(instseg.InstsegError, match="do not fit into the 16 bits of the Cell Tracking Challenge"):
        track_files("*.png", ctc="res", max_distance=0.01, gap=0, divisions=False, drift=False)
    assert not Path("res").exists()


def test_generated_sequences_have_their_tracks(run, refused, files):
    small = ("--size", 64, "--min-discs", 5, "--max-discs", 9)
    result = run("data", "generate", "--frames", 5, "--out", "a", *small)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("wrote 5 frames with ")
    names = [f"a/{kind}/000{frame}.png" for kind in ("images", "labels") for frame in range(5)]
    assert files() == [*names, "a/man_track.txt", "a/preview.png"]
    seen = {}
    for frame in range(5):
        for label in np.unique(read_labels(f"a/labels/000{frame}.png"))[1:].tolist():
            seen.setdefault(label, []).append(frame)
    table = np.loadtxt("a/man_track.txt", dtype=int, ndmin=2)
    assert {track: list(range(begin, end + 1)) for track, begin, end, _ in table.tolist()} == seen
    assert "holds images already" in refused(run("data", "generate", "--frames", 2, "--out", "a", *small))
    assert run("data", "generate", "--frames", 9, "--out", "b", *small).exit_code == 0
    for name in names:
        assert Path(name).read_bytes() == Path(name.replace("a/", "b/", 1)).read_bytes()
    assert "--count and --frames exclude each other" in refused(
        run("data", "generate", "--frames", 2, "--count", 2, "--out", "c"), code=2
    )


def test_track_does_not_load_tensorflow(discs, environment):
    code = (
        "import sys; from instseg.cli import app; "
        "app(['track', 'discs/labels', '--out', 'tracks', '--ctc', 'res'], standalone_mode=False); "
        "app(['evaluate', '--tracks', 'res', '--labels', 'discs'], standalone_mode=False); "
        "print([name for name in ('tensorflow', 'keras', 'pyarrow', 'skimage') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"
