"""Kinds of errors, in rows of pixels small enough to see them."""

import numpy as np
import pytest

from instseg.errors import InstsegError
from instseg.evaluation.error_analysis import ERROR_KINDS, classify_errors


def row(text):
    """One pixel per character, '.' is background."""
    return np.array([[0 if character == "." else int(character) for character in text]])


def errors(truth, predicted):
    """The matched pairs, and the labels of each kind of error that occurs."""
    analysis = classify_errors(row(truth), row(predicted))
    matched = list(zip(analysis.matched_truth.tolist(), analysis.matched_predicted.tolist(), strict=True))
    return matched, {kind: getattr(analysis, kind).tolist() for kind in ERROR_KINDS if len(getattr(analysis, kind))}


@pytest.mark.parametrize(
    ("truth", "predicted", "matched", "expected"),
    [
        ("11.22.", "33.44.", [(1, 3), (2, 4)], {}),
        ("......", "......", [], {}),
        ("11....", "......", [], {"false_negatives": [1]}),
        ("......", "..55..", [], {"false_positives": [5]}),
        # Apart by more than half: both a false negative and a false positive.
        ("1111..", "..5555", [], {"false_negatives": [1], "false_positives": [5]}),
        ("111111", "555666", [], {"splits": [1]}),
        ("112233", "555533", [(3, 3)], {"merges": [5]}),
        # A splinter makes a split of a match at IoU 5/6, too.
        ("111111", "555556", [], {"splits": [1]}),
        # A small neighbour swallowed makes a merge of a match.
        ("111112", "555555", [], {"merges": [5]}),
        # 6 lies half on 1 only, which is not mainly.
        ("1111..", "55566.", [(1, 5)], {"false_positives": [6]}),
        # 6 lies half on each of two, mainly on none.
        ("111222", "556677", [(1, 5), (2, 7)], {"false_positives": [6]}),
    ],
)
def test_by_hand(truth, predicted, matched, expected):
    assert errors(truth, predicted) == (matched, expected)


def test_counts_do_not_depend_on_the_numbers_of_labels():
    rng = np.random.default_rng(3)
    truth, predicted = rng.integers(0, 6, (2, 20, 20))
    names = rng.permutation(np.arange(1, 100_000))[:5]
    renamed = np.concatenate([[0], names])[truth]
    assert classify_errors(truth, predicted).counts() == classify_errors(renamed, predicted).counts()


def test_truth_and_prediction_exchanged_exchange_the_errors():
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, 5, (2, 12, 12)).repeat(3, 1).repeat(3, 2)
    truth, predicted = blocks[0], np.where(rng.random((36, 36)) < 0.8, blocks[0], blocks[1])
    one, other = classify_errors(truth, predicted), classify_errors(predicted, truth)
    for name, twin in (
        ("false_negatives", "false_positives"),
        ("splits", "merges"),
        ("matched_truth", "matched_predicted"),
    ):
        assert sorted(getattr(one, name)) == sorted(getattr(other, twin))


def test_sizes_that_differ_are_refused():
    with pytest.raises(InstsegError, match="same shape"):
        classify_errors(row("11"), row("1"))
