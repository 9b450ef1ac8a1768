"""Random real samples in place of the distilled ones, through the same learner."""

import jax
import numpy as np
import pytest

from ddjax.evaluation import linear_probe, probe, random_real, regression
from ddjax.evaluation.random_real import real_samples
from ddjax.models import feature_maps
from ddjax.synthetic.distilled import decoded
from tests.evaluation import problems
from tests.evaluation.problems import blobs, coloured, of_regression, some_real
from tests.models.encoders.tiny import linear_encoder

KEY = jax.random.key(0)
LEARNER = {"name": "probe", "features": "inputs", "ridge_per_sample": 1e-2}


def _where(problem, rows):
    """The positions of rows among the real training samples."""
    real = np.asarray(problem.train.inputs)
    found = [np.flatnonzero((real == row).all(axis=1)) for row in np.asarray(rows)]
    assert all(len(each) == 1 for each in found)
    return np.concatenate(found)


@pytest.mark.parametrize("kind", ["scores", "signs", "probabilities"])
def test_as_many_of_each_class_with_their_own_labels(kind):
    problem = blobs(classes=3)
    labels = np.array([2, 0, 0, 2, 2, 1])
    distilled = problems.chosen(
        problem, np.zeros((6, 4)), labels, kind=kind, recipe={"ridge": "kept"}
    )
    real = real_samples(KEY, distilled, problem)
    places = _where(problem, real.stored["inputs"])
    assert len(set(places.tolist())) == 6
    truth = np.asarray(problem.train.labels)[places]
    np.testing.assert_array_equal(real.labels, truth)
    np.testing.assert_array_equal(np.bincount(truth), [2, 1, 3])
    # Hard targets, coded as the set's are.
    own = problems.chosen(problem, np.zeros((6, 4)), truth, kind=kind)
    np.testing.assert_array_equal(decoded(real).targets, decoded(own).targets)
    assert real.recipe == distilled.recipe
    # Without labels as evenly as may be; of a class that has fewer, all.
    seven = some_real(problem, 7)._replace(labels=None)
    counts = np.bincount(real_samples(KEY, seven, problem).labels, minlength=3)
    assert sorted(counts.tolist()) == [2, 2, 3]
    few = problem._replace(train=jax.tree.map(lambda each: each[:9], problem.train))
    all_of_one = np.bincount(np.asarray(few.train.labels), minlength=3)[2]
    many = problems.chosen(problem, np.zeros((9, 4)), np.full(9, 2))
    assert len(real_samples(KEY, many, few).labels) == all_of_one


def test_rows_of_a_table_keep_their_targets():
    problem = problems.regression()
    distilled = of_regression(problem, 4)
    real = real_samples(KEY, distilled, problem)
    places = _where(problem, real.stored["inputs"])
    targets = np.asarray(problem.train.targets)[places]
    np.testing.assert_array_equal(real.stored["targets"], targets)
    too_many = of_regression(problem, 30)
    stored = {k: np.concatenate([v, v]) for k, v in too_many.stored.items()}
    with pytest.raises(ValueError, match="60 samples were asked for"):
        real_samples(KEY, too_many._replace(stored=stored), problem)


def test_the_learner_is_the_same_one():
    problem = blobs(classes=2, each=8, gap=1.0)
    distilled = some_real(problem, 4, kind="margin")
    learner = probe(**{k: v for k, v in LEARNER.items() if k != "name"})
    evaluation = random_real(learner=LEARNER, draws=3)
    scores = evaluation.evaluate(KEY, distilled, problem, "test")
    own = []
    for draw in range(3):
        choice, learning = jax.random.split(jax.random.fold_in(KEY, draw))
        real = real_samples(choice, distilled, problem)
        found = learner.evaluate(learning, real, problem, "test")
        own.append(found["probe_logistic/accuracy"].mean)
    found = scores["random_real_probe_logistic/accuracy"]
    assert found == (pytest.approx(np.mean(own)), np.std(own, ddof=1), 3)
    assert len(set(own)) > 1


def test_any_learner_goes():
    problem = problems.regression()
    recipe = {
        "ridge": {"strength": 1e-6, "convention": "per_sample"},
        "features": feature_maps.to_recipe(feature_maps.inputs()),
    }
    scores = random_real(learner="regression").evaluate(
        KEY, of_regression(problem, 8, **recipe), problem, "test"
    )
    assert scores["random_real_regression/r2"].mean > 0.99
    assert regression().name == "regression"
    settings = {"kinds": ["closed_form"]}
    learner = {"name": "linear_probe", **settings}
    evaluation = random_real(learner=learner, encoder=linear_encoder(), draws=2)
    inner = linear_probe(encoder=linear_encoder(), **settings)
    images = coloured(classes=2, each=6)
    distilled = some_real(images, 4)
    found = evaluation.evaluate(KEY, distilled, images, "validation")
    names = inner.evaluate(KEY, distilled, images, "validation")
    assert set(found) == {f"random_real_{name}" for name in names}
