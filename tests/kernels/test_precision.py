"""The policy of `ddjax.kernels.precision`, read from the programs that jax compiles."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.kernels import (
    blocks,
    duality,
    infinite_width,
    linear_probe,
    losses,
    precision,
    random_features,
    ridge,
    unrolled,
)
from ddjax.solvers import _features
from tests import hlo

ROWS, WIDE = jnp.ones((5, 3)), jnp.ones((3, 5))
TARGETS, WEIGHTS = jnp.ones((5, 2)), jnp.ones((3, 2))
GRAM, KEY = jnp.eye(5), jax.random.key(0)
WEIGHTED = {"weights": jnp.ones(5), "intercept": True}
LOGISTIC = {"loss": losses.logistic(), "ridge": 0.5}
IMAGES = jnp.ones((2, 4, 4, 1))


def statistics():
    return ridge.sufficient_statistics(ROWS, TARGETS)


def probe_gradients(rows, weights):
    labels, bias = jnp.zeros(5, jnp.int32), jnp.zeros(2)
    one = linear_probe.cross_entropy_gradient(rows, labels, weights, bias)
    return linear_probe.cosine_distance(one, linear_probe.ProbeGradient(weights, bias))


def iterated(form, space):
    settings = {"step_size": 0.1, "ridge": 0.1, "steps": 5}
    iterate = partial(unrolled.iterate, **settings, form=form, space=space)
    return iterate, ROWS, TARGETS, WEIGHTS


def exact_kernel(architecture, inputs):
    return infinite_width.kernel_fn(architecture, kind="ntk"), inputs, inputs


CASES = {
    "product": (precision.product, ROWS, WEIGHTS),
    "transposed_product": (precision.transposed_product, ROWS, TARGETS),
    "gram": (precision.gram, ROWS),
    "ridge, samples": (partial(ridge.solve, ridge=1.0), WIDE, WEIGHTS),
    "ridge, weighted": (
        partial(ridge.solve, ridge=1.0, convention="relative", **WEIGHTED),
        ROWS,
        TARGETS,
    ),
    "kernel ridge, weighted": (
        partial(ridge.kernel_solve, ridge=1.0, convention="relative", **WEIGHTED),
        GRAM,
        TARGETS,
    ),
    "kernel_predict": (
        lambda cross, gram, y: ridge.kernel_predict(
            cross, ridge.kernel_solve(gram, y, ridge=1.0)
        ),
        jnp.ones((7, 5)),
        GRAM,
        TARGETS,
    ),
    "predict": (
        lambda rows, y: ridge.predict(rows, ridge.solve(rows, y, ridge=1.0)),
        ROWS,
        TARGETS,
    ),
    "leave_one_out": (
        lambda gram, y: ridge.leave_one_out(ridge.kernel_solve(gram, y, ridge=1.0)),
        GRAM,
        TARGETS,
    ),
    "log_determinant": (
        lambda gram, y: ridge.log_determinant(
            ridge.kernel_solve(gram, y, ridge=1.0).factor
        ),
        GRAM,
        TARGETS,
    ),
    "sufficient_statistics": (ridge.sufficient_statistics, ROWS, TARGETS),
    "solve_from_statistics": (
        partial(ridge.solve_from_statistics, ridge=1.0),
        statistics(),
    ),
    "probe": (
        lambda rows, y, real: linear_probe.logits(
            real, linear_probe.fit(rows, y, ridge=1.0, normalize_anchors=True)
        ),
        ROWS,
        TARGETS,
        jnp.ones((7, 3)),
    ),
    "probe, from statistics": (
        lambda rows, y: linear_probe.squared_error_from_statistics(
            linear_probe.fit(rows, y, ridge=1.0), statistics()
        ),
        ROWS,
        TARGETS,
    ),
    "gradient matching": (probe_gradients, ROWS, WEIGHTS),
    "primal": (partial(duality.primal, **LOGISTIC), WEIGHTS, ROWS, TARGETS),
    "dual": (partial(duality.dual, **LOGISTIC), 0.5 * TARGETS, ROWS, TARGETS),
    "gap": (partial(duality.gap, **LOGISTIC), WEIGHTS, ROWS, TARGETS),
    "gap, full": (
        partial(duality.gap, form="full", **LOGISTIC),
        WEIGHTS,
        ROWS,
        TARGETS,
    ),
    "kernel_gap": (
        lambda f, gram, y: duality.kernel_gap(f, 1.0, gram, y, **LOGISTIC),
        TARGETS,
        GRAM,
        TARGETS,
    ),
    **{
        f"unrolled, {form}, {space}": iterated(form, space)
        for form in ("scan", "doubling", "spectral")
        for space in ("feature", "sample")
    },
    "step_size_limit": (unrolled.step_size_limit, ROWS),
    "fourier_features": (
        lambda frequencies, inputs: random_features.fourier_features(
            frequencies, inputs, length_scale=1.0
        ),
        jnp.ones((4, 3)),
        ROWS,
    ),
    "fully connected kernel": exact_kernel(
        random_features.fully_connected(depth=2), ROWS
    ),
    # Without pooling there is no matrix product in it.
    "convolutional kernel": exact_kernel(
        random_features.convolutional(depth=1, pooling="average"), IMAGES
    ),
    "empirical_ntk": (
        partial(
            infinite_width.empirical_ntk, lambda params, x: precision.product(x, params)
        ),
        WEIGHTS,
        ROWS,
        ROWS,
    ),
    "features on a device, forward": (_features._forward, ROWS, WEIGHTS),
    "features on a device, adjoint": (_features._adjoint, ROWS, TARGETS),
}


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_exact(case):
    hlo.assert_products_are_exact(*CASES[case])


def test_gram_of_features_in_blocks_is_exact(monkeypatch):
    seen = []

    def read(function, *examples):
        seen.extend(hlo.products(function, *examples))
        return jax.jit(function)

    monkeypatch.setattr(blocks, "_compiled", read)
    rows = np.ones((5, 3), np.float32)
    blocks.feature_gram_in_blocks(lambda x: 2.0 * x, rows, block=2)
    assert {product.precision for product in seen} == {("HIGHEST", "HIGHEST")}


def test_forward_passes_of_random_networks_follow_the_default():
    """What the policy leaves open, so that a change of it shows."""
    for architecture, inputs in (
        (random_features.fully_connected(depth=2, width=6), ROWS),
        (random_features.convolutional(depth=2, width=6), IMAGES),
    ):
        shape = {"input_shape": inputs.shape[1:], "dtype": inputs.dtype}
        params = random_features.init_networks(KEY, architecture, networks=2, **shape)
        features = partial(random_features.features, architecture=architecture)
        found = hlo.products(features, params, inputs)
        assert {product.precision for product in found} == {("DEFAULT", "DEFAULT")}


# The reader.


def test_the_reader_finds_a_product_that_is_left_open():
    with pytest.raises(AssertionError, match="1 of 2 products in the program of the v"):
        hlo.assert_products_are_exact(
            lambda a, b: precision.product(a, b) + a @ b, ROWS, WEIGHTS
        )
    with pytest.raises(AssertionError, match=r"5x3xf\d+ and 3x2xf\d+: \('DEFAULT'"):
        hlo.assert_products_are_exact(jnp.matmul, ROWS, WEIGHTS)


def test_the_reader_sees_the_gradient_and_the_bodies_of_loops():
    @jax.custom_vjp
    def careless(a):
        return precision.product(a, a)

    careless.defvjp(lambda a: (careless(a), a), lambda a, g: (g @ a.T,))
    with pytest.raises(AssertionError, match="value and gradient"):
        hlo.assert_products_are_exact(careless, GRAM)

    def loop(a):
        return jax.lax.fori_loop(0, 3, lambda _, b: b @ a, a)

    with pytest.raises(AssertionError, match="not at the highest"):
        hlo.assert_products_are_exact(loop, GRAM)


def test_the_reader_refuses_to_show_nothing():
    with pytest.raises(AssertionError, match="no matrix product to read"):
        hlo.assert_products_are_exact(jnp.sin, ROWS)
    integers = jnp.ones((2, 2), jnp.int32)
    assert hlo.products(jnp.matmul, integers, integers) == []
