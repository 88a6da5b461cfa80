"""Images that are read part by part hold what they hold when they are read at once."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

import instseg
from instseg.cli import app
from instseg.data.discs import draw_discs
from instseg.evaluation.metrics import score
from instseg.inference.label_store import LabelsOnDisk
from instseg.inference.options import PredictOptions
from instseg.inference.tiled import segment
from instseg.io.formats import ImageFileError, read_header
from instseg.io.images import read_image
from instseg.io.label_images import STRIP_ROWS, read_labels, write_labels, write_labels_streamed
from instseg.io.pixel_size import PixelGeometry, read_pixel_geometry
from instseg.io.tiff import TiffReader, supports_region_reads
from instseg.preprocessing.normalisation import estimate_percentiles, percentiles
from instseg.settings import DiscSettings, TileSettings
from instseg.tiling.grid import Box

RNG = np.random.default_rng(3)
BOXES = [Box(0, 0, 70, 90), Box(0, 0, 1, 1), Box(69, 89, 70, 90), Box(15, 16, 49, 33), Box(31, 0, 33, 90)]
WRITTEN = {
    "contiguous": {},
    "big-endian": {"byteorder": ">"},
    "strips": {"rowsperstrip": 7},
    "deflated": {"compression": "zlib", "rowsperstrip": 13},
    "lzw-predicted": {"compression": "lzw", "predictor": True},
    "tiles": {"tile": (16, 32)},
    "tiles-deflated": {"tile": (32, 16), "compression": "zlib"},
    "bigtiff": {"tile": (32, 32), "bigtiff": True},
}


def pixels(channels=1, dtype=np.uint16):
    values = RNG.integers(0, 250, (70, 90, channels))
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("kind", WRITTEN)
def test_parts_are_parts_of_the_whole(tmp_path, kind, dtype):
    for channels in (1, 3):
        image = pixels(channels, dtype)
        path = tmp_path / f"{channels}.tif"
        photometric = "rgb" if channels == 3 else "minisblack"
        tifffile.imwrite(path, image.squeeze(), photometric=photometric, **WRITTEN[kind])
        with closing(TiffReader(path)) as source:
            assert source.shape == image.shape
            for box in BOXES:
                part = source.read(box)
                np.testing.assert_array_equal(part, read_image(path)[box.top : box.bottom, box.left : box.right])
                assert part.dtype == dtype
                assert part.dtype.isnative


def test_of_a_pyramid_the_finest_level_is_read(tmp_path):
    image = pixels(dtype=np.uint8)[..., 0]
    with tifffile.TiffWriter(tmp_path / "p.ome.tif") as file:
        file.write(image, subifds=1, tile=(16, 16))
        file.write(image[::2, ::2], subfiletype=1, tile=(16, 16))
    with closing(TiffReader(tmp_path / "p.ome.tif")) as source:
        np.testing.assert_array_equal(source.read(Box(0, 0, 70, 90))[..., 0], image)


def test_few_pieces_are_kept(tmp_path, monkeypatch):
    image = pixels(dtype=np.uint8)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(16, 16), compression="zlib")
    monkeypatch.setattr("instseg.io.tiff._KEPT_BYTES", 3 * 256)
    with closing(TiffReader(tmp_path / "a.tif")) as source:
        for box in BOXES * 2:
            np.testing.assert_array_equal(source.read(box)[..., 0], image[box.top : box.bottom, box.left : box.right])
            assert len(source._cache) <= 3


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (3, 70, 90), "photometric": "minisblack"},
        {"shape": (70, 90, 4), "photometric": "rgb", "extrasamples": ["unassalpha"]},
        {"shape": (70, 90), "photometric": "miniswhite"},
        {"shape": (3, 70, 90), "photometric": "rgb", "planarconfig": "separate"},
        {"shape": (70, 90), "dtype": np.int16},
    ],
)
def test_what_is_not_read_in_parts(tmp_path, options):
    shape, dtype = options.pop("shape"), options.pop("dtype", np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, dtype), **options)
    assert not supports_region_reads(tmp_path / "a.tif")
    with pytest.raises(ImageFileError, match="it cannot be read part by part; save it as a tiled TIFF"):
        TiffReader(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["contiguous", "tiles", "tiles-deflated"])
def test_a_file_that_ends_too_early_is_named(tmp_path, kind):
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, RNG.integers(0, 255, (300, 400), np.uint8), **WRITTEN[kind])
    with tifffile.TiffFile(path) as tiff:
        last = max(tiff.pages[0].dataoffsets)
    data = path.read_bytes()
    # The directory of these files comes before the pixels.
    path.write_bytes(data[: max(last + 10, len(data) // 2)])
    with (
        closing(TiffReader(path)) as source,
        pytest.raises(ImageFileError, match=r"cannot read .*cut.tif: it is damaged or cut off"),
    ):
        source.read(Box(0, 0, 300, 400))


def test_levels_are_those_of_the_whole_nearly():
    image = draw_discs(np.random.default_rng(0), DiscSettings(size=3000, min_discs=2000, max_discs=2000))[0][..., None]
    found = estimate_percentiles(image.shape[:2], lambda box: image[box.top : box.bottom, box.left : box.right])
    np.testing.assert_allclose(found, percentiles(image), rtol=0.03)
    small = image[:40, :50]
    found = estimate_percentiles((40, 50), lambda box: small[box.top : box.bottom, box.left : box.right])
    np.testing.assert_allclose(found, np.percentile(small[::2, ::2], [1, 99.8])[:, None], rtol=1e-5)


def test_labels_are_written_band_by_band(tmp_path):
    labels = RNG.integers(0, 100_000, (STRIP_ROWS + 300, 700)).astype(np.int32)
    bands = (labels[top : top + STRIP_ROWS] for top in range(0, len(labels), STRIP_ROWS))
    write_labels_streamed(tmp_path / "labels.tif", labels.shape, bands)
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.tif"), labels)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]
    assert read_header(tmp_path / "labels.tif").dtype == "uint32"


@pytest.fixture
def large(tmp_path, monkeypatch):
    """An image that counts as large, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("instseg.io.source.STREAMING_PIXELS", 1000)
    image = draw_discs(np.random.default_rng(2), DiscSettings(size=300, min_discs=50, max_discs=50))[0]
    tifffile.imwrite("large.tif", image, tile=(64, 64), compression="zlib")
    return image


TILES = TileSettings(tile=128, overlap=40)


def test_a_source_is_segmented_as_an_image_is(tiny_model, large):
    model = instseg.load(tiny_model)
    source = TiffReader(Path("large.tif"))
    found = segment(model, source, PredictOptions(tiles=TILES, workspace=Path()))
    assert isinstance(found.labels, LabelsOnDisk)
    assert found.labels.shape == (300, 300)
    whole = segment(model, large, PredictOptions(tiles=TILES, measure=True))
    # Levels are from every second pixel, and so a little others.
    assert score(whole.array, found.array).mean_ap > 0.95
    assert len(found.instances) == found.array.max() > 20
    np.testing.assert_array_equal(found.instances.area, np.bincount(found.array.ravel())[1:])
    for rows in (1, 7, 300, 1000):
        np.testing.assert_array_equal(np.concatenate(list(found.labels.bands(rows))), found.array)
    assert [path.name for path in Path().iterdir()] == ["large.tif"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_command_segments_what_is_too_large_for_memory(tiny_model, large):
    options = ("--tile", 128, "--overlap", 40, "--scores", "scores.csv")
    done = run("predict", tiny_model, "large.tif", "--out", "labels.tif", *options)
    assert done.exit_code == 0, done.stderr
    labels = read_labels(Path("labels.tif"))
    assert labels.shape == (300, 300)
    assert done.stdout == f"labels.tif: {labels.max()} instances\n"
    assert len(Path("scores.csv").read_text().splitlines()) == 1 + labels.max()
    assert sorted(path.name for path in Path().iterdir()) == ["labels.tif", "large.tif", "scores.csv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "labels.png"), "large.tif is read part by part, and its labels are written so, as TIFF"),
        (("--out", "labels.tif", "--overlay", "o.png"), "which --overlay cannot be; leave it out"),
        (("--out", "labels.tif", "--embeddings", "e.npz"), "which --embeddings cannot be; leave it out"),
    ],
)
def test_what_a_large_image_cannot_have(tiny_model, large, options, message):
    refused = run("predict", tiny_model, "large.tif", *options)
    assert refused.exit_code == 1
    assert message in refused.stderr
    assert [path.name for path in Path().iterdir()] == ["large.tif"]


PLACES = {
    "inches": ({"resolution": (254.0, 508.0), "resolutionunit": "INCH"}, (0.01, 0.005)),
    "centimetres": ({"resolution": (1e4, 2e4), "resolutionunit": "CENTIMETER"}, (1e-4, 5e-5)),
    "imagej": ({"imagej": True, "resolution": (2.0, 4.0), "metadata": {"unit": "um"}}, (5e-5, 2.5e-5)),
    "ome": (
        {
            "ome": True,
            "metadata": {
                "axes": "YX",
                "PhysicalSizeX": 0.5,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": 250.0,
                "PhysicalSizeYUnit": "nm",
            },
        },
        (5e-5, 2.5e-5),
    ),
}


@pytest.mark.parametrize("kind", PLACES)
def test_the_size_of_pixels_goes_from_the_image_to_its_labels(tiny_model, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    options, size = PLACES[kind]
    tifffile.imwrite("a.tif", np.zeros((40, 50), np.uint8), photometric="minisblack", **options)
    assert read_pixel_geometry(Path("a.tif")).pixel_size == pytest.approx(size)
    assert run("predict", tiny_model, "a.tif", "--out", "labels.tif").exit_code == 0
    assert read_pixel_geometry(Path("labels.tif")).pixel_size == pytest.approx(size)
    assert read_pixel_geometry(Path("labels.tif")).position is None


def test_positions_go_along(tmp_path):
    path, again = tmp_path / "a.tif", tmp_path / "b.tif"
    where = PixelGeometry((1e-4, 2e-4), (1.25, 0.0078125))
    write_labels_streamed(path, (40, 50), iter([np.ones((40, 50), np.int32)]), where)
    assert read_pixel_geometry(path).position == (1.25, 0.0078125)
    write_labels(again, np.ones((40, 50), np.int32), read_pixel_geometry(path))
    assert read_pixel_geometry(again).position == (1.25, 0.0078125)
    assert read_pixel_geometry(again).pixel_size == pytest.approx(where.pixel_size)


def test_what_says_nothing_of_its_pixels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8))
    write_labels(tmp_path / "a.png", np.ones((4, 5), np.int32))
    assert read_pixel_geometry(tmp_path / "a.tif") is None
    assert read_pixel_geometry(tmp_path / "a.png") is None
