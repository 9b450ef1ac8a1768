import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import methods, runtime
from ddjax.data.feed import Batches
from ddjax.methods import frozen_features
from ddjax.storage.cache import in_memory
from tests.methods.encoders import small
from tests.methods.runs import distilled, drawn, prepared, progress, run

PIXELS = dict(decoder="pixels", initialization="balanced")
SCALARS = {"log_ridge": 1.0, "log_temperature": 1.0}
DESCENT = dict(
    descent={"optimizer": "sgd", "learning_rate": 1.0, "rates": SCALARS}, **PIXELS
)


def gradients(problem, *, key=9, **settings):
    """Those of one step, as what plain descent subtracts; and the step's metrics."""
    method = methods.clp(**DESCENT | settings)
    data, state = prepared(method, problem)

    @jax.jit
    def step(state, data):
        batch = method.sample(jax.random.key(2), data)
        return method.step(state, batch, jax.random.key(key), progress())

    after, metrics = step(state, drawn(data))
    moved = jax.tree.map(jnp.subtract, state.learned, after.learned)
    return state.learned, moved, metrics


def by_definition(stored, targets, log_ridge, log_tau, *, encoder, problem, options):
    """The outer loss from the equations, with a general solver."""
    centring, normalize, anchors, outer = options
    real, rows = (
        encoder.apply(encoder.params, images)
        for images in (problem.train.inputs, stored)
    )
    if centring == "real":
        rows, real = (each - real.mean(axis=0)[None] for each in (rows, real))
    if normalize:
        rows, real = (
            each / jnp.linalg.norm(each, axis=1, keepdims=True) for each in (rows, real)
        )
    shift, offset = jnp.zeros(rows.shape[1]), jnp.zeros(targets.shape[1])
    if centring == "intercept":
        shift, offset = rows.mean(axis=0), targets.mean(axis=0)
    m = rows.shape[0]
    strength = jnp.exp(log_ridge) * jnp.sum(rows**2) / m
    rows = rows - shift[None]
    solved = jnp.linalg.solve(
        rows @ rows.T + strength * jnp.eye(m), targets - offset[None]
    )
    weights = rows.T @ solved
    offset = offset - shift @ weights
    if anchors:
        weights = weights / jnp.linalg.norm(weights, axis=0)[None]
    scores = real @ weights + offset[None]
    labels = problem.train.labels
    if outer == "squared":
        return 0.5 * jnp.mean((jax.nn.one_hot(labels, 3) - 1 / 3 - scores) ** 2)
    logs = jax.nn.log_softmax(scores / jnp.exp(log_tau))
    return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], axis=1))


@pytest.mark.parametrize(
    ("options", "batch_size"),
    [
        (("real", True, True, "cross_entropy"), None),
        (("intercept", True, False, "cross_entropy"), None),
        # Through the statistics of the real features, and through all of them.
        (("intercept", True, False, "squared"), None),
        (("none", False, False, "squared"), 10_000),
    ],
)
def test_the_gradient_is_that_of_the_definition(coloured, encoder, options, batch_size):
    """Of the first case with two encoders, which add up."""
    centring, normalize, anchors, outer = options
    squared = outer == "squared"
    encoders = [encoder, small(seed=1, width=7)][: 2 if anchors else 1]
    learned, moved, metrics = gradients(
        coloured,
        encoder=encoders,
        batch_size=batch_size,
        per_class=2,
        centring=centring,
        normalize_features=normalize,
        normalize_anchors=anchors,
        outer=outer,
        ridge=0.1,
        temperature=0.5,
        learn_targets=True,
        learn_ridge=True,
        learn_temperature=not squared,
    )

    def loss(*given):
        return sum(
            by_definition(*given, encoder=each, problem=coloured, options=options)
            for each in encoders
        )

    stored = learned["stored"]
    at = [stored["inputs"], stored["targets"], jnp.log(0.1), jnp.log(0.5)]
    value, expected = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))(*at)
    assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-4)
    found = [moved["stored"]["inputs"], moved["stored"]["targets"], moved["log_ridge"]]
    found += [] if squared else [moved["log_temperature"]]
    for ours, theirs in zip(found, expected, strict=False):
        scale = float(jnp.abs(theirs).max())
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=2e-3)


def test_encoders_that_share_weights_do_not_share_features(coloured, encoder):
    """Such as one network with two poolings."""
    negative = encoder._replace(
        apply=lambda params, images: -encoder.apply(params, images),
        source={**encoder.source, "pooling": "negative"},
    )
    cache = in_memory()
    first, second = (
        frozen_features.real_features(
            each, coloured, directory=None, block=64, cache=cache
        )
        for each in (encoder, negative)
    )
    np.testing.assert_array_equal(first, -second)


def test_memory_is_that_of_a_micro_batch():
    # Dense layers: what convolutions take is not always counted by the compiler.
    kernels = [jnp.ones((192, 2048)), jnp.ones((2048, 2048))]

    def deep(params, images):
        rows = images.reshape(images.shape[0], -1)
        for kernel in params:
            rows = jnp.tanh(rows @ kernel)
        return rows.mean(axis=1, keepdims=True)

    def temporary(count, micro_batch):
        """Bytes in units of one image's activations in one layer."""

        def loss(images):
            rows = frozen_features.encoded(
                deep, kernels, images, micro_batch=micro_batch
            )
            return jnp.sum(rows**2)

        compiled = jax.jit(jax.grad(loss)).lower(jnp.zeros((count, 8, 8, 3))).compile()
        return compiled.memory_analysis().temp_size_in_bytes / (8 * 8 * 32 * 4)

    assert temporary(128, 8) - temporary(16, 8) < 2
    assert temporary(128, None) - temporary(16, None) > 2 * 112


def test_copies_are_rows_of_the_solve(coloured, encoder):
    """Augmentation that does nothing: copies are worth a weaker ridge."""
    still = {"name": "dsa", "strategy": "flip", "flip": 0.0}
    _, once, _ = gradients(coloured, encoder=encoder, ridge=0.1)
    _, thrice, _ = gradients(
        coloured, encoder=encoder, ridge=0.3, augmentation=still, copies=3
    )
    np.testing.assert_allclose(
        once["stored"]["inputs"], thrice["stored"]["inputs"], atol=1e-5
    )


def test_features_of_several_widths_are_drawn_from(coloured):
    # A checker of types may look at one encoder's features and at another's width.
    labels = coloured.train.labels
    features = [np.zeros((len(labels), width), np.float32) for width in (20, 7)]
    for _ in range(40):
        rows = frozen_features.rows_to_draw_from(features, labels, batch_size=None)
        assert [each.inputs.shape[1] for each in rows] == [20, 7]


def test_encoders_of_one_name_are_told_apart_by_their_weights(coloured, encoder):
    twin = small(seed=1)._replace(name=encoder.name)
    method = methods.clp(encoder=[encoder, twin], **PIXELS)
    data = method.prepare(jax.random.key(0), coloured, in_memory())
    assert not np.allclose(data.real[0].inputs, data.real[1].inputs, atol=1e-2)


def test_learned_scalars_are_kept_with_the_set(coloured, encoder):
    method = methods.clp(
        encoder=encoder, learn_ridge=True, learn_temperature=True, **PIXELS
    )
    data, _, state, metrics = run(method, coloured, steps=3)
    made = distilled(method, coloured, data, state)
    assert made.targets_kind == "scores"
    assert made.recipe["encoders"] == [{"name": "small0", "file": "none"}]
    probe = made.recipe["probe"]
    assert probe["ridge"] != 1e-2 and probe["temperature"] != 0.1
    assert probe["ridge"] == pytest.approx(float(metrics["ridge"][-1]), rel=0.05)


def test_features_that_do_not_fit_stay_on_the_host(
    coloured, encoder, tmp_path, monkeypatch
):
    monkeypatch.setattr(frozen_features, "DEVICE_BYTES", 0)
    method = methods.clp(
        encoder=[encoder, small(seed=1)],
        batch_size=32,
        features_directory=str(tmp_path / "features"),
        centring="real",
        descent={"learning_rate": 0.05},
        **PIXELS,
    )
    data = method.prepare(jax.random.key(0), coloured)
    assert not data.real and all(isinstance(rows, Batches) for rows in data.raw)
    assert all(isinstance(rows.split.inputs, np.ndarray) for rows in data.raw)
    result = runtime.train(
        method, coloured, seed=0, steps=4, workdir=tmp_path / "run", verbose=False
    )
    assert result.step == 4
    # The same rows, hence the same run, as with features on the device.
    monkeypatch.setattr(frozen_features, "DEVICE_BYTES", 2**30)
    there = runtime.train(method, coloured, seed=0, steps=4, verbose=False)
    np.testing.assert_allclose(
        result.distilled.stored["inputs"], there.distilled.stored["inputs"], atol=1e-5
    )
