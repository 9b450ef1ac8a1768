"""KRR-ST and its boosted form: the outer problem, the pool, and what they leave."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tqdm

from ddjax import methods, synthetic
from ddjax.data.problem import Split
from ddjax.methods import student_pool, teacher
from ddjax.methods.representation_regression import outer_loss
from ddjax.methods.ssl_dd import samples_within
from ddjax.methods.student_pool import student_training
from ddjax.models.networks import convnet
from ddjax.storage.cache import no_cache, on_disk
from ddjax.synthetic import budget
from ddjax.synthetic.decoders.base import Pairs
from ddjax.synthetic.decoders.bases import floats_of
from ddjax.synthetic.distilled import decoded
from tests.conformance import problems
from tests.methods.encoders import small
from tests.methods.runs import distilled, prepared, run

TEACHER = small(width=6)
NETWORK = {"widths": (5,), "depth": 1, "norm": "batch"}
POOL = {"settings": NETWORK, "students": 2, "steps": 3}
# Compiles faster, for what does not ask how students are trained.
DENSE = {
    "network": "fully_connected",
    "settings": {"depth": 2, "width": 8},
    "students": 2,
    "steps": 3,
}
KRR_ST = {"count": 4, "teacher": TEACHER, "pool": DENSE, "batch_size": 20}
SSL_DD = {
    **{k: v for k, v in KRR_ST.items() if k != "count"},
    **{"images": 4, "image_bases": 6, "target_bases": 3, "hidden": 2},
    "approximation_steps": 50,
}


student_of = jax.jit(student_pool.student)


def features_of(training, student, inputs):
    seen = jax.jit(lambda *given: student_pool.features(training, *given))
    return seen(student, inputs)


def _velocities(pool):
    return optax.tree.get(pool.moments, "trace")


def pairs_of(count=5, outputs=3, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return Pairs(
        jnp.asarray(rng.normal(size=(count, 8, 8, 3)), dtype),
        jnp.asarray(rng.normal(size=(count, outputs)), dtype),
    )


def started(training, pairs, seed=0):
    return student_pool.started(jax.random.key(seed), training, pairs)


def at_the_start(method, problem):
    """The set before the first step."""
    data, state = prepared(method, problem)
    return distilled(method, problem, data, state)


def outer_problem(which):
    """Pairs, how students are trained, one of them, and a split, all in float64."""
    pairs, training = pairs_of(dtype=np.float64), student_training(POOL)
    real = pairs_of(7, seed=1, dtype=np.float64)
    student = student_of(started(training, pairs), which)
    return pairs, training, student, Split(real.inputs, targets=real.targets)


def test_the_outer_loss_is_that_of_the_definition():
    with jax.enable_x64(True):
        pairs, training, student, real = outer_problem(1)
        found = jax.jit(lambda *given: outer_loss(training, *given, 1e-3))(
            student, pairs, real
        )
        params, statistics = student
        apply = jax.jit(convnet(outputs=None, **NETWORK).apply)

        def rows(inputs):
            found = apply({"params": params, **statistics}, inputs)
            return np.concatenate([found, np.ones((len(inputs), 1))], axis=1)

        f, g = rows(pairs.inputs), rows(real.inputs)
        gram = f @ f.T
        ridge = 1e-3 * np.trace(gram) * np.eye(len(f))
        predicted = g @ f.T @ np.linalg.solve(gram + ridge, np.asarray(pairs.targets))
        np.testing.assert_allclose(
            found, np.mean((np.asarray(real.targets) - predicted) ** 2), rtol=1e-10
        )


def test_its_gradient_treats_the_trace_as_a_constant():
    with jax.enable_x64(True):
        pairs, training, student, split = outer_problem(0)
        strength = 1e-2

        @jax.jit
        def trace(inputs):
            rows = student_pool.features(training, student, inputs)
            return jnp.sum(rows * rows)

        def value(each, now):
            # Without its annotations: a traced strength is no float.
            return inspect.unwrap(outer_loss)(training, student, each, split, now)

        def with_lambda(each, fixed):
            # The strength that gives the fixed lambda whatever the trace is.
            return values(each, strength * fixed / trace(each.inputs))

        slopes, values = jax.jit(jax.grad(value))(pairs, strength), jax.jit(value)
        rng, fixed = np.random.default_rng(2), trace(pairs.inputs)
        for field in ("inputs", "targets"):
            leaf = getattr(pairs, field)
            direction = jnp.asarray(rng.normal(size=leaf.shape))
            up, down = (
                with_lambda(pairs._replace(**{field: leaf + s * direction}), fixed)
                for s in (1e-5, -1e-5)
            )
            found = float(jnp.sum(getattr(slopes, field) * direction))
            np.testing.assert_allclose(found, (up - down) / 2e-5, rtol=1e-5)


def test_students_compute_in_bfloat16_and_are_kept_in_float32():
    pairs, trained, seen = pairs_of(), {}, {}
    for name in (None, "bfloat16"):
        training = student_training({**DENSE, "compute_dtype": name})
        pool = started(training, pairs)

        @jax.jit
        def step(pool, training=training):
            return student_pool.after_step(
                jax.random.key(9), training, pool, jnp.asarray(1), pairs
            )

        trained[name] = student_of(step(pool), 1)
        seen[name] = features_of(training, trained[name], pairs.inputs)
        assert seen[name].dtype == jnp.float32
    for student in trained.values():
        assert {each.dtype for each in jax.tree.leaves(student)} == {jnp.dtype("f4")}
    # A few digits are the same, the rest is not: the networks did compute in it.
    rough, exact = seen["bfloat16"], seen[None]
    assert 0 < float(jnp.abs(rough - exact).max()) < 0.1 * float(jnp.abs(exact).max())


def test_students_are_trained_as_optax_would_and_drawn_anew():
    pairs, training = pairs_of(), student_training({**POOL, "students": 8, "steps": 5})
    pool = started(training, pairs)
    ages = np.asarray(pool.ages)
    assert ages.min() >= 1 and ages.max() <= 5 and len(set(ages)) > 2
    young, old = int(ages.argmin()), int(ages.argmax())
    step = jax.jit(
        lambda key, pool, which: student_pool.after_step(
            key, training, pool, which, pairs
        )
    )
    after = step(jax.random.key(9), pool, young)
    params, statistics = student_of(pool, young)
    network = convnet(outputs=3, **NETWORK)

    def error(params):
        outputs, _ = network.apply(
            {"params": params, **statistics},
            pairs.inputs,
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.mean((outputs - pairs.targets) ** 2)

    optimizer = optax.chain(
        optax.add_decayed_weights(1e-3), optax.sgd(0.1, momentum=0.9)
    )
    moments = optimizer.init(params)
    trace = jax.tree.map(lambda leaf: leaf[young], _velocities(pool))
    moments = (moments[0], (moments[1][0]._replace(trace=trace), *moments[1][1:]))

    @jax.jit
    def updated(params):
        changes, _ = optimizer.update(jax.grad(error)(params), moments, params)
        return optax.apply_updates(params, changes)

    wanted = updated(params)
    found, _ = student_of(after, young)
    chex.assert_trees_all_close(found, wanted, rtol=1e-4, atol=1e-6)
    # The others stay as they are, and only its age goes up.
    now, before = (
        jax.tree.map(lambda leaf: np.delete(leaf, young, axis=0), each[:3])
        for each in (after, pool)
    )
    chex.assert_trees_all_equal(now, before)
    np.testing.assert_array_equal(after.ages - ages, np.arange(8) == young)
    # One that has had all its steps is drawn anew.
    pool = pool._replace(ages=pool.ages.at[old].set(5))
    after = step(jax.random.key(1), pool, old)
    assert int(after.ages[old]) == 0
    init = jax.jit(convnet(outputs=3, **NETWORK).init)
    fresh = init(jax.random.key(1), pairs.inputs[:1])
    params, statistics = student_of(after, old)
    chex.assert_trees_all_equal({"params": params, **statistics}, dict(fresh))
    assert not np.any(_velocities(after)["Dense_0"]["bias"][old])
    assert step._cache_size() == 1


def test_a_long_preparation_says_how_far_it_is(monkeypatch, capsys):
    shown = functools.partial(tqdm.tqdm, mininterval=0)
    at_once = lambda *, delay, mininterval, **rest: shown(**rest)  # noqa: E731
    monkeypatch.setattr(tqdm, "tqdm", at_once)
    pool = started(student_training(DENSE), pairs_of())
    steps = int(pool.ages.sum())
    bar = capsys.readouterr().err
    assert "students of the pool" in bar and f"{steps}/{steps}" in bar


def test_a_resumed_run_finds_its_students(tmp_path):
    cache, pairs, training = on_disk(tmp_path), pairs_of(), student_training(DENSE)
    keys = [jax.random.key(seed) for seed in (0, 1)]
    first, other = (student_pool.started(key, training, pairs, cache) for key in keys)
    count = len(list(tmp_path.rglob("*.safetensors")))
    again = student_pool.started(keys[0], training, pairs, cache)
    jax.tree.map(np.testing.assert_array_equal, again, first)
    assert len(list(tmp_path.rglob("*.safetensors"))) == count == 2
    assert not np.array_equal(other.ages, first.ages) or not np.array_equal(
        jax.tree.leaves(other.params)[0], jax.tree.leaves(first.params)[0]
    )


@pytest.mark.slow
def test_a_run_predicts_the_teacher_better():
    problem = problems.unlabelled()
    descent = {"learning_rate": 0.02}
    method = methods.krr_st(**{**KRR_ST, "pool": POOL, "descent": descent})
    data, start, end, metrics = run(method, problem, steps=60)
    assert np.mean(metrics["loss"][-10:]) < 0.7 * np.mean(metrics["loss"][:10])
    # Under a student that neither has seen.
    seen = teacher.represented(problem, TEACHER, cache=no_cache)
    split = Split(seen.train.inputs, targets=seen.train.targets)
    training = student_training(POOL)
    loss = jax.jit(lambda *given: outer_loss(training, *given, split, 1e-6))
    losses = []
    for state in (start, end):
        pairs = decoded(distilled(method, problem, data, state))
        losses.append(float(loss(student_of(started(training, pairs, 5), 0), pairs)))
    assert losses[1] < losses[0]


def test_targets_are_the_teachers():
    problem = problems.unlabelled()
    data, _ = prepared(methods.krr_st(**KRR_ST), problem)
    wanted = TEACHER.apply(TEACHER.params, np.asarray(problem.train.inputs))
    np.testing.assert_allclose(data.real.split.targets, wanted, atol=1e-5)
    # Two teachers, two problems; and a problem with targets needs none.
    seen = [
        teacher.represented(problem, each, cache=no_cache)
        for each in (TEACHER, small(width=6, seed=1))
    ]
    assert len({each.fingerprint for each in (problem, *seen)}) == 3
    own = methods.krr_st(**{**KRR_ST, "teacher": None})
    data, _ = prepared(own, problems.images_with_targets())
    assert data.real.split.targets.shape[1] == 2


@pytest.mark.parametrize("shift", ["network", "stored"])
def test_the_boosted_set_keeps_its_budget(tmp_path, shift):
    problem = problems.unlabelled()
    method = methods.ssl_dd(**{**SSL_DD, "shift": shift})
    data, state = prepared(method, problem)
    found = distilled(method, problem, data, state)
    numbers = budget.floats(found, targets=True)
    sizes = {
        "image_shape": (8, 8, 3),
        "target_width": 6,
        "image_bases": 6,
        "target_bases": 3,
        "downscale": 2,
        "views": "rotation",
        "shift": shift,
        "hidden": 2,
    }
    samples = samples_within(4, **sizes)
    assert numbers == floats_of(samples, **sizes) <= 4 * 8 * 8 * 3
    assert floats_of(samples + 1, **sizes) > 4 * 8 * 8 * 3
    pairs = decoded(found)
    assert pairs.inputs.shape == (4 * samples, 8, 8, 3)
    synthetic.save(tmp_path / "set", found)
    again = synthetic.load(tmp_path / "set")
    chex.assert_trees_all_equal(decoded(again), pairs)
    size = sum(f.stat().st_size for f in (tmp_path / "set").rglob("*.safetensors"))
    assert size < 4 * numbers + 4096
    assert again.recipe["teacher"]["name"] == TEACHER.name
    # The networks are the same whenever they are asked for.
    later = distilled(method, problem, data, state)
    chex.assert_trees_all_equal(found.stored, later.stored)


def test_views_start_from_the_teachers_view_of_them():
    problem = problems.unlabelled()
    sizes = {"count": 3, "target_bases": 6, "image_bases": 6, "shift": "stored"}
    method = methods.ssl_dd(**{**SSL_DD, **sizes})
    pairs = decoded(at_the_start(method, problem))
    # With all target bases the targets are the teacher's, of the real images that the
    # coefficients were projected from.
    targets = np.asarray(pairs.targets).reshape(4, 3, 6)
    wanted = np.asarray(TEACHER.apply(TEACHER.params, problem.train.inputs))
    rows = [int(np.abs(wanted - each).sum(axis=1).argmin()) for each in targets[0]]
    images = np.asarray(problem.train.inputs)[rows]
    for turn in range(4):
        turned = np.rot90(images, turn, axes=(1, 2))
        np.testing.assert_allclose(
            targets[turn], TEACHER.apply(TEACHER.params, turned), atol=1e-4
        )


def test_each_part_can_be_switched_off():
    problem = problems.unlabelled()
    found = at_the_start(methods.ssl_dd(**{**SSL_DD, "views": "none"}), problem)
    assert "view_networks" not in found.stored
    assert found.decoder.pairs_per_sample == 1
    random = methods.ssl_dd(
        **{**SSL_DD, "basis_start": "random", "initialization": "decoder_noise"}
    )
    found = at_the_start(random, problem)
    assert abs(float(np.std(found.stored["image_bases"])) - 1) < 0.2


@pytest.mark.parametrize("how", ["uniform", "kmeans", "herding", "k_center"])
def test_selected_pairs_are_real_images_as_the_teacher_sees_them(how):
    problem = problems.unlabelled()
    method = methods.pair_selection(count=5, how=how, teacher=TEACHER)
    found = decoded(at_the_start(method, problem))
    images = np.asarray(problem.train.inputs)
    rows = [
        int(np.abs(images - x).sum((1, 2, 3)).argmin())
        for x in np.asarray(found.inputs)
    ]
    assert len(set(rows)) == 5
    np.testing.assert_array_equal(found.inputs, images[rows])
    np.testing.assert_allclose(
        found.targets, TEACHER.apply(TEACHER.params, images[rows]), atol=1e-5
    )
