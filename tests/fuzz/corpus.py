"""Valid files of every kind that the tool reads, small ones, to make damaged ones of."""

import io
import json
import struct
import tempfile
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import tifffile
import zarr
from PIL import Image

from instseg.clustering.embeddings import Embeddings
from instseg.io.npz import write_embeddings
from instseg.settings import ClusterSettings

# Neither equal nor a multiple of anything.
SHAPE = (37, 53)
MODELS = Path(__file__).parents[1] / "models"


class Seed(NamedTuple):
    """A valid input.

    Attributes
    ----------
    kind : str
        The target that reads it, a key of `targets.TARGETS`.
    path : str
        What the target is given, relative to a folder.
    files : dict of str to bytes
        By their paths in a folder.
    """

    kind: str
    path: str
    files: dict[str, bytes]


def make_corpus() -> dict[str, Seed]:
    """Return the valid inputs by name."""
    corpus: dict[str, Seed] = {}
    for make in (_png, _tiff, _tiff_of_several_pages, _jpeg_and_bmp, _other_pictures, _arrays):
        for name, data in make().items():
            corpus[name] = Seed("image", name, {name: data})
    corpus |= {name: Seed("zarr", name, files) for name, files in _zarr().items()}
    corpus |= {name: Seed("npz", name, {name: data}) for name, data in _npz().items()}
    corpus |= _settings_and_tables()
    return corpus


def _pixels(dtype=np.uint8, channels=0):
    """Return an image of a few discs and some noise."""
    rows, columns = np.indices(SHAPE)
    values = np.random.default_rng(3).integers(0, 40, SHAPE)
    for row, column in ((9, 11), (20, 40), (30, 14)):
        values[(rows - row) ** 2 + (columns - column) ** 2 < 40] += 150
    if np.dtype(dtype) == np.uint16:
        values = values * 250
    values = values.astype(dtype)
    return np.stack([values] * channels, -1) if channels else values


def _labels(dtype=np.uint8):
    rows, columns = np.indices(SHAPE)
    values = np.zeros(SHAPE, dtype)
    for number, (row, column) in enumerate(((9, 11), (20, 40), (30, 14)), start=1):
        values[(rows - row) ** 2 + (columns - column) ** 2 < 40] = number
    return values


def raw_png(pixels, bits, colour_type, *chunks, interlaced=False):
    """Return a PNG of (H, W, bytes of a pixel) values, which Pillow would not write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    # The seven passes of Adam7: the first row and column, and their steps.
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [pixels[top::down, left::right] for top, left, down, right in passes] if interlaced else [pixels]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, int(interlaced))
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in body)


def _saved(picture, suffix, **options):
    file = io.BytesIO()
    picture.save(file, suffix, **options)
    return file.getvalue()


def _png():
    gray, rgb = _pixels(), _pixels(channels=3)
    deep = _pixels(np.uint16, 3).astype(">u2").view(np.uint8).reshape(*SHAPE, 6)
    opaque = np.concatenate([rgb, np.full((*SHAPE, 1), 255, np.uint8)], -1)
    palette = Image.fromarray(rgb).quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "gray8.png": _saved(Image.fromarray(gray), "PNG"),
        "gray16.png": _saved(Image.fromarray(_pixels(np.uint16)), "PNG"),
        "bilevel.png": _saved(Image.fromarray(gray > 90), "PNG"),
        "rgb8.png": _saved(Image.fromarray(rgb), "PNG", exif=exif),
        "rgb16.png": raw_png(deep, 16, 2),
        "rgba8.png": _saved(Image.fromarray(opaque), "PNG"),
        "palette.png": _saved(palette, "PNG"),
        "transparent.png": raw_png(gray[..., None], 8, 0, (b"tRNS", b"\0\xff"), (b"gAMA", b"\0\0\xb1\x8f")),
        "interlaced.png": raw_png(gray[..., None], 8, 0, interlaced=True),
        "interlaced-rgb16.png": raw_png(deep, 16, 2, interlaced=True),
        "labels16.png": _saved(Image.fromarray(_labels(np.uint16)), "PNG"),
    }


def _tif(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def _tiff():
    gray, rgb, deep = _pixels(), _pixels(channels=3), _pixels(np.uint16)
    gray_page = {"photometric": "minisblack"}
    position = [(code, 5, 1, (3, 2), True) for code in (286, 287)]
    colours = np.random.default_rng(0).integers(0, 2**16, (3, 256), np.uint16)
    ome = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5}
    files = {
        "plain.tif": _tif(deep, resolution=(2e4, 2e4), resolutionunit="CENTIMETER", extratags=position, **gray_page),
        "big-endian.tif": _tif(deep, byteorder=">", rowsperstrip=8, **gray_page),
        "big.tif": _tif(deep, bigtiff=True, tile=(16, 16), **gray_page),
        "ome.ome.tif": _tif(deep, ome=True, metadata=ome, **gray_page),
        "float.tif": _tif(gray.astype(np.float32), predictor=3, compression="zlib", **gray_page),
        "int32.tif": _tif(_labels(np.int32), **gray_page),
        "labels.tif": _tif(_labels(np.uint32), compression="zlib", **gray_page),
        "white-is-zero.tif": _tif(gray, photometric="miniswhite"),
        "palette.tif": _tif(gray, photometric="palette", colormap=colours),
        "planar.tif": _tif(np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig="separate"),
        "jpeg.tif": _tif(rgb, photometric="rgb", compression="jpeg", tile=(16, 16)),
        "jpeg-gray.tif": _tif(gray, compression="jpeg", **gray_page),
        "bilevel.tif": _saved(Image.fromarray(gray > 90), "TIFF"),
        "fax.tif": _saved(Image.fromarray(gray > 90), "TIFF", compression="group4"),
        "cmyk.tif": _saved(Image.fromarray(rgb).convert("CMYK"), "TIFF"),
    }
    for name in ("lzw", "zlib", "packbits", "zstd", "lzma", "webp", "jpeg2000", "png"):
        options = {"tile": (16, 16)} if name != "lzw" else {"rowsperstrip": 8, "predictor": 2}
        colour = {"photometric": "rgb"} if name == "webp" else gray_page
        files[f"{name}.tif"] = _tif(rgb if name == "webp" else gray, compression=name, **colour, **options)
    return files


def _tiff_of_several_pages():
    stack = np.stack([_pixels()] * 3)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(_pixels(channels=3), subifds=1, photometric="rgb", tile=(32, 32), compression="zlib")
        writer.write(_pixels(channels=3)[::2, ::2], subfiletype=1, photometric="rgb", tile=(16, 16))
    channels = {"axes": "CYX", "Channel": {"Name": ["a", "b", "c"]}}
    return {
        "pyramid.tif": file.getvalue(),
        "pages.tif": _tif(stack, photometric="minisblack", metadata=None),
        "imagej.tif": _tif(stack, imagej=True, resolution=(2, 2), metadata={"axes": "ZYX", "unit": "um", "spacing": 3}),
        "z.ome.tif": _tif(stack, ome=True, photometric="minisblack", metadata={"axes": "ZYX"}),
        "channels.ome.tif": _tif(stack, ome=True, photometric="minisblack", metadata=channels),
    }


def _jpeg_and_bmp():
    gray, rgb = Image.fromarray(_pixels()), Image.fromarray(_pixels(channels=3))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    return {
        "gray.jpg": _saved(gray, "JPEG"),
        "turned.jpg": _saved(rgb, "JPEG", exif=exif),
        "progressive.jpg": _saved(rgb, "JPEG", progressive=True),
        "cmyk.jpg": _saved(rgb.convert("CMYK"), "JPEG"),
        "gray.bmp": _saved(gray, "BMP"),
        "rgb.bmp": _saved(rgb, "BMP"),
        "palette.bmp": _saved(rgb.quantize(16), "BMP"),
        "bilevel.bmp": _saved(gray.convert("1"), "BMP"),
    }


def _other_pictures():
    gray, colours = _pixels(), _pixels(channels=3)
    frames = [Image.fromarray(gray), Image.fromarray(gray[::-1].copy())]
    return {
        "gray.gif": _saved(Image.fromarray(gray), "GIF"),
        "palette.gif": _saved(Image.fromarray(colours).quantize(16), "GIF"),
        "frames.gif": _saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "lossless.webp": _saved(Image.fromarray(colours), "WebP", lossless=True),
        "lossy.webp": _saved(Image.fromarray(colours), "WebP", quality=80),
        "frames.webp": _saved(frames[0], "WebP", save_all=True, append_images=frames[1:]),
        "gray.jp2": _saved(Image.fromarray(gray), "JPEG2000"),
        "rgb.jp2": _saved(Image.fromarray(colours), "JPEG2000"),
        "gray16.jp2": _saved(Image.fromarray(_pixels(np.uint16)), "JPEG2000"),
        "stream.j2k": _saved(Image.fromarray(gray), "JPEG2000", no_jp2=True),
    }


def _arrays():
    files = {}
    for name, values in (("gray", _pixels(np.uint16)), ("labels", _labels(np.int32)), ("stack", _stack())):
        file = io.BytesIO()
        np.save(file, values)
        files[f"{name}.npy"] = file.getvalue()
        file = io.BytesIO()
        np.savez_compressed(file, image=values)
        files[f"{name}-image.npz"] = file.getvalue()
        for compression in (None, "gzip"):
            file = io.BytesIO()
            with h5py.File(file, "w") as archive:
                dataset = archive.create_dataset("image", data=values, compression=compression)
                dataset.attrs["element_size_um"] = [0.5, 0.25]
                dataset.dims[0].label = "y"
            files[f"{name}-{compression}.h5"] = file.getvalue()
    return files | _czi()


def _stack():
    return np.stack([_pixels(np.uint16)] * 5)


def _czi():
    """Return images of Zeiss's own library, where it is installed."""
    if find_spec("pylibCZIrw") is None:
        return {}
    from pylibCZIrw import czi

    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, compression in (("plain", "uncompressed:"), ("zstd", "zstd1:ExplicitLevel=3")):
            path = Path(folder, f"{name}.czi")
            with czi.create_czi(str(path), compression_options=compression) as document:
                document.write(_pixels(np.uint16), plane={"C": 0})
                document.write(_pixels(np.uint16), plane={"C": 0}, location=(40, 0))
                document.write_metadata("test", scale_x=5e-7, scale_y=5e-7)
            files[f"{name}.czi"] = path.read_bytes()
    return files


def _zarr():
    gray, deep = _pixels(), _pixels(np.uint16)
    channels = np.stack([deep] * 2)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    named = [{"name": "c", "type": "channel"}, *axes]

    def multiscales(axes, version):
        steps = [{"type": "scale", "scale": [0.5] * len(axes)}, {"type": "translation", "translation": [3] * len(axes)}]
        return {"version": version, "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}

    def group(path, version, pixels, axes, **options):
        metadata = [multiscales(axes, version)]
        old = version < "0.5"
        attributes = {"multiscales": metadata} if old else {"ome": {"version": version, "multiscales": metadata}}
        made = zarr.create_group(path, attributes=attributes, zarr_format=2 if old else 3)
        made.create_array("0", data=pixels, **options)

    def raw(path):
        zarr.create_group(path, attributes={"bioformats2raw.layout": 3}, zarr_format=2)
        group(f"{path}/0", "0.4", deep, axes, chunks=(16, 32))

    makers = {
        "v2.zarr": lambda path: group(path, "0.4", deep, axes, chunks=(16, 32)),
        "v2-channels.zarr": lambda path: group(path, "0.4", channels, named, chunks=(1, 32, 32), compressors=None),
        "v3.zarr": lambda path: group(path, "0.5", deep, axes, chunks=(16, 32)),
        "v3-shards.zarr": lambda path: group(path, "0.5", gray, axes, chunks=(8, 16), shards=(32, 64)),
        "v3-channels.zarr": lambda path: group(path, "0.5", channels, named, chunks=(2, 16, 32)),
        "array.zarr": lambda path: zarr.create_array(
            path, data=gray.astype(np.float32), chunks=(16, 32), dimension_names=("y", "x")
        ),
        "raw.zarr": raw,
    }
    found = {}
    for name, make in makers.items():
        with tempfile.TemporaryDirectory() as folder:
            make(f"{folder}/{name}")
            files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            found[name] = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return found


def _npz():
    random = np.random.default_rng(0)
    shape = (24, 31)
    maps = {
        "embeddings": random.normal(size=(*shape, 3)).astype(np.float32),
        "foreground": (random.random(shape) > 0.5).astype(np.float32),
        "seeds": random.random(shape).astype(np.float32),
        "bandwidth": np.ones(shape, np.float32),
        "classes": random.random((*shape, 2)).astype(np.float32),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        write_embeddings(path, Embeddings(**maps, settings=ClusterSettings(min_size=3), class_names=("a", "b")))
        written = path.read_bytes()
    file = io.BytesIO()
    kept = {name: maps[name].astype(np.float16) for name in ("embeddings", "foreground")}
    np.savez_compressed(file, format=np.array(1), settings=np.array(json.dumps({"method": "hdbscan"})), **kept)
    return {"written.npz": written, "compressed.npz": file.getvalue()}


def _settings_and_tables():
    table = b"image,label,class\na,1,round\na,2,long\na,3,round\nb,1,long\n"
    images = {f"{part}/a.{suffix}": data for part, suffix, data in (
        ("images", "png", _saved(Image.fromarray(_pixels()), "PNG")),
        ("labels", "tif", _tif(_labels(np.uint16), compression="zlib", photometric="minisblack")),
    )}  # fmt: skip
    classes = {"classes/a.png": _saved(Image.fromarray(_labels()), "PNG")}
    models = {
        f"model-{number}": Seed(
            "model", ".", {"instseg.json": (MODELS / f"format-{number}" / "model" / "instseg.json").read_bytes()}
        )
        for number in (2, 3)
    }
    return {
        **models,
        "table": Seed("table", "classes.csv", {"classes.csv": table}),
        "data": Seed("data", ".", images | classes),
        "data-with-table": Seed("data", ".", images | {"classes.csv": table.replace(b"b,1,long\n", b"")}),
    }
