"""Tests of the initialisations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddjax import synthetic
from ddjax.data.problem import Split
from ddjax.synthetic.initialization import chosen_rows
from tests.synthetic.problems import blobs, table

KEY = jax.random.key(7)


@pytest.mark.parametrize("device", [True, False])
@pytest.mark.parametrize("shape", [(4,), (3, 3, 2)])
@pytest.mark.parametrize("how", synthetic.INITIALIZATIONS)
def test_shapes_order_and_determinism(how, shape, device):
    problem = blobs(shape=shape, device=device)
    inputs, labels = synthetic.select(KEY, problem, per_class=2, how=how)
    assert inputs.shape == (6, *shape)
    assert inputs.dtype == jnp.float32
    assert labels.dtype == jnp.int32
    assert (np.diff(labels) >= 0).all()
    if how != "uniform":
        np.testing.assert_array_equal(labels, [0, 0, 1, 1, 2, 2])
    again, _ = synthetic.select(KEY, problem, per_class=2, how=how)
    np.testing.assert_array_equal(inputs, again)
    if how in ("balanced", "uniform", "kmeans_nearest", "noise"):
        other, _ = synthetic.select(jax.random.key(8), problem, per_class=2, how=how)
        assert not np.array_equal(inputs, other)


@pytest.mark.parametrize(
    "how", ["balanced", "uniform", "kmeans_nearest", "herding", "k_center"]
)
def test_real_samples_are_distinct_members_of_their_class(how):
    problem = blobs()
    inputs, labels = synthetic.select(KEY, problem, per_class=5, how=how)
    rows = synthetic.chosen_by_class(KEY, problem, per_class=5, how=how)
    assert len(set(rows.tolist())) == 15
    np.testing.assert_array_equal(np.asarray(problem.train.inputs)[rows], inputs)
    np.testing.assert_array_equal(np.asarray(problem.train.labels)[rows], labels)


def test_one_centre_is_the_class_mean():
    problem = blobs()
    centres, labels = synthetic.select(KEY, problem, per_class=1, how="kmeans_centres")
    real, truth = np.asarray(problem.train.inputs), np.asarray(problem.train.labels)
    for centre, label in zip(np.asarray(centres), np.asarray(labels), strict=True):
        np.testing.assert_allclose(centre, real[truth == label].mean(axis=0), rtol=1e-5)


def test_k_means_finds_the_modes_of_a_class():
    problem = blobs(classes=1, each=40)
    inputs = np.asarray(problem.train.inputs).copy()
    inputs[::2] += 100.0
    problem = problem._replace(train=problem.train._replace(inputs=inputs))
    for how in ("kmeans_nearest", "kmeans_centres"):
        found, _ = synthetic.select(KEY, problem, per_class=2, how=how)
        assert sorted(np.round(np.asarray(found).mean(axis=1), -2)) == [0, 100]


def rows_of(how, values, count):
    """Which rows of a table without targets are chosen."""
    problem = blobs()._replace(train=Split(values.astype(np.float32)))
    return chosen_rows(KEY, problem, count=count, how=how)


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(1, 3))
def test_herding_follows_the_mean(seed, samples, columns):
    values = np.random.default_rng(seed).normal(size=(samples, columns))
    found = list(rows_of("herding", values, min(samples, 5)))
    for k in range(len(found)):
        rest = [row for row in range(samples) if row not in found[:k]]
        gaps = [
            np.linalg.norm(values.mean(axis=0) - values[[*found[:k], row]].mean(axis=0))
            for row in rest
        ]
        assert gaps[rest.index(found[k])] <= min(gaps) + 1e-5
    # All of them have the mean itself.
    assert sorted(rows_of("herding", values, samples)) == list(range(samples))


@given(st.integers(0, 10**6), st.integers(3, 9), st.integers(1, 3))
def test_k_centers_cover_within_twice_the_best_radius(seed, samples, count):
    values = np.random.default_rng(seed).normal(size=(samples, 2))
    apart = np.linalg.norm(values[:, None] - values[None], axis=2)

    def radius(rows):
        return apart[:, list(rows)].min(axis=1).max()

    best = min(map(radius, itertools.combinations(range(samples), count)))
    assert radius(rows_of("k_center", values, count)) <= 2 * best + 1e-6


@pytest.mark.parametrize("how", ["herding", "k_center"])
def test_coresets_of_equal_samples_use_each_once(how):
    assert sorted(rows_of(how, np.ones((4, 2)), 4)) == [0, 1, 2, 3]


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_k_means_of_equal_samples_uses_each_once():
    problem = blobs(classes=1, each=4)
    same = np.ones((4, 4), np.float32)
    problem = problem._replace(train=problem.train._replace(inputs=same))
    inputs, _ = synthetic.select(KEY, problem, per_class=3, how="kmeans_nearest")
    assert inputs.shape == (3, 4)


def test_noise_is_standard_normal():
    problem = blobs(shape=(40, 40))
    inputs, _ = synthetic.select(KEY, problem, per_class=3, how="noise")
    assert abs(float(inputs.mean())) < 0.05
    assert abs(float(inputs.std()) - 1.0) < 0.05


def test_errors():
    problem = blobs(each=3)
    nameless = problem._replace(class_names=None)
    unlabelled = problem._replace(train=problem.train._replace(labels=None))
    few = r"class 0 \(class 0\).* has 3 .*class=4"
    for one, per_class, how, message in (
        (problem, 1, "best", r"unknown initialization 'best'; known: balanced"),
        (problem, 0, "balanced", "at least 1, got 0"),
        (problem, 4, "balanced", few),
        (problem, 4, "kmeans_nearest", few),
        (problem, 4, "kmeans_centres", few),
        (problem, 4, "uniform", "12 samples .* 'blobs' has 9 to choose"),
        (nameless, 1, "balanced", "no class labels"),
        (unlabelled, 1, "noise", "no class labels"),
    ):
        with pytest.raises(ValueError, match=message):
            synthetic.select(KEY, one, per_class=per_class, how=how)


@pytest.mark.parametrize("device", [True, False])
@pytest.mark.parametrize("how", synthetic.ROW_INITIALIZATIONS)
def test_rows_of_regression_problems(how, device):
    problem = table(device=device)
    inputs, targets = synthetic.select_rows(KEY, problem, count=6, how=how)
    assert inputs.shape == (6, 3) and targets.shape == (6, 1)
    assert inputs.dtype == targets.dtype == jnp.float32
    again = synthetic.select_rows(KEY, problem, count=6, how=how)
    other = synthetic.select_rows(jax.random.key(8), problem, count=6, how=how)
    np.testing.assert_array_equal(inputs, again[0])
    np.testing.assert_array_equal(targets, again[1])
    # Coresets are chosen without any draw.
    drawn = how not in ("herding", "k_center")
    assert np.array_equal(inputs, other[0]) != drawn


@pytest.mark.parametrize("how", ["uniform", "kmeans_nearest", "herding", "k_center"])
def test_real_rows_are_distinct_and_keep_their_targets(how):
    problem = table(samples=20)
    inputs, targets = synthetic.select_rows(KEY, problem, count=20, how=how)
    rows = chosen_rows(KEY, problem, count=20, how=how)
    assert sorted(rows.tolist()) == list(range(20))
    np.testing.assert_array_equal(np.asarray(problem.train.inputs)[rows], inputs)
    np.testing.assert_array_equal(np.asarray(problem.train.targets)[rows], targets)


def test_centres_have_the_mean_target_of_their_cluster():
    problem = table()
    inputs = np.asarray(problem.train.inputs)
    targets = np.asarray(problem.train.targets)
    one = synthetic.select_rows(KEY, problem, count=1, how="kmeans_centres")
    np.testing.assert_allclose(one[0][0], inputs.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(one[1][0], targets.mean(axis=0), atol=1e-6)
    centres, heights = synthetic.select_rows(
        KEY, problem, count=4, how="kmeans_centres"
    )
    distances = np.square(inputs[:, None] - np.asarray(centres)[None]).sum(axis=2)
    nearest = distances.argmin(axis=1)
    for cluster in range(4):
        members = targets[nearest == cluster]
        np.testing.assert_allclose(heights[cluster], members.mean(axis=0), atol=1e-5)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_centres_of_equal_rows_are_finite():
    problem = table(samples=5)
    same = problem.train._replace(inputs=np.ones((5, 3), np.float32))
    inputs, targets = synthetic.select_rows(
        KEY, problem._replace(train=same), count=3, how="kmeans_centres"
    )
    assert np.isfinite(inputs).all() and np.isfinite(targets).all()


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("how", synthetic.ROW_INITIALIZATIONS)
def test_rows_of_problems_without_targets(how, labelled):
    """Unlabelled problems have rows like any other, those with labels as well."""
    problem = blobs(shape=(3, 3, 2))
    if not labelled:
        unlabelled = problem.train._replace(labels=None)
        problem = problem._replace(train=unlabelled, class_names=None)
    inputs, targets = synthetic.select_rows(KEY, problem, count=4, how=how)
    assert inputs.shape == (4, 3, 3, 2) and targets is None


def test_samples_that_are_not_real_have_no_position():
    for how in ("kmeans_centres", "noise"):
        with pytest.raises(ValueError, match="known: balanced, uniform, kmeans_near"):
            synthetic.chosen_by_class(KEY, blobs(), per_class=1, how=how)
        with pytest.raises(ValueError, match="nearest, herding, k_center(;|$)"):
            synthetic.chosen_rows(KEY, table(), count=1, how=how)


@pytest.mark.parametrize("how", synthetic.INITIALIZATIONS)
def test_float64_problems_start_in_float64(how):
    with jax.enable_x64(True):
        problem = blobs()
        wide = problem.train._replace(inputs=jnp.asarray(problem.train.inputs, float))
        problem = problem._replace(train=wide)
        found, _ = synthetic.select(KEY, problem, per_class=2, how=how)
        assert found.dtype == jnp.float64
        if how in synthetic.ROW_INITIALIZATIONS:
            targets = wide._replace(targets=jnp.asarray(wide.inputs[:, :1], float))
            found = synthetic.select_rows(
                KEY, problem._replace(train=targets), count=3, how=how
            )
            assert {each.dtype for each in found} == {np.dtype("float64")}


def test_errors_of_rows():
    problem, few = table(samples=5), "6 samples .* 'table' has 5 to choose"
    for count, how, message in (
        (1, "balanced", "unknown initialization 'balanced'.*known: u"),
        (0, "uniform", "count must be at least 1, got 0"),
        (6, "uniform", few),
        (6, "kmeans_nearest", few),
        (6, "kmeans_centres", few),
    ):
        with pytest.raises(ValueError, match=message):
            synthetic.select_rows(KEY, problem, count=count, how=how)
