"""Wrong splits, shapes and classes, missing labels and targets are named."""

import jax.numpy as jnp
import pytest

from ddjax.data.problem import Split
from ddjax.evaluation import kernel_regression, network, probe
from ddjax.evaluation.checks import (
    check_fit,
    chosen_split,
    known_labels,
    known_targets,
    recipe_ridge,
)
from tests.evaluation.problems import (
    blobs,
    class_means,
    measured,
    of_regression,
    regression,
    with_targets,
)


@pytest.mark.parametrize("split", ["train", "valid", ""])
def test_only_validation_and_test_are_measured_on(split):
    with pytest.raises(ValueError, match=f"split is '{split}'; .*validation or test"):
        chosen_split(blobs(), split)


def test_splits_without_samples_labels_or_targets():
    problem = blobs()
    empty = Split(problem.validation.inputs[:0], problem.validation.labels[:0])
    with pytest.raises(
        ValueError, match="validation split of problem 'blobs' is empty"
    ):
        chosen_split(problem._replace(validation=empty), "validation")
    unlabelled = problem._replace(test=problem.test._replace(labels=None))
    assert chosen_split(unlabelled, "test") is unlabelled.test
    with pytest.raises(ValueError, match="test split .* has no class labels"):
        known_labels(unlabelled, "test")
    with pytest.raises(ValueError, match="test split .* has no targets"):
        known_targets(problem, "test")
    assert known_labels(problem, "test").shape == (60,)


@pytest.mark.parametrize(
    "evaluation",
    [
        kernel_regression(kernel="inputs"),
        probe(features="inputs", loss="squared"),
        network(
            architecture="fully_connected", settings={"depth": 1}, epochs=1, networks=1
        ),
    ],
)
def test_labels_are_asked_for_where_they_are_needed(evaluation):
    problem = blobs()
    unlabelled = problem._replace(
        train=problem.train._replace(labels=None),
        test=problem.test._replace(labels=None),
    )
    with pytest.raises(ValueError, match="test split of problem 'blobs' has no class"):
        measured(evaluation, class_means(problem), unlabelled)


def test_sets_that_do_not_fit_the_problem():
    problem = blobs(classes=3, size=4)
    check_fit(class_means(problem), problem)
    with pytest.raises(ValueError, match=r"shape \(4,\), those of problem .* \(5,\)"):
        check_fit(class_means(problem), blobs(classes=3, size=5))
    with pytest.raises(ValueError, match="knows 3 classes, problem 'blobs' has 2"):
        check_fit(class_means(problem), blobs(classes=2, size=4))
    two = with_targets(of_regression(regression()), jnp.zeros((30, 3)))
    with pytest.raises(ValueError, match=r"has 3 target\(s\) a sample, .* has 2"):
        check_fit(two, regression())


def test_representations_name_no_classes():
    problem = blobs(classes=3)
    teacher = with_targets(class_means(problem), jnp.zeros((3, 7)), "representation")
    check_fit(teacher._replace(class_names=None), problem)


def test_the_ridge_of_a_set():
    problem = regression()
    ridge = {"strength": 0.5, "convention": "absolute"}
    assert recipe_ridge(of_regression(problem, ridge=ridge)) == (0.5, "absolute")
    with pytest.raises(ValueError, match="does not say which ridge"):
        recipe_ridge(of_regression(problem))
    wrong = of_regression(problem, ridge={**ridge, "convention": "mean"})
    with pytest.raises(ValueError, match="unknown convention 'mean'"):
        recipe_ridge(wrong)
