import json

import numpy as np
import pytest

from instseg.clustering.instances import Instances
from instseg.labelling.ordering import Traits, describe, order


def instances(*found):
    """Instances of these areas and scores."""
    areas, scores = (np.array(values, np.float64) for values in (zip(*found, strict=True) if found else ((), ())))
    count = len(areas)
    return Instances(
        label=np.arange(1, count + 1, dtype=np.int32),
        score=scores,
        area=areas.astype(np.int64),
        centroid=np.zeros((count, 2)),
        bbox=np.zeros((count, 4), np.int64),
    )


IMAGE = np.arange(300, dtype=np.uint8).reshape(10, 30, 1) % 251


def traits(doubt, *features):
    return Traits(doubt, np.array(features, np.float64))


def test_doubt_is_one_less_the_mean_score_by_area():
    assert describe(IMAGE, instances((30, 0.9), (10, 0.5))).doubt == pytest.approx(1 - (27 + 5) / 40)
    assert describe(IMAGE, instances()).doubt == 0.5


def test_all_features_are_finite_numbers_for_any_image():
    for image in (IMAGE, IMAGE * 0, IMAGE[:1, :1], np.full((4, 4, 3), -1e30, np.float32)):
        for found in (instances(), instances((4, 0.7))):
            assert np.isfinite(describe(image, found).features).all()


def test_images_of_the_same_look_have_the_same_features_whatever_their_size():
    small, large = np.tile(IMAGE, (2, 2, 1)), np.tile(IMAGE, (8, 8, 1))
    one, other = describe(small, instances((9, 0.8), (9, 0.8))), describe(large, instances(*[(9, 0.8)] * 32))
    assert np.abs(one.features - other.features).max() < 0.15


def test_traits_survive_json():
    before = describe(IMAGE, instances((4, 0.7)))
    after = Traits.from_dict(json.loads(json.dumps(before.to_dict())))
    assert (after.doubt, after.features.tolist()) == (before.doubt, before.features.tolist())


def test_each_candidate_comes_once_and_an_empty_folder_has_no_order():
    rng = np.random.default_rng(0)
    candidates = {str(number): Traits(rng.random(), rng.normal(size=4)) for number in range(300)}
    assert sorted(order(candidates)) == sorted(candidates)
    assert order({}) == []
    assert order({"a": traits(0.1, 1, 2)}, [traits(0.2, 1, 2)]) == ["a"]


def test_the_doubtful_come_first_among_images_that_are_alike():
    candidates = {"sure": traits(0.1, 1, 1), "unsure": traits(0.9, 1, 1), "middling": traits(0.5, 1, 1)}
    assert order(candidates) == ["unsure", "middling", "sure"]


def test_an_image_that_stands_for_many_comes_before_one_that_stands_for_itself():
    crowd = {f"crowd-{number}": traits(0.5, 0.01 * number, 0) for number in range(8)}
    assert order({"odd": traits(0.6, 9, 9), **crowd})[0].startswith("crowd")


def test_a_kind_that_is_labelled_waits_for_one_that_is_not():
    candidates = {"old-a": traits(0.5, 0, 0), "old-b": traits(0.5, 0.1, 0), "new": traits(0.5, 5, 5)}
    first, second, _ = order(candidates)
    assert first.startswith("old")
    assert second == "new"
    assert order(candidates, [traits(0.5, 0, 0.1)])[0] == "new"


def test_names_decide_nothing():
    rng = np.random.default_rng(1)
    values = [Traits(rng.random(), rng.normal(size=3)) for _ in range(20)]
    one = order({f"{number:02}": value for number, value in enumerate(values)})
    other = order({f"{99 - number:02}": value for number, value in enumerate(values)})
    assert [int(name) for name in one] == [99 - int(name) for name in other]
