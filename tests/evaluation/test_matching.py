"""Real data behind another preprocessing than the set's are mapped, or refused."""

import numpy as np
import pytest

from ddjax.data import load, preprocess
from ddjax.data.preprocess import Preprocessing
from ddjax.data.stored import StoredInputs
from ddjax.evaluation import kernel_regression, network, probe
from ddjax.evaluation.matching import (
    matched_blocks,
    matched_problem,
    same_preprocessing,
)
from tests.evaluation.problems import (
    blobs,
    class_means,
    digits,
    measured,
    of_regression,
    regression,
)


def whitened(seed: int, **options):
    return load("digits", preprocessing="zca", seed=seed, on_device=False, **options)


def natural(problem, split: str):
    inputs = np.asarray(getattr(problem, split).inputs, np.float64)
    return preprocess.invert(problem.preprocessing, inputs)


def relative(found, wanted) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_inputs_behind_another_fit_of_the_same_kind_are_mapped():
    # Digits with ZCA and another split seed: tens of percent off, and nothing was said.
    problem, other = whitened(0, zca_ridge=1e-3), whitened(1, zca_ridge=1e-3)
    distilled = class_means(problem)
    as_it_was = np.asarray(other.validation.inputs)
    wanted = preprocess.apply(problem.preprocessing, natural(other, "validation"))
    assert relative(as_it_was, wanted) > 0.2
    matched = matched_problem(distilled, other, "validation")
    assert relative(matched.validation.inputs, wanted) < 1e-6
    assert matched.validation.inputs.dtype == np.float32
    assert matched.preprocessing is distilled.preprocessing
    assert len(matched.train.inputs) == len(matched.test.inputs) == 0
    np.testing.assert_array_equal(matched.validation.labels, other.validation.labels)
    assert matched_problem(distilled, problem, "validation") is problem


@pytest.mark.parametrize("kind", ["none", "standardize"])
def test_inputs_behind_another_kind_are_mapped(kind):
    problem, other = whitened(0), load("digits", preprocessing=kind, seed=0)
    matched = matched_problem(class_means(problem), other, "test", "train")
    for split in ("test", "train"):
        wanted = getattr(problem, split).inputs
        assert relative(getattr(matched, split).inputs, wanted) < 1e-5


def test_blocks_are_those_of_the_matched_problem():
    problem, other = whitened(0), load("digits", preprocessing="standardize", seed=0)
    distilled = class_means(problem)
    whole = matched_problem(distilled, other, "test").test.inputs
    for given in (problem, other):
        wanted = problem.test.inputs if given is problem else whole
        parts = list(matched_blocks(distilled, given, "test", block=100))
        assert [len(part) for part in parts[:-1]] == [100] * (len(whole) // 100)
        np.testing.assert_array_equal(np.concatenate(parts), wanted)
    rows = np.array([5, 3, 200])
    parts = matched_blocks(distilled, other, "test", rows=rows, block=2)
    np.testing.assert_array_equal(np.concatenate(list(parts)), whole[rows])


@pytest.mark.parametrize(
    "evaluation",
    [
        kernel_regression(kernel="inputs", ridge=1e-2),
        probe(features="inputs", loss="softmax", ridge_per_sample=1e-2),
        network(
            architecture="fully_connected",
            settings={"depth": 1},
            epochs=20,
            networks=1,
        ),
    ],
)
def test_scores_do_not_depend_on_how_the_problem_was_preprocessed(evaluation):
    problem = digits()
    distilled = class_means(problem)
    wanted = measured(evaluation, distilled, problem)
    found = measured(evaluation, distilled, load("digits", preprocessing="zca"))
    assert found == pytest.approx(wanted, abs=1e-3)


def test_rounding_makes_no_other_preprocessing():
    one = whitened(0).preprocessing
    stored = Preprocessing(
        one.kind, *(np.asarray(each, np.float32) for each in one[1:])
    )
    assert same_preprocessing(one, stored)
    assert not same_preprocessing(one, one._replace(mean=np.asarray(one.mean) + 1e-3))
    assert not same_preprocessing(one, one._replace(kind="standardize"))
    # Units of a table's columns differ: the smallest counts as much as the largest.
    table = Preprocessing("standardize", np.zeros(2), np.array([1e-6, 1e6]))
    assert not same_preprocessing(table, table._replace(std=np.array([2e-6, 1e6])))
    assert not same_preprocessing(table, table._replace(std=np.ones(3)))
    # Doing nothing is doing nothing, however its arrays are shaped.
    nothing = Preprocessing("none", np.zeros(()), np.ones(()))
    assert same_preprocessing(nothing, preprocess.identity())


def test_inputs_in_files_are_refused_where_they_would_have_to_be_mapped():
    problem = blobs()
    images = np.asarray(problem.test.inputs)
    files = StoredInputs(
        lambda rows: images[rows], np.arange(len(images)), shape=(4,), unit=1.0
    )
    stored = problem._replace(test=problem.test._replace(inputs=files))
    assert matched_problem(class_means(problem), stored, "test") is stored
    shifted = Preprocessing("standardize", np.ones(4), np.ones(4))
    distilled = class_means(problem, preprocessing=shifted)
    with pytest.raises(ValueError, match="'standardize' .* 'none', .* in their files"):
        matched_problem(distilled, stored, "test")


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="the set's inputs have shape"):
        matched_problem(class_means(blobs(size=4)), blobs(size=5), "test")


def test_regression_targets_are_mapped():
    problem = regression()
    of_targets = Preprocessing("standardize", np.array([1.0, -2.0]), np.array([2.0, 3]))
    distilled = of_regression(problem)._replace(targets_preprocessing=of_targets)
    matched = matched_problem(distilled, problem, "test")
    wanted = (np.asarray(problem.test.targets) - [1.0, -2.0]) / [2.0, 3.0]
    np.testing.assert_allclose(matched.test.targets, wanted, rtol=1e-6)
    assert matched.targets_preprocessing is of_targets
    np.testing.assert_array_equal(matched.test.inputs, problem.test.inputs)
