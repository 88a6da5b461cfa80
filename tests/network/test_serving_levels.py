"""The graph finds the levels that are found of an array, whatever is in the image."""

import numpy as np
import pytest
import tensorflow as tf

from instseg.network.serving_levels import levels_of_images
from instseg.preprocessing.levels import image_levels

RNG = np.random.default_rng(0)
SIZE = (60, 90)
STRIPES = 60 * (np.arange(SIZE[1]) % 20 < 8)
DISC = np.hypot(*(np.indices(SIZE) - np.array([30, 50])[:, None, None])) < 5
NOISE = RNG.normal(100, 5, SIZE)
IMAGES = {
    "noise": NOISE,
    "bright disc": NOISE + 80 * DISC,
    "dark disc": NOISE - 80 * DISC,
    "disc on nothing": 200.0 * DISC,
    "stripes": NOISE + STRIPES,
    "hot pixels": np.where(RNG.random(SIZE) < 0.004, 255, NOISE + STRIPES),
    "dead pixels": np.where(RNG.random(SIZE) < 0.015, 0, NOISE + STRIPES),
    "frame": np.pad(NOISE + STRIPES, ((30, 10), (0, 40)), constant_values=255),
    "two frames": np.pad(np.pad(NOISE + STRIPES, ((0, 9), (0, 9))), ((9, 0), (9, 0)), constant_values=255),
    "one value": np.full(SIZE, 7),
    "few levels": RNG.normal(20, 0.2, SIZE),
    "flat": NOISE[:4],
    "one pixel": NOISE[:1, :1],
    "more than is compared": RNG.normal(100, 5, (700, 900)),
}


@pytest.fixture(scope="module")
def graph():
    signature = [tf.TensorSpec((None, None, None, None), tf.float32)]
    return {
        rule: tf.function(
            lambda images, rule=rule: levels_of_images(images, rule), input_signature=signature, autograph=False
        )
        for rule in ("robust", "percentiles")
    }


@pytest.mark.parametrize("rule", ["robust", "percentiles"])
@pytest.mark.parametrize("name", IMAGES)
def test_levels_are_those_of_an_array(graph, name, rule):
    image = np.rint(IMAGES[name]).clip(0, 255).astype(np.uint8)[..., None]
    both = np.stack([image, image[::-1]])
    low, high = graph[rule](both.astype(np.float32))
    for number in range(2):
        np.testing.assert_allclose(
            [low[number], high[number]], image_levels(both[number], rule), rtol=1e-4, err_msg=name
        )


def test_channels_have_levels_of_their_own(graph):
    image = np.stack([IMAGES["frame"], IMAGES["frame"].T.reshape(IMAGES["frame"].shape)], axis=-1).astype(np.float32)
    low, high = graph["robust"](image[None])
    np.testing.assert_allclose([low[0], high[0]], image_levels(image), rtol=1e-4)
