"""Counting: signs, ties, largest columns, and what is not finite."""

import numpy as np
import pytest

from ddjax.evaluation.accuracy import accuracy, correct, mean_squared_error


@pytest.mark.parametrize("columns", [(), (1,)])
def test_a_margin_counts_by_its_sign_and_a_tie_is_wrong(columns):
    margins = np.array([2.0, -1.0, 0.0, 0.0, 3.0, np.nan, np.inf]).reshape(-1, *columns)
    labels = np.array([1, 0, 0, 1, 0, 1, 1])
    right = [True, True, False, False, False, False, False]
    assert correct(margins, labels).tolist() == right
    assert accuracy(margins, labels) == pytest.approx(2 / 7)


def test_scores_count_by_the_largest_column():
    scores = np.array([[1.0, 2, 0], [3, 3, 1], [0, 1, 2], [np.nan, 1, 2]])
    right = [True, True, False, False]
    assert correct(scores, np.array([1, 0, 0, 0])).tolist() == right


def test_squared_error_is_a_mean_over_samples_and_outputs():
    assert mean_squared_error(np.ones((2, 2)), np.zeros((2, 2))) == 1.0
    with pytest.raises(ValueError, match=r"\(2,\), targets \(2, 1\)"):
        mean_squared_error(np.ones(2), np.ones((2, 1)))
