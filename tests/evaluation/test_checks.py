"""The door: wrong splits, shapes, classes and preprocessing are named."""

import numpy as np
import pytest

from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import Split
from ddjax.evaluation.checks import check_match, chosen_split
from tests.evaluation.problems import blobs, class_means


@pytest.mark.parametrize("split", ["train", "valid", ""])
def test_only_validation_and_test_are_measured_on(split):
    with pytest.raises(ValueError, match=f"split is '{split}'; .*validation or test"):
        chosen_split(blobs(), split)


def test_splits_without_samples_or_targets():
    problem = blobs()
    empty = Split(problem.validation.inputs[:0], problem.validation.targets[:0])
    with pytest.raises(
        ValueError, match="validation split of problem 'blobs' is empty"
    ):
        chosen_split(problem._replace(validation=empty), "validation")
    unlabelled = problem.test._replace(targets=None)
    with pytest.raises(ValueError, match="test split .* has no targets"):
        chosen_split(problem._replace(test=unlabelled), "test")
    assert chosen_split(problem, "test") is problem.test


def test_sets_that_do_not_fit_the_problem():
    problem = blobs(classes=3, size=4)
    check_match(class_means(problem), problem)
    with pytest.raises(ValueError, match=r"shape \(4,\), those of problem .* \(5,\)"):
        check_match(class_means(problem), blobs(classes=3, size=5))
    with pytest.raises(ValueError, match="knows 3 classes, problem 'blobs' has 2"):
        check_match(class_means(problem), blobs(classes=2, size=4))
    zca = Preprocessing("zca", np.zeros(4), np.ones(4), np.eye(4), np.eye(4))
    whitened = class_means(problem, preprocessing=zca)
    with pytest.raises(ValueError, match="behind 'zca' .* loaded with 'none'"):
        check_match(whitened, problem)
