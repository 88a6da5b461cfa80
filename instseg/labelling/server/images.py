"""The images of the folder as the page shows them: opened when they are needed, the last ones kept in memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instseg.errors import InstsegError, check_parameter
from instseg.io.source import ImageReader
from instseg.labelling.server.rendering import (
    MAX_CHANNELS,
    Colour,
    ShownChannel,
    encode_png,
    level_count,
    read_level,
    tile_box,
    to_colours,
)

# Bytes of the images that are kept, and of tiles that show them smaller.
_KEPT_BYTES, _TILE_BYTES = 2**30, 2**27
# Levels are those of about so many pixels.
_SAMPLE_SIDE = 1024
# Shares of the pixels that are shown as black and as white.
_LOW_PERCENTILE, _HIGH_PERCENTILE = 0.5, 99.8

_PRIMARIES: Sequence[Colour] = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
# Two are magenta and green, which people who see no difference between red and green tell apart.
_PAIR: Sequence[Colour] = ((255, 0, 255), (0, 255, 0))
_MANY: Sequence[Colour] = (*_PRIMARIES, (0, 255, 255), (255, 0, 255), (255, 255, 0))
_WHITE: Colour = (255, 255, 255)


class NoSuchImageError(InstsegError):
    """There is no image of this number, or it cannot be read."""


class Images:
    """Readers of the images of a folder, and their pictures.

    Parameters
    ----------
    open_image : callable
        Takes the index of an image and opens it.
    """

    def __init__(self, open_image: Callable[[int], ImageReader]) -> None:
        self._open, self._lock = open_image, threading.Lock()
        self._readers: OrderedDict[int, ImageReader] = OrderedDict()
        self._tiles: OrderedDict[tuple[int, int, int, int], NDArray[Any]] = OrderedDict()
        self._channels: dict[int, list[dict[str, Any]]] = {}

    def reader(self, index: int) -> ImageReader:
        """Return an opened image.

        Raises
        ------
        ImageFileError
            If it cannot be read.
        """
        # One at a time: two requests for the same image are not to read it twice.
        with self._lock:
            reader = self._readers.get(index)
            if reader is None:
                reader = self._readers[index] = self._open(index)
            self._readers.move_to_end(index)
            self._drop()
            return reader

    def _drop(self) -> None:
        """Forget the images that were used longest ago, while all take too much memory; the last two stay."""
        sizes = {index: 0 if reader.streamed else _bytes(reader) for index, reader in self._readers.items()}
        total = sum(sizes.values())
        for index in list(self._readers)[:-2]:
            if total <= _KEPT_BYTES:
                break
            total -= sizes[index]
            # It may be read at this moment: what it holds goes with the last reference.
            del self._readers[index]

    def channels(self, index: int) -> list[dict[str, Any]]:
        """Return the name, colour, levels and range of each channel of an image.

        Raises
        ------
        ImageFileError
            If it cannot be read.
        """
        if index not in self._channels:
            self._channels[index] = _describe_channels(self.reader(index))
        return self._channels[index]

    def png(self, index: int, level: int, row: int, column: int, query: dict[str, list[str]]) -> bytes:
        """Return a tile of an image as PNG.

        Parameters
        ----------
        index, level, row, column : int
        query : dict of str to list of str
            Any of 'channels', 'colors', 'low', 'high' and 'gamma', a value for each channel.

        Raises
        ------
        UsageError
            If there is no such tile, or the query is wrong.
        ImageFileError
            If it cannot be read.
        """
        shown = _shown(self.channels(index), query)
        return encode_png(to_colours(self._tile((index, level, row, column)), shown))

    def _tile(self, place: tuple[int, int, int, int]) -> NDArray[Any]:
        """Return the pixels of a tile; of levels above 0 the last ones are kept, as contrast is tried out on them."""
        with self._lock:
            if place in self._tiles:
                self._tiles.move_to_end(place)
                return self._tiles[place]
        index, level, row, column = place
        reader = self.reader(index)
        pixels = read_level(reader, tile_box(reader.shape, level, row, column), level)
        if level > 0:
            with self._lock:
                self._tiles[place] = pixels
                while sum(tile.nbytes for tile in self._tiles.values()) > _TILE_BYTES and len(self._tiles) > 1:
                    self._tiles.popitem(last=False)
        return pixels

    def sizes(self, index: int) -> dict[str, Any]:
        """Return height, width and levels of an image, and its channels."""
        height, width, _ = self.reader(index).shape
        channels = self.channels(index)
        return {"height": height, "width": width, "levels": level_count(height, width), "channels": channels}


def _bytes(reader: ImageReader) -> int:
    height, width, channels = reader.shape
    return height * width * channels * 2


def _describe_channels(reader: ImageReader) -> list[dict[str, Any]]:
    sample = _sample(reader)
    count = sample.shape[2]
    names, colours = _names_and_colours(count)
    is_picture = sample.dtype == np.uint8 and count == 3
    channels = []
    for number in range(count):
        values = sample[:, :, number]
        low, high = np.percentile(values, [_LOW_PERCENTILE, _HIGH_PERCENTILE]).tolist()
        least, most = float(values.min()), float(values.max())
        if is_picture:
            # The colours of a photograph are right as they are.
            low, high, least, most = 0.0, 255.0, 0.0, 255.0
        elif high <= low:
            low, high = least, most if most > least else least + 1
        colour = "".join(f"{value:02x}" for value in colours[number])
        channels.append({"name": names[number], "color": colour, "low": low, "high": high, "min": least, "max": most})
    return channels


def _sample(reader: ImageReader) -> NDArray[Any]:
    """Return every n-th pixel (h, w, C) of an image; of a streamed one, of its middle."""
    height, width, _ = reader.shape
    level = level_count(height, width) - 1
    if not reader.streamed:
        step = max(1, -(-max(height, width) // _SAMPLE_SIDE))
        pixels = reader.read(tile_box(reader.shape, level, 0, 0))
        pixels = pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]
        return pixels[::step, ::step]
    tile = tile_box(
        reader.shape, min(1, level), height // 2 // (512 << min(1, level)), width // 2 // (512 << min(1, level))
    )
    return reader.read(tile)


def _names_and_colours(count: int) -> tuple[list[str], Sequence[Colour]]:
    if count == 1:
        return ["gray"], [_WHITE]
    if count == 3:
        return ["red", "green", "blue"], _PRIMARIES
    names = [str(number) for number in range(1, count + 1)]
    if count == 2:
        return names, _PAIR
    return names, [_MANY[number % len(_MANY)] for number in range(count)]


def _shown(channels: Sequence[dict[str, Any]], query: dict[str, list[str]]) -> list[ShownChannel]:
    """Return what a query asks to be shown; by default the first three channels, in their colours and levels."""
    indices = [_integer(text, "channels") for text in query.get("channels", map(str, range(min(3, len(channels)))))]
    check_parameter(len(indices) <= MAX_CHANNELS, "channels", len(indices), f"up to {MAX_CHANNELS} at once")
    for index in indices:
        check_parameter(0 <= index < len(channels), "channels", index, f"0 to {len(channels) - 1}")
    for name in ("colors", "low", "high", "gamma"):
        given = query.get(name)
        check_parameter(given is None or len(given) == len(indices), name, given, "a value for each channel")
    shown = []
    for position, index in enumerate(indices):
        channel = channels[index]
        shown.append(
            ShownChannel(
                index=index,
                colour=_colour(query["colors"][position] if "colors" in query else channel["color"]),
                low=_number(query["low"][position], "low") if "low" in query else channel["low"],
                high=_number(query["high"][position], "high") if "high" in query else channel["high"],
                gamma=_number(query["gamma"][position], "gamma") if "gamma" in query else 1.0,
            )
        )
    return shown


def _integer(text: str, name: str) -> int:
    check_parameter(text.isdecimal() and len(text) < 6, name, text, "numbers from 0 on")
    return int(text)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        check_parameter(False, name, text, "a number")
        raise


def _colour(text: str) -> Colour:
    is_colour = len(text) == 6 and all(character in "0123456789abcdefABCDEF" for character in text)
    check_parameter(is_colour, "colors", text, "six hexadecimal digits")
    red, green, blue = bytes.fromhex(text)
    return red, green, blue
