"""What went wrong, in rows of pixels small enough to see it."""

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.mistakes import find_mistakes


def row(text):
    """One pixel per character, '.' is background."""
    return np.array([[0 if character == "." else int(character) for character in text]])


def found(truth, predicted):
    mistakes = find_mistakes(row(truth), row(predicted))
    right = list(zip(mistakes.matched_truth.tolist(), mistakes.matched_predicted.tolist(), strict=True))
    return right, {
        name: getattr(mistakes, name).tolist()
        for name in ("missed", "false_alarms", "splits", "merges")
        if len(getattr(mistakes, name))
    }


@pytest.mark.parametrize(
    ("truth", "predicted", "right", "wrong"),
    [
        ("11.22.", "33.44.", [(1, 3), (2, 4)], {}),
        ("......", "......", [], {}),
        ("11....", "......", [], {"missed": [1]}),
        ("......", "..55..", [], {"false_alarms": [5]}),
        # Apart by more than half: both a miss and a false alarm.
        ("1111..", "..5555", [], {"missed": [1], "false_alarms": [5]}),
        ("111111", "555666", [], {"splits": [1]}),
        ("112233", "555533", [(3, 3)], {"merges": [5]}),
        # A splinter makes a split of a match at IoU 5/6, too.
        ("111111", "555556", [], {"splits": [1]}),
        # A small neighbour swallowed makes a merge of a match.
        ("111112", "555555", [], {"merges": [5]}),
        # 6 lies half on 1 only, which is not mainly.
        ("1111..", "55566.", [(1, 5)], {"false_alarms": [6]}),
        # 6 lies half on each of two, mainly on none.
        ("111222", "556677", [(1, 5), (2, 7)], {"false_alarms": [6]}),
    ],
)
def test_by_hand(truth, predicted, right, wrong):
    assert found(truth, predicted) == (right, wrong)


def test_counts_do_not_depend_on_the_numbers_of_labels():
    rng = np.random.default_rng(3)
    truth, predicted = rng.integers(0, 6, (2, 20, 20))
    names = rng.permutation(np.arange(1, 100_000))[:5]
    renamed = np.concatenate([[0], names])[truth]
    assert find_mistakes(truth, predicted).counts() == find_mistakes(renamed, predicted).counts()


def test_truth_and_prediction_exchanged_exchange_the_mistakes():
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, 5, (2, 12, 12)).repeat(3, 1).repeat(3, 2)
    truth, predicted = blocks[0], np.where(rng.random((36, 36)) < 0.8, blocks[0], blocks[1])
    one, other = find_mistakes(truth, predicted), find_mistakes(predicted, truth)
    for name, twin in (("missed", "false_alarms"), ("splits", "merges"), ("matched_truth", "matched_predicted")):
        assert sorted(getattr(one, name)) == sorted(getattr(other, twin))


def test_sizes_that_differ_are_refused():
    with pytest.raises(InstsegError, match="same shape"):
        find_mistakes(row("11"), row("1"))
