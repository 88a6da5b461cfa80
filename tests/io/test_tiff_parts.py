"""Parts of pages: they are those of the whole page, whatever the strips or tiles."""

import numpy as np
import pytest
import tifffile

from instseg.io.tiff_parts import read_part

GRAY = np.random.default_rng(0).integers(0, 60_000, (50, 70)).astype(np.uint16)
RGB = np.random.default_rng(1).integers(0, 256, (50, 70, 3)).astype(np.uint8)
PARTS = [
    (slice(0, 50), slice(0, 70)),
    (slice(7, 8), slice(0, 70)),
    (slice(9, 41), slice(30, 31)),
    (slice(48, 50), slice(60, 70)),
]

LAYOUTS = {
    "one run": {},
    "big-endian": {"byteorder": ">"},
    "strips": {"rowsperstrip": 8},
    "packed strips": {"rowsperstrip": 8, "compression": "zlib", "predictor": True},
    "one packed strip": {"compression": "lzw"},
    "tiles": {"tile": (16, 32)},
    "packed tiles": {"tile": (32, 16), "compression": "zstd"},
}


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("pixels", [GRAY, RGB], ids=["gray", "rgb"])
def test_a_part_is_that_of_the_page(tmp_path, pixels, options):
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=photometric, **options)
    expected = pixels.reshape(50, 70, -1)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        for rows, columns in PARTS:
            part = read_part(tiff.pages[0], rows, columns)
            assert part.dtype == pixels.dtype
            np.testing.assert_array_equal(part, expected[rows, columns])
            assert part.base is None or part.base.size == part.size


@pytest.mark.parametrize("options", [{"compression": "jpeg", "tile": (16, 32)}, {"compression": "jpeg"}])
def test_tables_of_jpeg_are_used(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        whole = tiff.pages[0].asarray()
        np.testing.assert_array_equal(read_part(tiff.pages[0], slice(9, 41), slice(30, 60)), whole[9:41, 30:60])


def test_samples_in_planes_come_last(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        np.testing.assert_array_equal(read_part(tiff.pages[0], slice(9, 41), slice(30, 60)), RGB[9:41, 30:60])


def test_tiles_that_were_never_written_are_zeros(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", None, shape=(50, 70), dtype=np.uint16, tile=(16, 16), photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        part = read_part(tiff.pages[0], slice(9, 41), slice(30, 60))
    assert part.shape == (32, 30, 1)
    assert not part.any()
