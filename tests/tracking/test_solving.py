"""The best packing of sets: against all packings of small problems."""

from itertools import combinations

import numpy as np
import pytest

from instseg.tracking.solving import best_packing


def best_by_trying(members, gains):
    best = 0.0
    for count in range(len(gains) + 1):
        for chosen in combinations(range(len(gains)), count):
            things = [thing for one in chosen for thing in members[one] if thing >= 0]
            if len(things) == len(set(things)):
                best = max(best, sum(gains[one] for one in chosen))
    return best


@pytest.mark.parametrize("seed", range(30))
def test_no_packing_is_better(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 11))
    futures, pasts = 2 * rng.integers(0, 4, count), 2 * rng.permuted(np.tile(np.arange(4), (count, 1)), axis=1) + 1
    members = np.stack([futures, pasts[:, 0], np.where(rng.random(count) < 0.4, pasts[:, 1], -1)], axis=1)
    gains = rng.choice([0.25, 0.5, 0.75, 1.0], count) if seed % 2 else rng.uniform(0.1, 1, count)
    chosen = best_packing(members, gains)
    things = members[chosen][members[chosen] >= 0]
    assert len(things) == len(np.unique(things))
    assert gains[chosen].sum() == pytest.approx(best_by_trying(members.tolist(), gains.tolist()))


def test_nothing_to_choose_from():
    assert best_packing(np.zeros((0, 3), np.int64), np.zeros(0)).tolist() == []


def test_what_excludes_each_other_in_a_ring_needs_the_solver():
    # Each set shares a member with the next one, so that none gains more than its two neighbours.
    members = np.array([[0, 1, -1], [1, 2, -1], [2, 3, -1], [3, 4, -1], [4, 0, -1]])
    chosen = best_packing(members, np.array([1.0, 0.9, 0.9, 0.9, 0.9]))
    assert len(chosen) == 2
    assert 0 in chosen
