"""`instseg cluster`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from instseg.clustering.cluster import cluster, default_settings
from instseg.io.formats import read_header
from instseg.io.label_images import read_labels
from instseg.io.label_volumes import read_label_volume
from instseg.io.npz import write_embeddings
from instseg.io.volumes import read_volume_header


@pytest.mark.parametrize(
    "arguments",
    [
        "--bandwidth 1e-300",
        "--bandwidth 1e300",
        "--position-weight 1e300",
        "--method hdbscan --min-cluster-size 1000000000000000",
        "--method hdbscan --min-samples 1000000000000000",
    ],
)
def test_extreme_numbers_end_in_labels_or_in_one_line(run, refused, make_npz, arguments):
    result = run("cluster", make_npz(), *arguments.split())
    if result.exit_code:
        assert "memory" not in refused(result, code=2)
    else:
        assert result.stderr == ""


def test_cluster_writes_labels(run, files, make_npz):
    result = run("cluster", make_npz())
    assert (result.exit_code, result.stdout, result.stderr) == (0, "labels.png: 2 instances\n", "")
    assert read_header(Path("labels.png")).bits == 16
    assert read_labels(Path("labels.png")).tolist() == [[1] * 8 + [2] * 8] * 16
    assert files() == ["labels.png", "maps.npz"]
    # A second time it is replaced.
    assert run("cluster", "maps.npz", "--foreground-threshold", "0.9", "--min-size", 300).exit_code == 0
    assert read_labels(Path("labels.png")).max() == 0


def test_options_replace_the_settings_of_the_file(run, make_npz):
    make_npz(settings=np.array(json.dumps({"min_size": 300})))
    assert run("cluster", "maps.npz").stdout == "labels.png: 0 instances\n"
    assert run("cluster", "maps.npz", "--min-size", 5).stdout == "labels.png: 2 instances\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embeddings": None}, "'embeddings'"),
        ({"foreground": None}, "'foreground'"),
        ({"format": np.array(99)}, "it is of format 99, this version reads up to 1; update instseg"),
        ({"embeddings": np.zeros((16, 16), np.float32)}, "'embeddings' is of shape (16, 16), expected (height, width"),
        ({"foreground": np.zeros((4, 4), np.float32)}, "'foreground' is of shape (4, 4), expected (16, 16)"),
        ({"embeddings": np.full((16, 16, 2), np.nan, np.float32)}, "'embeddings' holds NaN or infinite values"),
        ({"foreground": np.full((16, 16), 2, np.float32)}, "'foreground' goes from 2 to 2, expected 0 to 1"),
        ({"embeddings": np.zeros((16, 16, 2), np.int32)}, "'embeddings' is int32, expected floats"),
        ({"embeddings": np.array([{"a": 1}], object)}, "'embeddings' holds pickled objects, which are never read"),
    ],
)
def test_cluster_refuses_wrong_members(run, refused, files, make_npz, changes, message):
    error = refused(run("cluster", make_npz(**changes)))
    assert error.startswith("cannot read maps.npz: ")
    assert message in error
    assert files() == ["maps.npz"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file; check the name"),
        (b"", "the file is empty; write it again"),
        (b"PK\3\4 no archive", "it is no .npz file, or one cut off"),
        (b"\x89PNG\r\n\x1a\n", "it is no .npz file, or one cut off"),
    ],
)
def test_cluster_refuses_files_that_are_no_embeddings(run, refused, content, message):
    if content is not None:
        Path("maps.npz").write_bytes(content)
    assert message in refused(run("cluster", "maps.npz"))
    assert not Path("labels.png").exists()


def test_cluster_refuses_a_file_cut_off_and_a_folder(run, refused, make_npz):
    path = make_npz()
    path.write_bytes(path.read_bytes()[:-200])
    assert "cut off" in refused(run("cluster", path))
    assert "it is a folder, expected a .npz file" in refused(run("cluster", "."))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("missing/labels.png", "the folder missing does not exist; create it first"),
        ("maps.npz/labels.png", "the folder maps.npz does not exist; create it first"),
        ("labels.jpg", "expected a name that ends in .png or .tif or .tiff or .npy; choose such a name"),
        ("folder.png", "it is a folder; give a file name"),
    ],
)
def test_cluster_refuses_targets_that_cannot_be(run, refused, files, make_npz, out, message):
    make_npz()
    Path("folder.png").mkdir()
    assert refused(run("cluster", "maps.npz", "--out", out)) == f"cannot write {out}: {message}"
    assert files() == ["maps.npz"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_cluster_refuses_a_folder_that_is_not_writable(run, refused, make_npz):
    make_npz()
    Path("closed").mkdir(mode=0o500)
    assert "the folder closed is not writable" in refused(run("cluster", "maps.npz", "--out", "closed/labels.png"))


def test_more_instances_than_a_png_holds(run, refused, files, make_npz):
    foreground = np.zeros((512, 512), np.float32)
    foreground[::2, ::2] = 1
    seeds = np.zeros_like(foreground)
    seeds[0, 0] = 1
    embeddings = np.zeros((512, 512, 1), np.float32)
    make_npz(embeddings=embeddings, foreground=foreground, seeds=seeds, bandwidth=None)
    options = ("cluster", "maps.npz", "--min-size", 1, "--bandwidth", 1)
    error = refused(run(*options))
    assert error == (
        "cannot write labels.png: label 65536 does not fit into 16-bit PNG (up to 65535); "
        "write labels.tif instead (with --out-dir: --format tif)"
    )
    assert files() == ["maps.npz"]
    assert run(*options, "--out", "labels.tif").stdout == "labels.tif: 65536 instances\n"
    assert tifffile.imread("labels.tif").max() == 65_536


@pytest.fixture
def volume_npz(ball_maps):
    """Embeddings of a volume of balls in a file, and the labels that the clustering gives them."""
    _, maps = ball_maps(0)
    write_embeddings("volume.npz", maps)
    return cluster(maps, default_settings(maps))


@pytest.mark.parametrize("out", ["labels.tif", "labels.ome.tif", "labels.npy", "labels.ome.zarr"])
def test_volumes_become_label_volumes(run, volume_npz, out):
    count = volume_npz.max()
    arguments = () if out == "labels.tif" else ("--out", out)
    done = run("cluster", "volume.npz", *arguments, "--scores", "scores.csv")
    assert (done.exit_code, done.stdout) == (0, f"{out}: {count} instances\n")
    np.testing.assert_array_equal(read_label_volume(Path(out)), volume_npz)
    lines = Path("scores.csv").read_text().splitlines()
    assert len(lines) == 1 + count > 5
    assert lines[0].startswith("id,score,area,plane,row,column,first_plane,")
    assert sorted(path.name for path in Path().iterdir()) == sorted([out, "scores.csv", "volume.npz"])
    if out != "labels.npy":
        assert read_volume_header(out).geometry.depth == pytest.approx(2)


def test_filters_and_settings_work_on_volumes(run, volume_npz):
    assert run("cluster", "volume.npz", "--exclude-border").exit_code == 0
    left = read_label_volume("labels.tif")
    assert 0 < left.max() < volume_npz.max()
    assert not any(np.take(left, end, axis).any() for axis in range(3) for end in (0, -1))
    assert run("cluster", "volume.npz", "--min-size", "100000").stdout == "labels.tif: 0 instances\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--out labels.png", "cannot write labels.png: expected a name that ends in .tif"),
        ("--outlines a.geojson", "--outlines are those of images, and volume.npz is of a volume; leave them out"),
        ("--out nowhere/labels.tif", "cannot write nowhere/labels.tif: the folder nowhere does not exist"),
        ("--out volume.zarr", "cannot write volume.zarr: it exists and is no Zarr group"),
    ],
)
def test_what_volumes_cannot_have_is_refused(run, refused, files, volume_npz, arguments, message):
    Path("volume.zarr").mkdir()
    result = run("cluster", "volume.npz", *arguments.split())
    assert refused(result, code=result.exit_code).startswith(message)
    assert result.exit_code in (1, 2)
    assert files() == ["volume.npz"]
