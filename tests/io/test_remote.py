"""Zarr images on servers: a server of this machine, and fsspec's own in memory."""

import http.server
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr

from instseg import optional
from instseg.errors import InstsegError
from instseg.io.container import result_stem
from instseg.io.folders import search_images
from instseg.io.image_file import ImageFileError
from instseg.io.omezarr import ZarrReader, zarr_planes
from instseg.io.remote import RemotePath, reached
from instseg.io.remote_address import remote_url, with_addresses
from instseg.io.source import open_image, read_geometry, whole_box
from instseg.io.volumes import FileVolume, read_volume
from instseg.tiling.grid import Box

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

IMAGE = np.random.default_rng(0).integers(0, 60_000, (70, 90)).astype(np.uint16)


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, lists no folders, writes no log, and fails where a test says so."""

    fails: dict[str, int] = {}
    gives_parts = True

    def do_GET(self):
        wanted = self.headers.get("Range", "")
        if wanted and self.gives_parts:
            content = Path(self.translate_path(self.path)).read_bytes()
            first, last = wanted.removeprefix("bytes=").split("-")
            start = int(first) if first else len(content) - int(last)
            part = content[start : int(last) + 1 if first and last else None]
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
            self.end_headers()
            self.wfile.write(part)
            return
        for ending, status in self.fails.items():
            if self.path.endswith(ending):
                self.send_error(status)
                return
        super().do_GET()

    def list_directory(self, path):
        self.send_error(403)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a server of the test's folder; the keys of what it serves."""
    monkeypatch.chdir(tmp_path)
    handler = type("Handler", (_Handler,), {"fails": {}})
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path)))
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}", handler
    served.shutdown()
    served.server_close()
    thread.join()


def write(path, version="0.5", values=IMAGE, axes="yx", **options):
    axes = [{"name": name, "unit": "micrometer"} if name in "yx" else {"name": name} for name in axes]
    scale = [{"type": "scale", "scale": [0.5] * values.ndim}]
    multiscale = {
        "version": version,
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    attributes = {"multiscales": [multiscale]}
    zarr_format = 3 if version == "0.5" else 2
    attributes = {"ome": {"version": version, **attributes}} if version == "0.5" else attributes
    zarr.create_group(path, zarr_format=zarr_format, attributes=attributes)
    chunks = (1,) * (values.ndim - 2) + (32, 40)
    zarr.create_array(f"{path}/0", data=values, chunks=chunks, zarr_format=zarr_format, **options)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_on_a_server_is_that_in_a_folder(server, version):
    write("a.zarr", version)
    address = f"{server[0]}/a.zarr"
    # As a path has it, and as a text.
    for given in (address, Path(address)):
        reader = open_image(given)
        assert reader.shape == (70, 90, 1)
        np.testing.assert_array_equal(reader.read(Box(10, 20, 60, 85))[..., 0], IMAGE[10:60, 20:85])
    assert reader.geometry == read_geometry(Path(address)) == ZarrReader("a.zarr").geometry
    assert read_geometry(Path(address)).pixel_size == (0.5, 0.5)


def test_shards_are_read(server):
    write("a.zarr", shards=(64, 80))
    address, handler = server
    reader = open_image(f"{address}/a.zarr")
    np.testing.assert_array_equal(reader.read(whole_box(reader))[..., 0], IMAGE)
    np.testing.assert_array_equal(reader.read(Box(0, 0, 20, 30))[..., 0], IMAGE[:20, :30])
    handler.gives_parts = False
    with pytest.raises(ImageFileError, match="its server gives whole files where parts are asked for; copy it"):
        reader.read(Box(0, 0, 20, 30))


def test_planes_are_read(server):
    write("a.zarr", values=np.stack([IMAGE, IMAGE // 2]), axes="zyx")
    with pytest.raises(ImageFileError, match=f"cannot read {server[0]}/a.zarr: it has 2 along z, expected one plane"):
        open_image(f"{server[0]}/a.zarr")
    planes = zarr_planes(f"{server[0]}/a.zarr")
    np.testing.assert_array_equal(planes[1].read(Box(0, 0, 70, 90))[..., 0], IMAGE // 2)


def test_a_chunk_that_is_missing_is_one_that_was_never_written(server):
    write("a.zarr", "0.4")
    Path("a.zarr/0/0.0").unlink()
    expected = IMAGE.copy()
    expected[:32, :40] = 0
    reader = open_image(f"{server[0]}/a.zarr")
    np.testing.assert_array_equal(reader.read(whole_box(reader))[..., 0], expected)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_fails_is_no_chunk_that_is_missing(server, status):
    write("a.zarr", "0.4")
    address, handler = server
    reader = open_image(f"{address}/a.zarr")
    handler.fails["/0.0"] = status
    with pytest.raises(ImageFileError, match=rf"cannot read {address}/a.zarr.*it cannot be fetched \({status}, .*netw"):
        reader.read(whole_box(reader))
    handler.fails[".zattrs"] = status
    with pytest.raises(ImageFileError, match=r"it cannot be fetched"):
        open_image(f"{address}/a.zarr")


@pytest.mark.parametrize("status", [403, 404])
def test_what_is_not_there_is_said(server, status):
    address, handler = server
    handler.fails[""] = status
    with pytest.raises(ImageFileError, match=f"cannot read {address}/b.zarr: no Zarr metadata is there, or none that"):
        open_image(f"{address}/b.zarr")


def test_a_server_that_is_not_there_is_said():
    with pytest.raises(ImageFileError, match=r"cannot read http://127.0.0.1:9/a.zarr.*: it cannot be fetched .*check"):
        open_image("http://127.0.0.1:9/a.zarr")


def test_damaged_chunks_and_metadata_are_refused_in_one_line(server):
    write("a.zarr", "0.4")
    Path("a.zarr/0/1.1").write_bytes(b"\x02\x01\x21\x02" + b"\xff" * 28)
    reader = open_image(f"{server[0]}/a.zarr")
    with pytest.raises(ImageFileError, match="it is damaged") as caught:
        reader.read(whole_box(reader))
    assert "\n" not in str(caught.value)
    Path("a.zarr/.zattrs").write_text("{")
    with pytest.raises(ImageFileError, match="it is damaged") as caught:
        open_image(f"{server[0]}/a.zarr")
    assert "\n" not in str(caught.value)


def test_all_images_of_a_group_on_a_server_are_found(server):
    zarr.create_group("raw.zarr", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    for number in range(3):
        write(f"raw.zarr/{number}", "0.4", IMAGE // (number + 1))
    address = f"{server[0]}/raw.zarr"
    found = search_images([Path(address)])
    assert [remote_url(path) for path in found.files] == [f"{address}/{number}" for number in range(3)]
    assert [result_stem(path) for path in found.files] == [f"raw-{number}" for number in range(3)]
    reader = open_image(found.files[2])
    np.testing.assert_array_equal(reader.read(whole_box(reader))[..., 0], IMAGE // 3)


def test_other_protocols_are_those_of_fsspec():
    system = fsspec.filesystem("memory")
    store = zarr.storage.FsspecStore.from_url("memory://bucket/a.zarr")
    zarr.create_array(store, data=IMAGE, chunks=(32, 40), dimension_names=["y", "x"])
    reader = open_image("memory://bucket/a.zarr")
    np.testing.assert_array_equal(reader.read(Box(3, 4, 60, 70))[..., 0], IMAGE[3:60, 4:70])
    system.rm("/bucket", recursive=True)


def test_addresses_keep_their_slashes():
    path = reached(Path("https://host/a.zarr"))
    assert isinstance(path, RemotePath)
    assert str(path / "0" / "zarr.json") == "https://host/a.zarr/0/zarr.json"
    assert isinstance(path / "0", RemotePath)
    for text in ("a.zarr", "/https:/a", "ftp://host/a", "https:///a", "C:/a"):
        assert remote_url(text) is None
    assert with_addresses("Note: https:/host/a, s3:/b/c: d:/e") == "Note: https://host/a, s3://b/c: d:/e"


def test_without_fsspec_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    with pytest.raises(
        InstsegError, match=r"Images on servers need fsspec, aiohttp, s3fs; install what is missing with"
    ):
        open_image("https://host/a.zarr")


def test_volumes_on_a_server_are_read_in_parts(server):
    url, _ = server
    values = np.random.default_rng(1).integers(0, 60_000, (5, 12, 10)).astype(np.uint16)
    write("a.zarr", values=values, axes="zyx")
    address = Path(f"{url}/a.zarr")
    np.testing.assert_array_equal(read_volume(address)[..., 0], values)
    reader = FileVolume(address)
    np.testing.assert_array_equal(reader.read(Box(1, 2, 3, 4, 11, 9))[..., 0], values[1:4, 2:11, 3:9])
    reader.close()
