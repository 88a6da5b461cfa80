"""What Python users have of a model: arrays, paths and readers in, labels and tables out."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

import instseg
from instseg.clustering.cluster import cluster
from instseg.data.discs import draw_discs
from instseg.errors import InstsegError, UsageError
from instseg.io.images import write_picture
from instseg.io.source import open_image
from instseg.settings import ClusterSettings, DiscSettings, TileSettings


@pytest.fixture(scope="module")
def model(tiny_model):
    return instseg.load(str(tiny_model))


@pytest.fixture(scope="module")
def image():
    return draw_discs(np.random.default_rng(3), DiscSettings(size=160, min_discs=12, max_discs=12))[0]


def test_arrays_paths_and_readers_give_the_same(model, image, tmp_path):
    path = tmp_path / "image.png"
    write_picture(path, image)
    expected = model.predict(image)
    assert expected.dtype == np.int32
    assert expected.max() > 3
    for given in (image[..., None], image.tolist(), path, str(path), open_image(path)):
        np.testing.assert_array_equal(model.predict(given), expected)


def test_a_segmentation_has_labels_a_table_and_embeddings(model, image):
    result = model.segment(image)
    np.testing.assert_array_equal(result.labels, model.predict(image))
    table = result.instances.to_dict()
    assert table["label"].tolist() == list(range(1, result.labels.max() + 1))
    assert table["area"].tolist() == np.bincount(result.labels.ravel())[1:].tolist()
    rows, columns = np.nonzero(result.labels == 1)
    assert (table["bbox-0"][0], table["bbox-2"][0]) == (rows.min(), rows.max() + 1)
    assert table["centroid-1"][0] == pytest.approx(columns.mean())
    np.testing.assert_array_equal(cluster(result.embeddings), result.labels)
    assert model.segment(image, return_embeddings=False).embeddings is None


def test_settings_of_a_call_replace_those_of_the_model(model, image):
    few = model.segment(image, ClusterSettings(min_size=250)).labels
    assert few.max() < model.predict(image).max()
    np.testing.assert_array_equal(model.predict(image, ClusterSettings(min_size=250)), few)


def test_progress_counts_tiles(model, image):
    steps = []
    tiles = TileSettings(tile=128, overlap=40)
    model.segment(image, tiles=tiles, progress=lambda done, total, detail: steps.append((done, total)))
    assert steps == [(done, len(steps)) for done in range(1, len(steps) + 1)]
    assert len(steps) > 1


def test_many_images_are_taken_as_they_come(model, image):
    taken = []

    def images():
        for size in (160, 96, 130, 64, 50, 40):
            taken.append(size)
            yield image[:size, :size]

    results = model.segment_many(images())
    first = next(results)
    np.testing.assert_array_equal(first.labels, model.predict(image))
    assert first.embeddings is None
    assert len(first.instances) == first.labels.max()
    # Never all of an endless stream.
    assert len(taken) <= 4
    assert [result.labels.shape for result in results] == [(size, size) for size in (96, 130, 64, 50, 40)]


def test_an_image_that_cannot_be_segmented_ends_many(model, image, tmp_path):
    results = model.segment_many([image, tmp_path / "none.png", image])
    assert next(results).labels.max() > 0
    with pytest.raises(InstsegError, match=r"none\.png"):
        next(results)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5)), r"the image has shape \(0, 5\), expected \(H, W\) or \(H, W, C\)"),
        (np.zeros(5), r"the image has shape \(5,\)"),
        (np.zeros((2, 3, 4, 5)), r"the image has shape \(2, 3, 4, 5\)"),
        (np.full((4, 4), np.nan), "NaN or infinite"),
        (np.full((4, 4), "a"), "expected numbers"),
    ],
)
def test_what_is_no_image_is_refused(model, image, message):
    for call in (model.predict, model.segment, model.embed):
        with pytest.raises(UsageError, match=message):
            call(image)


def test_planes_are_channels_where_some_are_chosen(model, image, tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.stack([image // 2, image]), photometric="minisblack")
    with pytest.raises(InstsegError, match="stack of 2 planes"):
        model.predict(path)
    np.testing.assert_array_equal(model.predict(path, channels="2"), model.predict(image))


def test_a_model_that_does_not_exist_is_named():
    with pytest.raises(InstsegError, match="there is no model no_such_model"):
        instseg.load("no_such_model")
    with pytest.raises(InstsegError, match="no_such_model"):
        instseg.load(Path("no_such_model"))
