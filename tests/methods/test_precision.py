"""Products that end in a solve or a gap, and runs in float64 from end to end."""

import jax
import numpy as np
import pytest

from ddjax import data, methods
from tests.hlo import products
from tests.methods.runs import distilled, drawn, prepared, progress, run

ARCHITECTURE = {"kind": "fully_connected", "depth": 1, "width": 31}
NETWORKS = {
    "kind": "random_features",
    "architecture": ARCHITECTURE,
    "networks": 3,
    "readout": True,
}
EXACT = {"kind": "ntk", "architecture": {"kind": "fully_connected", "depth": 1}}
# What has this dimension are features of all networks, with the constant of the head.
FEATURES = 3 * 31 + 1


def products_of_step(method, problem):
    """Dimensions of both factors, and whether every digit of them counts."""
    data, state = prepared(method, problem)

    def step(state, data, key):
        return method.step(state, method.sample(key, data), key, progress())

    return [
        (*(tuple(map(int, each.split("x")[:-1])) for each in product.operands),)
        + (set(product.precision) == {"HIGHEST"},)
        for product in products(step, state, drawn(data), jax.random.key(0))
    ]


@pytest.mark.parametrize(
    "method",
    [
        methods.kip(features=NETWORKS, batch_size=17),
        methods.rfad(architecture=ARCHITECTURE, networks=3, batch_size=17),
        methods.dgkip(features=NETWORKS, real_ridge=1e-2, loss="softmax"),
        methods.dgkip(
            features=NETWORKS, real_ridge=1e-2, loss="softmax", gap_space="kernel"
        ),
    ],
    ids=["kip", "rfad", "dgkip", "dgkip in the kernel"],
)
def test_products_between_features_are_exact(three_classes, method):
    """Of Grams, predictions and the gradients of both, on any accelerator."""
    found = products_of_step(method, three_classes)
    between = [each for each in found if FEATURES in each[0] + each[1]]
    assert len(between) >= 3
    assert all(exact for *_, exact in between), between
    # The networks' own layers follow jax's default, or the check would prove nothing.
    assert not all(exact for *_, exact in found)


@pytest.mark.parametrize("name", ["kip", "dgkip"])
def test_products_of_exact_kernels_are_exact(three_classes, name):
    ridge = {"real_ridge": 1e-2} if name == "dgkip" else {"batch_size": 17}
    few = three_classes._replace(
        train=data.Split(*(each[:60] for each in three_classes.train[:2]))
    )
    found = products_of_step(methods.make(name, features=EXACT, **ridge), few)
    # Sums of two vectors' products are no matrix products on any device.
    matrices = [each for each in found if len(each[0] + each[1]) > 2]
    assert len(matrices) >= 3 and all(exact for *_, exact in matrices), matrices


def tables(*, classes, count=40):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(count, 6))
    labels = np.arange(count) % 3
    targets = inputs @ rng.normal(size=(6, 2)) + 0.1 * rng.normal(size=(count, 2))
    return data.from_arrays(
        (inputs, labels if classes else targets), preprocessing="none"
    )


IN_DOUBLE = {
    "kip": {"features": EXACT, "ridge": 1e-3},
    "rfad": {"architecture": ARCHITECTURE, "networks": 2, "loss": "platt"},
    "dgkip": {"features": NETWORKS, "real_ridge": 1e-2, "duals": "learned"},
    "selection": {},
    "regression": {"count": 4, "draws": 2, "inner_steps": 5},
    "analytic": {},
    "nystrom": {"count": 4},
    "row_selection": {"count": 4, "how": "leverage"},
}


@pytest.mark.parametrize("name", sorted(IN_DOUBLE))
def test_methods_run_in_float64(x64, name):
    """The data, the state, the metrics and the set, from end to end."""
    on_rows = name in ("regression", "analytic", "nystrom", "row_selection")
    problem = tables(classes=not on_rows)
    assert problem.train.inputs.dtype == np.float64
    method = methods.make(name, **IN_DOUBLE[name])
    prepared, _, state, metrics = run(method, problem, steps=2)
    made = distilled(method, problem, prepared, state)
    pairs = made.decoder.decode(made.stored)
    for what in (prepared, state, metrics, pairs):
        for path, leaf in jax.tree.leaves_with_path(what):
            dtype = np.asarray(leaf).dtype
            if jax.dtypes.issubdtype(dtype, np.floating):
                assert dtype == np.float64, jax.tree_util.keystr(path)


def test_the_loss_of_kip_has_the_digits_of_float64(x64):
    """Against NumPy, the NTK of one hidden layer written out."""
    problem = tables(classes=True)
    architecture = {**EXACT["architecture"], "width": 64}
    method = methods.kip(
        features={"kind": "ntk", "architecture": architecture}, ridge=1e-3
    )
    settings = method.settings["features"]["architecture"]
    _, start, _, metrics = run(method, problem, steps=1)
    stored = start.learned["stored"]
    support, targets = (np.asarray(stored[k]) for k in ("inputs", "targets"))
    real = np.asarray(problem.train.inputs)
    wanted = np.eye(3)[np.asarray(problem.train.labels)] - 1 / 3

    weight, bias = settings["w_std"] ** 2, settings["b_std"] ** 2

    def ntk(a, b):
        rows = [
            np.hstack([np.sqrt(weight / 6) * x, np.full((len(x), 1), np.sqrt(bias))])
            for x in (a, b)
        ]
        first = rows[0] @ rows[1].T
        sizes = [np.linalg.norm(x, axis=1) for x in rows]
        units = [x / size[:, None] for x, size in zip(rows, sizes, strict=True)]
        # From the sides of a triangle: stable where rows are equal, unlike the arccos.
        apart, along = (
            np.linalg.norm(units[0][:, None] + sign * units[1][None], axis=2)
            for sign in (-1, 1)
        )
        angle = 2 * np.arctan2(apart, along)
        moment = np.sin(angle) + (np.pi - angle) * np.cos(angle)
        second = weight * np.outer(*sizes) * moment / (2 * np.pi) + bias
        return second + weight * (np.pi - angle) / (2 * np.pi) * first

    gram = ntk(support, support)
    strength = 1e-3 * np.trace(gram) / len(gram)
    solved = np.linalg.solve(gram + strength * np.eye(len(gram)), targets)
    expected = 0.5 * np.mean((wanted - ntk(real, support) @ solved) ** 2)
    np.testing.assert_allclose(metrics["loss"][0], expected, rtol=1e-13)
