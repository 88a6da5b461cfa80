"""Workers of a Dask cluster, real processes all of them, give what one process gives."""

import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

import instseg
from instseg.clustering.calibration import ScoreCalibration
from instseg.data.balls import draw_balls
from instseg.data.discs import draw_discs
from instseg.distributed import client, predict
from instseg.distributed.client import DaskCluster
from instseg.distributed.predict import DaskExecutor
from instseg.distributed.tasks import FilesTask, ModelRef, model_ref
from instseg.errors import InstsegError
from instseg.inference.batch import FileResult, PredictJob
from instseg.inference.options import PredictOptions
from instseg.inference.outputs import SingleOutput
from instseg.inference.tiled import segment
from instseg.io.images import write_picture
from instseg.io.label_images import read_labels
from instseg.io.pixel_size import PixelGeometry
from instseg.io.source import ArrayReader
from instseg.io.volume_tiff import write_volume
from instseg.models.config import write_calibration
from instseg.network.runtime import default_precision
from instseg.settings import BallSettings, DiscSettings, FilterSettings, TileSettings

TILES = ["--tile", "128", "--overlap", "40"]
# Whatever hangs is ended.
SECONDS = 240
# Workers load it, twice: they begin no further tile while the file `hold` is there, which says how many they may do.
HELD = """
import time
from pathlib import Path
from instseg.distributed import tasks
from instseg.distributed.blocks import segment_tile

hold = Path({hold!r})

def segment_or_wait(tiles, plan, index, folder, **options):
    while hold.exists() and len(list(folder.glob("[0-9]*.npz"))) >= int(hold.read_text() or 0):
        time.sleep(0.01)
    segment_tile(tiles, plan, index, folder, **options)

tasks.segment_tile = segment_or_wait
"""


def command(*arguments, code=0, cwd=None):
    found = subprocess.run(
        [sys.executable, "-m", "instseg", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=cwd,
    )
    assert found.returncode == code, found.stderr
    assert "Traceback" not in found.stderr
    return found


@pytest.fixture(scope="module")
def image():
    return draw_discs(np.random.default_rng(2), DiscSettings(size=300, min_discs=50, max_discs=50))[0]


@pytest.fixture(scope="module")
def stored(image, tmp_path_factory):
    """The image as OME-Zarr."""
    path = tmp_path_factory.mktemp("zarr") / "image.zarr"
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    steps = [{"type": "scale", "scale": [0.5, 0.5]}]
    levels = [{"path": "0", "coordinateTransformations": steps}]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    group = zarr.create_group(str(path), attributes={"ome": ome}, zarr_format=3)
    group.create_array("0", data=image, chunks=(64, 64))
    return path


def wait_until(condition, process=None):
    """Wait for what is to happen, unless a process ends that it depends on."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.01)


def write_preload(folder):
    """Write the module that has workers wait, and return it and the file `hold`."""
    module, hold = folder / "held.py", folder / "hold"
    module.write_text(HELD.format(hold=str(hold)))
    return module, hold


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The file of a scheduler with one worker of one thread, both ended in the end; the file `hold` is beside it."""
    folder = tmp_path_factory.mktemp("scheduler")
    file = folder / "scheduler.json"
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    work = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--no-dashboard"]
    work += ["--preload", str(write_preload(folder)[0])]
    processes = [
        subprocess.Popen([*start, "--scheduler-file", str(file), "--port", "0", "--no-dashboard"], cwd=folder),
        subprocess.Popen([*work, "--nthreads", "1", "--nworkers", "1"], cwd=folder),
    ]
    try:
        wait_until(lambda: has_address(file))
        from distributed import Client

        with Client(scheduler_file=str(file), timeout=SECONDS) as client:
            client.wait_for_workers(1, timeout=SECONDS)
        yield file
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(SECONDS)


def has_address(file):
    """Return whether a scheduler has written where it is; it writes bit by bit."""
    try:
        return bool(json.loads(file.read_text())["address"])
    except (OSError, ValueError):
        return False


def blocks_job(image, out, **options):
    """A job of one image in tiles; its labels become Zarr."""
    options = PredictOptions(**{"tiles": TileSettings(tile=128, overlap=40)} | options)
    return PredictJob(files=(image,), options=options, outputs=SingleOutput(out, {}, image))


def test_a_large_image_is_segmented_by_two_workers_as_by_one_process(tiny_model, image, stored, tmp_path):
    out, scores, table = tmp_path / "labels.zarr", tmp_path / "scores.csv", tmp_path / "table.csv"
    results = ["--out", out, "--scores", scores, "--measure", table, "--report", tmp_path / "page.html"]
    # In bfloat16 the levels of parts and of the whole, which differ, can make an object more of this young model.
    filters = ["--exclude-border", "--max-size", 400, "--precision", "float32"]
    sceptic = Path(shutil.copytree(tiny_model / "current", tmp_path / "model"))
    tiles, left_out = TileSettings(tile=128, overlap=40), FilterSettings(exclude_border=True, max_size=400)
    model = instseg.load(tiny_model, precision="float32")
    scores_of_all = segment(model, ArrayReader(image), PredictOptions(tiles=tiles, measure=True)).instances.score
    doubtful = float(np.quantile(scores_of_all, 0.2))
    write_calibration(sceptic, dataclasses.replace(model.calibration or ScoreCalibration(), min_score=doubtful))
    printed = command("predict", sceptic, stored, *results, "--workers", 2, *TILES, *filters)
    # Levels are estimated from parts of images that are read so.
    single = tmp_path / "single.zarr"
    results = ["--out", single, "--scores", tmp_path / "single.csv", "--measure", tmp_path / "single-table.csv"]
    results += ["--report", tmp_path / "single.html"]
    alone = command("predict", sceptic, stored, *results, *TILES, *filters)
    assert printed.stderr == alone.stderr
    assert "that are probably wrong" in alone.stderr
    labels, expected = (zarr.open_group(str(path), mode="r") for path in (out, single))
    assert labels.attrs["ome"]["multiscales"] == [
        {**expected.attrs["ome"]["multiscales"][0], "name": labels.attrs["ome"]["multiscales"][0]["name"]}
    ]
    for level in labels.array_keys():
        np.testing.assert_array_equal(labels[level][:], expected[level][:])
    count = int(labels["0"][:].max())
    model = instseg.load(sceptic, precision="float32")
    whole = [
        segment(model, ArrayReader(image), PredictOptions(tiles=tiles, filters=filters)).labels.max()
        for filters in (FilterSettings(), left_out)
    ]
    assert whole[0] > count == whole[1] > 10
    assert printed.stdout == f"{out}: {count} instances\n"
    assert scores.read_text() == (tmp_path / "single.csv").read_text()
    assert table.read_text() == (tmp_path / "single-table.csv").read_text()
    assert len(table.read_text().splitlines()) == count + 1
    page = (tmp_path / "page.html").read_text()
    assert f"{count} objects" in page
    assert page == (tmp_path / "single.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "labels.zarr",
        "model",
        "page.html",
        "scores.csv",
        "single-table.csv",
        "single.csv",
        "single.html",
        "single.zarr",
        "table.csv",
    ]


def test_a_volume_is_segmented_by_a_worker_as_by_one_process(tiny_model, scheduler, tmp_path):
    volume, _ = draw_balls(np.random.default_rng(4), BallSettings(depth=20, size=64, min_balls=12, max_balls=12))
    write_volume(tmp_path / "volume.tif", volume, PixelGeometry((0.5, 0.5), unit="micrometer", depth=1.0))
    blocks = ["--volume", "--planes-from", "zyx", "--tile", "48", "--overlap", "8"]
    for name, workers in (("labels", ["--scheduler-file", scheduler]), ("single", [])):
        results = ["--out", f"{name}.zarr", "--scores", f"{name}.csv", "--measure", f"{name}-table.csv"]
        printed = command("predict", tiny_model, "volume.tif", *results, *blocks, *workers, cwd=tmp_path)
        count = len((tmp_path / f"{name}.csv").read_text().splitlines()) - 1
        assert printed.stdout == f"{name}.zarr: {count} instances\n"
        assert count > 1
    labels, single = (zarr.open_group(str(tmp_path / name), mode="r") for name in ("labels.zarr", "single.zarr"))
    assert labels.attrs["ome"]["multiscales"][0]["datasets"] == single.attrs["ome"]["multiscales"][0]["datasets"]
    for level in single.array_keys():
        np.testing.assert_array_equal(labels[level][:], single[level][:])
    for table in (".csv", "-table.csv"):
        assert (tmp_path / f"labels{table}").read_text() == (tmp_path / f"single{table}").read_text()
    arguments = ["volume.tif", "--volume", "--planes-from", "z", "--out", "z.zarr", "--scheduler-file", scheduler]
    refused = command("predict", tiny_model, *arguments, cwd=tmp_path, code=2)
    assert "planes along z are joined one after the other" in refused.stderr


def test_a_folder_is_segmented_as_by_one_process(tiny_model, scheduler, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(6):
        picture, _ = draw_discs(np.random.default_rng(number), DiscSettings(size=64, min_discs=2, max_discs=3))
        write_picture(tmp_path / "images" / f"{number}.png", picture)
    (tmp_path / "images" / "bad.png").write_bytes(b"no picture")
    options = ["--out-dir", "many", "--coco", "many.json", "--yolo", "many-yolo", "--measure", "many-tables"]
    options += ["--report", "many.html", "--scheduler-file", scheduler]
    found = command("predict", tiny_model, "images", *options, code=1, cwd=tmp_path)
    options = ["--out-dir", "one", "--coco", "one.json", "--yolo", "one-yolo", "--measure", "one-tables"]
    options += ["--report", "one.html"]
    one = command("predict", tiny_model, "images", *options, code=1, cwd=tmp_path)
    assert found.stdout == one.stdout
    # Workers are told absolute paths.
    assert found.stderr.replace(f"{tmp_path}/", "").replace("many", "one") == one.stderr
    assert (tmp_path / "many.json").read_text() == (tmp_path / "one.json").read_text()
    assert len(json.loads((tmp_path / "one.json").read_text())["images"]) == 6
    assert len(list((tmp_path / "many-yolo" / "labels").iterdir())) == 6
    assert "bad.png" in found.stderr
    pages = [(tmp_path / f"{run}.html").read_text() for run in ("many", "one")]
    assert pages[0].replace(f"{tmp_path}/", "") == pages[1]
    assert pages[1].count('<figure class="image"') == 6
    for number in range(6):
        np.testing.assert_array_equal(
            read_labels(tmp_path / "many" / f"{number}.png"), read_labels(tmp_path / "one" / f"{number}.png")
        )
        tables = [(tmp_path / f"{run}-tables" / f"{number}.csv").read_text() for run in ("many", "one")]
        assert tables[0] == tables[1]
    summaries = [(tmp_path / run / "summary.csv").read_text() for run in ("many", "one")]
    assert summaries[0] == summaries[1]
    assert len(summaries[0].splitlines()) == 7


def test_a_run_goes_on_where_it_was_broken_off(tiny_model, stored, scheduler, tmp_path):
    out = tmp_path / "labels.zarr"
    arguments = ["predict", tiny_model, stored, "--out", out, "--scheduler-file", scheduler, *TILES]
    hold = scheduler.with_name("hold")
    hold.write_text("5")
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "instseg", *map(str, arguments)],
            stderr=subprocess.PIPE,
            start_new_session=True,
            # A shell that runs the tests in the background has its children ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        blocks = tmp_path / ".labels.zarr.partial" / "blocks"
        wait_until(lambda: len(list(blocks.glob("[0-9]*.npz"))) == 5, process)
        os.kill(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=SECONDS)
    finally:
        hold.unlink()
    assert process.returncode == 130
    assert b"Traceback" not in told
    assert not out.exists()
    assert len(list(blocks.glob("[0-9]*.npz"))) < 49
    # Another setting would not fit what is there.
    other = command(*arguments, "--min-size", 50, code=1)
    assert "unfinished run with other settings (overrides " in other.stderr
    if default_precision() == "bfloat16":
        other = command(*arguments, "--precision", "bfloat16", code=1)
        assert "other settings (precision of each machine, now bfloat16)" in other.stderr
    command(*arguments)
    assert out.exists()
    assert not blocks.parent.exists()


def test_what_an_interrupted_client_logs_is_not_shown(scheduler):
    code = f"""
import logging
from instseg.distributed.client import DaskCluster

with DaskCluster(scheduler_file={str(scheduler)!r}).connected():
    print(*(logging.getLogger(name).level for name in ("distributed", "tornado.application")))
"""
    # In a process of its own, which has not imported Dask's client before.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stdout.split() == [str(logging.CRITICAL)] * 2


def test_tiles_that_are_done_are_not_done_again(tiny_model, stored, scheduler, tmp_path):
    job = blocks_job(stored, tmp_path / "labels.zarr")

    def interrupt(done, total, what):
        if what == "Segmenting" and done == total:
            raise KeyboardInterrupt

    executor = DaskExecutor(DaskCluster(scheduler_file=scheduler), model_ref(tiny_model))
    with pytest.raises(KeyboardInterrupt):
        list(executor.run(job, interrupt))
    tiles = sorted((tmp_path / ".labels.zarr.partial" / "blocks").glob("*.npz"))
    assert len(tiles) == 49
    before = [path.stat().st_mtime_ns for path in tiles]
    seen = []

    def look(done, total, what):
        if what == "Joining":
            seen.append([path.stat().st_mtime_ns for path in tiles])

    (result,) = executor.run(job, look)
    assert result.summary.instances > 20
    assert seen[0] == before


def test_a_worker_that_dies_costs_its_block_only(tiny_model, stored, tmp_path):
    out = tmp_path / "labels.zarr"
    module, hold = write_preload(tmp_path)
    hold.write_text("3")
    arguments = ["predict", tiny_model, stored, "--out", out, "--workers", "1", *TILES]
    process = subprocess.Popen(
        [sys.executable, "-m", "instseg", *map(str, arguments)],
        stderr=subprocess.PIPE,
        env={**os.environ, "DASK_DISTRIBUTED__WORKER__PRELOAD": str(module)},
    )
    blocks = tmp_path / ".labels.zarr.partial" / "blocks"
    wait_until(lambda: len(list(blocks.glob("[0-9]*.npz"))) == 3, process)
    assert kill_the_one_with_tensorflow(process.pid)
    hold.unlink()
    _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, told.decode()
    assert out.exists()


def kill_the_one_with_tensorflow(parent):
    """Kill the descendant of a process that has loaded TensorFlow."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    below = list(children.get(parent, []))
    for pid in below:
        below += children.get(pid, [])
    for pid in below:
        maps = Path(f"/proc/{pid}/maps").read_text()
        if "libtensorflow_cc" in maps or "_pywrap_tensorflow" in maps:
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def test_a_file_that_workers_die_of_costs_no_other(monkeypatch):
    """Dask blames a task, and those that wait behind it: all of their files are tried again by themselves."""
    passes = []

    def die(client, function, tasks, died):
        passes.append([file.name for task in tasks for file in task.job.files])
        for number, task in enumerate(tasks):
            if any("bad" in name for name in passes[-1]) and number < 2:
                yield number, died(InstsegError("workers died"))
            else:
                files = enumerate(task.job.files, start=1)
                results = [FileResult(number=place, path=file, name=file.stem) for place, file in files]
                yield number, predict.FilesOutcome(results, None)

    monkeypatch.setattr(predict, "map_unordered", die)
    job = PredictJob(files=(), options=PredictOptions(), outputs=SingleOutput(Path("l.png"), {}, Path("a.png")))
    model = ModelRef("model", "digest", None)
    groups = [("a.png", "bad.png"), ("b.png",), ("c.png", "d.png")]
    tasks = [
        (start, FilesTask(model, dataclasses.replace(job, files=tuple(map(Path, group)))))
        for start, group in zip((0, 2, 3), groups, strict=True)
    ]
    found = {
        start + result.number - 1: (result.path.name, None if result.error is None else str(result.error))
        for start, outcome in predict._outcomes(None, tasks)
        for result in outcome.results
    }
    assert found == {
        0: ("a.png", None),
        1: ("bad.png", "workers died"),
        2: ("b.png", None),
        3: ("c.png", None),
        4: ("d.png", None),
    }
    assert passes == [["a.png", "bad.png", "b.png", "c.png", "d.png"], ["a.png"], ["bad.png"], ["b.png"]]


def test_what_cannot_be_is_refused(tiny_model, stored, tmp_path):
    out = ["--out", tmp_path / "labels.zarr"]
    for arguments, code, words in [
        (["--workers", "0"], 2, "--workers is 0, expected a number from 1 to 1024"),
        (["--workers", "2", "--scheduler", "tcp://x:1"], 2, "--workers and --scheduler cannot go together"),
        (["--scheduler", "tcp://127.0.0.1:9"], 1, "cannot reach tcp://127.0.0.1:9"),
        (["--scheduler", "nonsense://"], 1, "cannot reach nonsense://"),
        (["--scheduler-file", tmp_path / "none.json"], 1, "cannot reach the scheduler of"),
    ]:
        found = command("predict", tiny_model, stored, *out, *arguments, code=code)
        assert words in found.stderr
    found = command("predict", tiny_model, stored, *out, "--workers", "1", "--overlay", tmp_path / "o.png", code=1)
    assert "which --overlay cannot be" in found.stderr
    assert list(tmp_path.iterdir()) == []
    found = command("predict", tiny_model, stored, "--out", tmp_path / "labels.tif", "--workers", "2", code=2)
    assert "give --out NAME.zarr" in found.stderr


def test_another_model_on_a_worker_is_refused(tiny_model, stored, scheduler, tmp_path):
    model = model_ref(tiny_model)._replace(digest="another")
    executor = DaskExecutor(DaskCluster(scheduler_file=scheduler), model)
    with pytest.raises(InstsegError, match="is another one on tcp://"):
        list(executor.run(blocks_job(stored, tmp_path / "labels.zarr")))


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("distributed", r"the scheduler has distributed .*, expected 0\.0\.1 as here"),
        ("tensorflow", r"tcp://.* has tensorflow .*, expected 0\.0\.1 as here"),
        ("instseg", r"tcp://.* has instseg .*, expected 0\.0\.1 as here"),
    ],
)
def test_a_worker_of_another_version_is_refused(monkeypatch, scheduler, package, message):
    installed = client.installed_version
    monkeypatch.setattr(client, "installed_version", lambda name: "0.0.1" if name == package else installed(name))
    with pytest.raises(InstsegError, match=message), DaskCluster(scheduler_file=scheduler).connected():
        pass


SEEN: set[str] = set()
ALL_SEEN = threading.Event()


def where_it_runs(number):
    """Return the worker; late tasks wait until three of them have had one."""
    from distributed import get_worker

    SEEN.add(get_worker().address)
    if len(SEEN) == 3:
        ALL_SEEN.set()
    assert number < 60 or ALL_SEEN.wait(SECONDS)
    return get_worker().address


def test_workers_that_join_later_get_their_share(tmp_path):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        Client(cluster) as connection,
    ):
        places = []
        for done, (_, place) in enumerate(client.map_unordered(connection, where_it_runs, range(150))):
            places.append(place)
            if done == 20:
                cluster.scale(3)
                connection.wait_for_workers(3, timeout=SECONDS)
    assert len(places) == 150
    assert set(places) == SEEN


def test_a_scheduler_without_workers_is_told(tmp_path):
    file = tmp_path / "scheduler.json"
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    process = subprocess.Popen([*start, "--scheduler-file", str(file)], cwd=tmp_path)
    try:
        wait_until(lambda: has_address(file))
        with (
            pytest.raises(InstsegError, match="has no workers; start some with"),
            DaskCluster(scheduler_file=file).connected(),
        ):
            pass
    finally:
        process.terminate()
        process.wait(SECONDS)
