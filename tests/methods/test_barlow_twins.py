"""Barlow Twins: its loss, its steps, and runs that leave a network."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import runtime
from ddjax.data import from_arrays
from ddjax.data.problem import Split
from ddjax.evaluation.base import Evaluation, Score
from ddjax.evaluation.trained_network import trained_network
from ddjax.methods.barlow_twins import barlow_twins, redundancy_loss
from ddjax.models import trained
from ddjax.models.trained import TrainedNetwork, make_network
from ddjax.storage.cache import no_cache
from tests.methods.runs import progress

NETWORK = {"name": "convnet", "depth": 1, "width": 4, "norm": "batch"}
CONSTANT = {"schedule": "constant", "warmup": 0.0, "rates": {"vectors": 0.1}}
SGD = {"optimizer": "sgd", "learning_rate": 0.1, **CONSTANT}
QUICK = {
    "network": NETWORK,
    "projector": (6, 5),
    "batch_size": 16,
    "views": ("flip", {"name": "solarize", "probability": 0.5}),
    "descent": SGD,
}
STILL = {**QUICK, "views": ([], [])}


def problem(channels=3, kind="standardize"):
    """Bright or dark images, in more than one dtype under x64."""
    generator = np.random.default_rng(0)

    def split(count):
        labels = (np.arange(count) % 2).astype(np.int32)
        images = 0.6 * generator.random((count, 4, 4, channels))
        images += 0.4 * labels.reshape(-1, 1, 1, 1)
        return images.astype(jnp.result_type(float)), labels

    return from_arrays(
        *(split(40), split(10)),
        validation=split(10),
        name="bright",
        preprocessing=kind,
        class_names=("dark", "bright"),
    )


def plain_loss(first, second, weight):
    """Equation 1, entry by entry, on standardised columns."""
    first, second = (
        (each - each.mean(axis=0)) / np.sqrt(each.var(axis=0) + 1e-5)
        for each in (first, second)
    )
    total = 0.0
    for i in range(first.shape[1]):
        for j in range(first.shape[1]):
            entry = np.mean(first[:, i] * second[:, j])
            total += (1 - entry) ** 2 if i == j else weight * entry**2
    return total


@jax.jit
def loss_of(first, second):
    return redundancy_loss(first, second, redundancy_weight=0.5)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_loss_is_the_equation(size):
    first, second = size * np.random.default_rng(0).normal(size=(2, 5, 3))
    with jax.enable_x64(True):
        loss, sums = loss_of(first, second)
        np.testing.assert_allclose(loss, plain_loss(first, second, 0.5), rtol=1e-9)
        whole = sums["invariance"] + 0.5 * sums["redundancy"]
        np.testing.assert_allclose(loss, whole, rtol=1e-9)


def test_the_loss_has_its_gradient_and_float32_its_digits():
    first, second, direction = np.random.default_rng(0).normal(size=(3, 5, 3))
    expected = plain_loss(first, second, 0.5)

    def value(first):
        return loss_of(first, jnp.asarray(second))[0]

    with jax.enable_x64(True):
        slope, step = jax.jit(jax.grad(value))(first), 1e-6 * direction
        difference = (value(first + step) - value(first - step)) / 2e-6
        np.testing.assert_allclose((slope * direction).sum(), difference, rtol=1e-7)
    for dtype, rtol in ((jnp.float32, 1e-5), (jnp.bfloat16, 0.05)):
        pair = (jnp.asarray(each, dtype) for each in (first, second))
        loss, _ = loss_of(*pair)
        assert loss.dtype == jnp.float32
        np.testing.assert_allclose(loss, expected, rtol=rtol)


def started(method, on):
    data = method.prepare(jax.random.key(0), on, no_cache)
    state = method.init(jax.random.key(1), on, data)
    return data._replace(real=Split(data.real.split.inputs[:16])), state


LARS = {
    "optimizer": "lars",
    "learning_rate": 0.5,
    "settings": {"weight_decay": 0.3, "trust_coefficient": 0.01},
    **CONSTANT,
}


def step_of_lars(**settings):
    """A step without augmentation: the state before and after it, and its metrics."""
    method = barlow_twins(**{**STILL, "descent": LARS}, **settings)
    data, state = started(method, problem())
    return state, *jax.jit(method.step)(state, data, jax.random.key(2), progress())


@pytest.fixture(scope="module")
def stepped():
    return step_of_lars()


def test_a_step_is_that_of_the_definition():
    """Without augmentation, against the network's own training mode and optax."""
    with jax.enable_x64(True):
        method = barlow_twins(**STILL)
        data, state = started(method, problem())
        after, metrics = jax.jit(method.step)(
            state, data, jax.random.key(2), progress()
        )
        images, network = data.real.inputs, make_network(NETWORK)
        params = {
            name.removeprefix("network/"): values
            for group in state.learned.values()
            for name, values in group.items()
        }

        def layer(features, index):
            return features @ params[f"projector/Dense_{index}/kernel"]

        nested = method.distilled(jax.random.key(0), state, problem(), data).variables

        @jax.jit
        def applied(variables):
            return network.apply(variables, images, train=True, mutable=["batch_stats"])

        features, moved = applied(nested)
        _, moved = applied({**nested, **moved})
        hidden = np.asarray(layer(features, 0))
        hidden = (hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + 1e-5)
        embeddings = np.asarray(layer(np.maximum(hidden, 0), 1))
        expected = plain_loss(embeddings, embeddings, 5e-3)
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-9)
        # Both views moved the running statistics, one after the other.
        statistics = after.statistics, moved["batch_stats"]
        chex.assert_trees_all_close(*statistics, rtol=1e-9)
        assert {leaf.dtype for leaf in jax.tree.leaves(after.learned)} == {
            np.dtype(np.float64)
        }


def test_vectors_are_neither_decayed_nor_adapted_to_their_layer(stepped):
    state, found, _ = stepped
    before, after = (
        {
            name: np.asarray(each)
            for each_of in at_step.learned.values()
            for name, each in each_of.items()
        }
        for at_step in (state, found)
    )
    # A first step of LARS moves a matrix by rate times trust of its norm.
    for name in state.learned["matrices"]:
        moved = np.linalg.norm(after[name] - before[name])
        np.testing.assert_allclose(
            moved, 0.5 * 0.01 * np.linalg.norm(before[name]), rtol=1e-3
        )
    # A bias in front of a batch norm has no gradient, and hence stays.
    bias = "network/_Convolution_0/bias"
    assert np.abs(before[bias]).max() > 0.01
    np.testing.assert_allclose(after[bias], before[bias], atol=1e-4)


def train_in(folder, method, evaluate, **settings):
    """Seven steps, looked at and saved after every third."""
    return runtime.train(
        method,
        problem(),
        steps=7,
        workdir=folder,
        evaluations=[Evaluation("x", {}, evaluate)],
        evaluate_every=3,
        checkpoint_every=3,
        **settings,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole run, in a folder, choosing by what its representations are worth."""
    folder = tmp_path_factory.mktemp("twins") / "run"
    calls = []

    def evaluate(key, distilled, problem, split, cache=no_cache):
        assert isinstance(distilled, TrainedNetwork)
        calls.append(trained.digest(distilled))
        return {"x/accuracy": Score(float(len(calls) == 2), 0.0, 1)}

    traces = []
    method = barlow_twins(**QUICK)

    def counted(*arguments):
        traces.append(1)
        return method.step(*arguments)

    result = train_in(folder, method._replace(step=counted), evaluate, verbose=False)
    return method, folder, result, calls, traces


def test_a_run_leaves_the_network_that_was_best(run):
    method, folder, result, calls, traces = run
    assert result.step == 3 and len(traces) == 1
    names = sorted(path.name for path in (folder / "best").iterdir())
    assert names == ["step-3.safetensors"]
    kept = trained.load(folder / "best" / "step-3.safetensors")
    assert trained.digest(kept) == trained.digest(result.distilled) == calls[1]
    assert trained.digest(result.start) == calls[0] and len({*calls}) == 4
    provenance = result.distilled.provenance
    assert provenance["method"] == "barlow_twins" and provenance["steps"] == 7
    assert provenance["settings"]["network"]["norm"] == "batch"
    losses = [row["loss"] for row in result.history if "loss" in row]
    assert np.isfinite(losses).all()


def test_a_run_goes_on_to_the_same_bits(run, tmp_path):
    method, _, _, calls, _ = run
    keywords = {"workdir": tmp_path, "choose": "last", "verbose": False}
    runtime.train(method, problem(), steps=4, **keywords)
    resumed = runtime.train(method, problem(), steps=7, **keywords)
    assert resumed.resumed_from == 4
    assert trained.digest(resumed.distilled) == calls[-1]


def test_a_damaged_best_network_is_not_taken(run, capsys):
    method, folder, result, _, _ = run
    path = folder / "best" / "step-3.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    again = train_in(folder, method, lambda *_: {})
    assert again.step == 7
    assert "best set, of step 3, cannot be read" in capsys.readouterr().out


def test_evaluations_measure_a_network():
    method = barlow_twins(**QUICK)
    on = problem()
    data, state = started(method, on)
    network = method.distilled(jax.random.key(0), state, on, data)
    evaluation = trained_network(kinds=("closed_form", "nearest"))
    found = evaluation.evaluate(jax.random.key(0), network, on, "test")
    assert set(found) == {
        "trained_network/closed_form_accuracy",
        "trained_network/nearest_accuracy",
    }
    # Brightness is in every representation.
    assert all(score.mean == 1.0 for score in found.values())
    with pytest.raises(ValueError, match="measures a TrainedNetwork, got a Problem"):
        evaluation.evaluate(jax.random.key(0), on, on, "test")
    with pytest.raises(ValueError, match="block must be at least 1"):
        trained_network(block=0)


def test_bfloat16_computes_and_float32_keeps(stepped):
    _, after, metrics = step_of_lars(compute_dtype="bfloat16")
    *_, precise = stepped
    np.testing.assert_allclose(metrics["loss"], precise["loss"], rtol=0.1)
    assert metrics["loss"] != precise["loss"]
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(after)}
    assert dtypes == {np.dtype(jnp.result_type(float))}


def test_the_defaults_are_made_of_names():
    settings = barlow_twins().settings
    assert settings["network"]["name"] == "resnet18"
    assert [each["solarize"] for each in settings["views"]] == [0.0, 0.2]
    assert settings["descent"]["optimizer"] == "lars"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "lenet"}, "unknown network 'lenet'; known: convnet"),
        ({"projector": ()}, r"projector is \[\]; it must be the width of each layer"),
        ({"projector": (4, 0)}, r"projector is \[4, 0\]"),
        ({"redundancy_weight": -1.0}, "redundancy_weight must be finite and >= 0, got"),
        ({"views": ("flip",)}, "views must be two augmentations, got 1"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"compute_dtype": "float16"}, "unknown compute_dtype 'float16'; known: float"),
        ({"descent": {"rates": {"biases": 0.1}}}, "descent.rates has no 'biases'"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        barlow_twins(**settings)


ONE_IMAGE = problem()._replace(train=Split(problem().train.inputs[:1]))


@pytest.mark.parametrize(
    ("on", "message"),
    [
        (problem(channels=2), r"1 or 3\), but problem 'bright' has inputs of shape"),
        (ONE_IMAGE, "needs at least 2 images, got 1"),
        (problem(kind="zca"), "has preprocessing 'zca'; load it with 'standardize'"),
    ],
)
def test_problems_that_cannot_be_are_refused(on, message):
    with pytest.raises(ValueError, match=message):
        barlow_twins(**QUICK).prepare(jax.random.key(0), on, no_cache)
