"""A folder of two images, labels for them, and a model of bright objects in microseconds and without TensorFlow."""

import numpy as np
import pytest
from scipy import ndimage

from instseg.inference.embedder import Embedder
from instseg.io.images import write_png
from instseg.settings import ClusterSettings, ModelSettings

SHAPE = (30, 40)


@pytest.fixture
def folder(tmp_path):
    """A folder of two images of `SHAPE`."""
    path = tmp_path / "data"
    path.mkdir()
    for name in ("a", "b"):
        write_png(path / f"{name}.png", np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8))
    return path


def paint_disc(document, row, column, radius=3.0, instance=None):
    return document.act({"kind": "paint", "line": [[row, column]], "radius": radius, "id": instance})


def two_rectangles(number):
    """Return labels of `SHAPE` with two instances, of a number and the one after it."""
    labels = np.zeros(SHAPE, np.int32)
    labels[5:12, 5:12] = number
    labels[5:12, 20:30] = number + 1
    return labels


@pytest.fixture
def paint():
    return paint_disc


@pytest.fixture
def square():
    return two_rectangles


class BrightObjects(Embedder):
    """In place of a network: the embedding of a bright pixel is the middle of those that it is connected with."""

    def __init__(self, channels=1):
        settings = ModelSettings(channels=channels, diameter=8.0, levels="percentiles")
        super().__init__(lambda *_: {}, settings, ClusterSettings(min_size=4))
        self.seen = []

    def _maps(self, image, levels, magnification):
        self.seen.append(image.shape[:2])
        low, high = (float(np.mean(level)) for level in levels)
        bright = image.mean(axis=2) > (low + high) / 2
        pieces, count = ndimage.label(bright)
        middles = np.array([(0, 0), *ndimage.center_of_mass(bright, pieces, range(1, count + 1))])
        positions = np.stack(np.indices(bright.shape), axis=-1).astype(np.float32)
        embeddings = np.zeros((*bright.shape, self.settings.embeddings), np.float32)
        embeddings[..., :2] = np.where(bright[..., np.newaxis], middles[pieces], positions)
        off = np.linalg.norm(embeddings[..., :2] - positions, axis=2)
        return {
            "embeddings": embeddings,
            "foreground": np.where(bright, 0.95, 0.05).astype(np.float32),
            "seeds": np.where(bright, np.exp(-off / 4), 0).astype(np.float32),
            "bandwidth": np.full(bright.shape, 2, np.float32),
        }


@pytest.fixture
def bright_objects():
    return BrightObjects()


def draw_squares(shape, corners, side=8):
    """Return an image (H, W) uint8 of bright squares."""
    image = np.full(shape, 10, np.uint8)
    for row, column in corners:
        image[row : row + side, column : column + side] = 200
    return image


@pytest.fixture(name="draw_squares")
def draw_squares_fixture():
    return draw_squares
