import functools
import inspect
import json
from pathlib import Path

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.kernels import _arc_cosine, infinite_width, random_features
from ddjax.kernels.random_features import convolutional, fully_connected
from tests.slow import slow

GOLDENS = Path(__file__).parent.parent / "goldens"
CASES = json.loads((GOLDENS / "neural_tangents.json").read_text())["cases"]
VALUES = np.load(GOLDENS / "neural_tangents.npz", allow_pickle=False)
CONVOLUTIONAL = [
    convolutional(depth=2),
    convolutional(depth=1, readout="global_average"),
    convolutional(depth=2, pooling="none"),
    convolutional(depth=1, pooling="none", readout="global_average"),
]
FULLY = fully_connected(depth=2)
a_network_of_each_kind = pytest.mark.parametrize(
    "architecture", [FULLY, CONVOLUTIONAL[1], slow(CONVOLUTIONAL[3])]
)


def golden(case):
    """The architecture of a case and its stored float64 arrays, by name."""
    fields = {k: v for k, v in CASES[case].items() if k != "shape"}
    stored = {
        key.partition("/")[2]: VALUES[key]
        for key in VALUES.files
        if key.startswith(case + "/")
    }
    return random_features.Architecture(width=1, **fields), stored


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def relative(found, expected):
    scale = np.abs(np.asarray(expected)).max()
    return np.abs(np.asarray(found) - np.asarray(expected)).max() / scale


def value_and_gradients(kernel, x1, x2, weights):
    """The kernel matrix and the gradients of its weighted sum, in one compilation."""

    @jax.jit
    def run(x1, x2, weights):
        matrix, pull = jax.vjp(kernel, x1, x2)
        return matrix, *pull(weights)

    return run(x1, x2, weights)


def assert_agrees_with_golden(kernel, stored, kind, tolerance):
    """In float64, gradients included."""
    with jax.enable_x64(True):
        given = (stored[name] for name in ("x1", "x2", "weights"))
        matrix, *gradients = value_and_gradients(kernel, *given)
    assert matrix.dtype == jnp.float64
    assert relative(matrix, stored[kind]) < tolerance
    for i, gradient in enumerate(gradients, 1):
        expected = stored[f"{kind}_gradient_{i}"].reshape(gradient.shape)
        assert relative(gradient, expected) < tolerance


def cases(brief):
    """All networks and kinds; compilation is what costs, so few run by default."""
    return pytest.mark.parametrize(
        ("case", "kind"),
        [
            pytest.param(
                case, kind, marks=() if (case, kind) in brief else pytest.mark.slow
            )
            for case in CASES
            for kind in ("nngp", "ntk")
        ],
    )


@cases({("fully_connected", "ntk"), ("pooled_flatten", "ntk"), ("global", "ntk")})
def test_closed_form_agrees_with_neural_tangents_in_float64(case, kind):
    architecture, stored = golden(case)
    kernel = infinite_width.kernel_fn(architecture, kind=kind, block=4)
    assert_agrees_with_golden(kernel, stored, kind, 1e-12)


@pytest.mark.parametrize("case", ["fully_connected", slow("pooled_flatten")])
@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_without_the_readout(case, kind):
    architecture, stored = golden(case)
    with jax.enable_x64(True):
        kernel = infinite_width.kernel_fn(
            architecture, kind=kind, include_readout=False
        )
        found = jax.jit(kernel)(stored["x1"], stored["x2"])
    assert relative(found, stored[f"{kind}_hidden"]) < 1e-12


@pytest.mark.parametrize("case", ["flatten", slow("pooled_global")])
def test_float32_is_float64_rounded(case):
    architecture, stored = golden(case)
    kernel = infinite_width.kernel_fn(architecture)
    x1, x2 = (jnp.asarray(stored[k], jnp.float32) for k in ("x1", "x2"))
    assert relative(jax.jit(kernel)(x1, x2), stored["nngp"]) < 2e-6


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 2e-7), ("float64", 1e-15)]
)
def test_arc_cosine_functions_against_numpy(dtype, tolerance):
    c = np.concatenate([np.linspace(-1, 1, 2001), [0.5, -0.5, 0.0]])
    c = c[np.abs(c) < 1 - 1e-5].astype(dtype)
    exact = c.astype(np.float64)
    angle = np.arccos(exact)
    with jax.enable_x64(dtype == "float64"):
        kappa_1, kappa_0 = _arc_cosine.relu_moments(jnp.asarray(c))
        assert kappa_1.dtype == kappa_0.dtype == dtype
    expected_0 = (np.pi - angle) / (2 * np.pi)
    expected_1 = (np.sin(angle) + exact * (np.pi - angle)) / (2 * np.pi)
    np.testing.assert_allclose(kappa_0, expected_0, rtol=0, atol=tolerance)
    np.testing.assert_allclose(kappa_1, expected_1, rtol=0, atol=tolerance)


def test_arc_cosine_functions_have_finite_derivatives_everywhere():
    def moments(c):
        return jnp.stack(_arc_cosine.relu_moments(c))

    @jax.jit
    def derivatives(c):
        first = jax.vmap(jax.jacfwd(moments))(c)
        return first, jax.vmap(jax.jacfwd(jax.jacrev(moments)))(c)

    ends = jnp.array([-1.0, -1.0 + 1e-7, 1.0 - 1e-7, 1.0, 1.0 + 1e-6], jnp.float32)
    first, second = derivatives(ends)
    np.testing.assert_allclose(first[:, 0], [0, 0, 0.5, 0.5, 0.5], atol=1e-4)
    np.testing.assert_array_equal(first[:, 1], 0)
    assert np.isfinite(second).all()
    inside = jnp.array([-0.9, -0.5, 0.0, 0.5, 0.9])
    slope = derivatives(inside)[0][:, 1]
    np.testing.assert_allclose(
        slope, 1 / (2 * np.pi * np.sqrt(1 - np.asarray(inside) ** 2)), rtol=1e-5
    )


def test_an_activation_has_the_derivatives_of_its_formula():
    def plain(k, t, r):
        kappa_1, kappa_0 = _arc_cosine.relu_moments(k / r)
        return kappa_1 * r, t * kappa_0

    def written_out(k, t, r):
        return tuple(_arc_cosine._activate(_arc_cosine._KernelPair(k, t), r))

    with jax.enable_x64(True):
        k, t, r = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.0, 3))
        for derivative in (
            lambda f: jax.jacrev(f, (0, 1, 2)),
            lambda f: jax.jacfwd(jax.jacrev(f, (0, 1, 2)), (0, 1, 2)),
        ):
            found, expected = (derivative(f)(k, t, 2 * r) for f in (written_out, plain))
            chex.assert_trees_all_close(found, expected, rtol=1e-12)


@a_network_of_each_kind
def test_diagonal_is_the_diagonal_of_the_matrix(architecture):
    images = draw(3, 4, 5, 2)
    kernel = infinite_width.kernel_fn(architecture, kind="ntk")
    diagonal = infinite_width.diagonal_fn(architecture, kind="ntk")
    matrix = jax.jit(kernel)(images, images)
    assert relative(jax.jit(diagonal)(images), np.diag(matrix)) < 1e-6


def test_blocks_and_the_order_of_arguments_do_not_matter():
    architecture = CONVOLUTIONAL[1]
    few, many = draw(2, 4, 4, 1), draw(5, 4, 4, 1, seed=1)
    by_two = infinite_width.kernel_fn(architecture, block=2)
    at_once = infinite_width.kernel_fn(architecture)
    whole = jax.jit(at_once)(few, many)
    assert whole.shape == (2, 5)
    np.testing.assert_allclose(jax.jit(by_two)(few, many), whole, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(by_two)(many, few), whole.T, rtol=1e-6)


@pytest.mark.parametrize("b_std", [0.0, slow(0.1)])
@a_network_of_each_kind
def test_no_nan_where_inputs_coincide_oppose_or_vanish(architecture, b_std):
    image = draw(1, 4, 4, 1)
    images = jnp.concatenate([image, image, -image, 0 * image, 1e4 * image])
    unusual = architecture._replace(b_std=b_std)
    kernel = infinite_width.kernel_fn(unusual, kind="ntk")
    weights = jnp.ones((5, 5))
    chex.assert_tree_all_finite(value_and_gradients(kernel, images, images, weights))


def test_the_ntk_of_coinciding_inputs_is_exact_and_flat():
    """Rounding must not be amplified to its square root on a Gram's diagonal."""
    inputs = draw(20, 300)
    architecture = fully_connected(depth=3)
    kernel = infinite_width.kernel_fn(architecture, kind="ntk")
    matrix = jax.jit(kernel)(inputs, inputs)
    diagonal = infinite_width.diagonal_fn(architecture, kind="ntk")(inputs)
    np.testing.assert_allclose(np.diag(matrix), diagonal, rtol=1e-6)


@functools.cache
def compiled(kind, depth):
    architecture = fully_connected(depth=depth)
    return jax.jit(infinite_width.kernel_fn(architecture, kind=kind))


@hypothesis.given(
    kind=st.sampled_from(["nngp", "ntk"]),
    depth=st.sampled_from([1, 3]),
    exponents=st.lists(st.integers(-12, 12), min_size=6, max_size=6),
    seed=st.integers(0, 100),
)
def test_matrices_are_symmetric_and_positive(kind, depth, exponents, seed):
    """Whatever the norms, with repeated and zero rows."""
    rows = np.random.default_rng(seed).normal(size=(6, 3))
    rows *= 10.0 ** np.array(exponents)[:, None]
    inputs = jnp.asarray(np.concatenate([rows, rows[:1], 0 * rows[:1]]), jnp.float32)
    matrix = np.asarray(compiled(kind, depth)(inputs, inputs), np.float64)
    assert np.isfinite(matrix).all()
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-5)
    unit = np.sqrt(np.diag(matrix))
    # The NTK's cone amplifies the rounding between inputs that all but coincide.
    tolerance = 1e-5 if kind == "nngp" else 2e-3
    assert np.linalg.eigvalsh(matrix / np.outer(unit, unit)).min() > -tolerance


def test_memory_does_not_grow_with_the_number_of_pairs():
    architecture = convolutional(depth=1)
    kernel = infinite_width.kernel_fn(architecture, kind="ntk", block=2)
    loss = jax.grad(lambda x1, x2: jnp.sum(kernel(x1, x2)))

    def temporary(m):
        x1, x2 = (jax.ShapeDtypeStruct((n, 16, 16, 1), jnp.float32) for n in (2, m))
        compiled = jax.jit(loss).lower(x1, x2).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # The covariances of all positions of all pairs would take 34 MB, several times.
    assert temporary(64) < 7e6


# --- finite networks -----------------------------------------------------------------


def finite_network(architecture, outputs, input_shape):
    """Random features' network with a dense readout, in the NTK parameterisation."""

    def init(key):
        hidden = random_features.init_networks(
            jax.random.fold_in(key, 0),
            architecture,
            input_shape=input_shape,
            networks=1,
        )
        one = jnp.zeros((1, *input_shape), jnp.float32)
        size = random_features.features(hidden, one, architecture=architecture).shape[1]
        shape = (size + 1, outputs)
        return hidden, jax.random.normal(jax.random.fold_in(key, 1), shape, jnp.float32)

    def apply(params, x):
        hidden, readout = params
        f = random_features.features(hidden, x, architecture=architecture)
        bias = architecture.b_std * readout[-1:]
        return architecture.w_std * f @ readout[:-1] + bias

    return init, apply


@pytest.mark.parametrize("architecture", [FULLY, slow(CONVOLUTIONAL[1])])
def test_empirical_ntk_converges_to_the_analytic_one(architecture):
    x1, x2 = draw(3, 4, 4, 1), draw(2, 4, 4, 1, seed=1)
    exact = jax.jit(infinite_width.kernel_fn(architecture, kind="ntk"))(x1, x2)
    errors = []
    for width in (16, 1024 if architecture.kind == "fully_connected" else 256):
        finite = architecture._replace(width=width)
        init, apply = finite_network(finite, 3, (4, 4, 1))
        ntk = functools.partial(infinite_width.empirical_ntk, apply)
        found = jax.jit(ntk)(init(jax.random.key(0)), x1, x2)
        errors.append(relative(found, exact))
    assert errors[1] < 0.1 and errors[1] < errors[0] / 2


def test_empirical_ntk_is_the_contraction_of_jacobians():
    def apply(params, x):
        return jnp.tanh(x @ params["w"]) @ params["v"]

    params = {"w": draw(3, 4), "v": draw(4, 2, seed=1)}
    x1, x2 = draw(5, 3, seed=2), draw(2, 3, seed=3)
    ntk = jax.jit(functools.partial(infinite_width.empirical_ntk, apply))
    found = ntk(params, x1, x2)
    jacobian = jax.jit(jax.jacfwd(apply))
    rows = [jax.tree.leaves(jacobian(params, x)) for x in (x1, x2)]
    flat = [jnp.concatenate([j.reshape(len(j), 2, -1) for j in r], -1) for r in rows]
    expected = jnp.einsum("ncp,mcp->nm", *flat) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# --- what a user can get wrong -------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [({"kind": "recurrent"}, "kind is 'recurrent'"), ({"depth": 0}, "depth is 0")],
)
@pytest.mark.parametrize("make", ["kernel_fn", "diagonal_fn"])
def test_unknown_architectures_are_refused(make, change, message):
    wrong = convolutional()._replace(**change)
    with pytest.raises(ValueError, match=message):
        getattr(infinite_width, make)(wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "cntk"}, "kind is 'cntk'"),
        ({"backend": "torch"}, "backend is 'torch'"),
        ({"block": 0}, "block is 0"),
    ],
)
def test_unknown_settings_are_refused(settings, message):
    make = inspect.unwrap(infinite_width.kernel_fn)
    with pytest.raises(ValueError, match=message):
        make(fully_connected(), **settings)


@pytest.mark.parametrize(
    ("architecture", "x1", "x2", "message"),
    [
        (FULLY, (2, 3), (2, 4), r"\(2, 3\) and \(2, 4\)"),
        (FULLY, (2,), (2,), r"x1 has shape \(2,\), not \(n, d\)"),
        (CONVOLUTIONAL[0], (2, 16), (2, 16), r"takes images of .* not .*\(16,\)"),
        (CONVOLUTIONAL[0], (2, 3, 8, 1), (2, 3, 8, 1), "do not survive 2 halvings"),
        (CONVOLUTIONAL[0], (2, 8, 8, 0), (2, 8, 8, 0), r"not .*\(8, 8, 0\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(architecture, x1, x2, message):
    kernel = inspect.unwrap(infinite_width.kernel_fn(architecture))
    with pytest.raises(ValueError, match=message):
        kernel(jnp.zeros(x1), jnp.zeros(x2))


def test_integer_images_are_refused():
    kernel = inspect.unwrap(infinite_width.kernel_fn(fully_connected()))
    images = jnp.zeros((2, 4), jnp.uint8)
    with pytest.raises(ValueError, match="uint8"):
        kernel(images, images)
