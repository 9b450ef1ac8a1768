import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from ddjax import methods
from ddjax.data.problem import Split
from ddjax.methods.ridge_objective import draw, real_data, ridge_loss
from ddjax.models import feature_maps
from ddjax.synthetic.distilled import decoded_inputs
from tests.methods.runs import run

RANDOM = {
    "kind": "random_features",
    "architecture": {"kind": "fully_connected", "depth": 1, "width": 64},
    "networks": 2,
}
EXACT = {"kind": "ntk", "architecture": {"kind": "fully_connected", "depth": 1}}


def test_loss_is_that_of_kernel_ridge_regression():
    rng = np.random.default_rng(0)
    samples, real = rng.standard_normal((6, 9)), rng.standard_normal((20, 9))
    targets, real_targets = rng.standard_normal((6, 3)), rng.standard_normal((20, 3))
    gram, cross = samples @ samples.T, real @ samples.T
    with jax.enable_x64(True):
        value, jitter = ridge_loss(
            *map(jnp.asarray, (gram, cross, targets, real_targets)), ridge=1e-2
        )
    absolute = 1e-2 * np.trace(gram) / 6
    oracle = KernelRidge(alpha=absolute, kernel="linear").fit(samples, targets)
    expected = 0.5 * np.mean((real_targets - oracle.predict(real)) ** 2)
    assert float(value) == pytest.approx(expected, rel=1e-10)
    assert float(jitter) == 0.0


def test_gradient_against_finite_differences():
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        samples, real, targets, real_targets = (
            jnp.asarray(rng.standard_normal(shape))
            for shape in ((4, 5), (9, 5), (4, 2), (9, 2))
        )

        def loss(samples):
            return ridge_loss(
                samples @ samples.T,
                real @ samples.T,
                targets,
                real_targets,
                ridge=1e-1,
            )[0]

        gradient = jax.grad(loss)(samples)
        direction = jnp.asarray(rng.standard_normal(samples.shape))
        eps = 1e-6
        slope = (loss(samples + eps * direction) - loss(samples - eps * direction)) / (
            2 * eps
        )
        assert float(jnp.sum(gradient * direction)) == pytest.approx(
            float(slope), rel=1e-7
        )


@pytest.mark.parametrize("features", [RANDOM, EXACT], ids=["random", "exact"])
def test_steps_lower_the_loss(three_classes, features):
    method = methods.kip(
        features=features, per_class=1, batch_size=64, ridge=1e-3, learning_rate=0.05
    )
    _, _, state, metrics = run(method, three_classes, steps=30)
    first, last = metrics["loss"][:5].mean(), metrics["loss"][-5:].mean()
    assert last < 0.7 * first
    assert np.isfinite(np.asarray(state.learned["targets"])).all()


def test_batches_hold_different_samples(three_classes):
    data = real_data(three_classes, feature_maps.inputs(), batch_size=7)
    batch = draw(jax.random.key(0), data, 7)
    rows = np.asarray(batch.real.inputs).reshape(7, -1)
    assert len(np.unique(rows, axis=0)) == 7
    assert batch.real.targets.shape == (7,)
    everything = draw(jax.random.key(0), data, 10_000).real.inputs
    np.testing.assert_array_equal(everything, three_classes.train.inputs)


def test_data_on_the_host_stay_there(three_classes):
    hosted = three_classes._replace(
        train=Split(*(np.asarray(each) for each in three_classes.train))
    )
    data = real_data(hosted, feature_maps.inputs(), batch_size=16)
    assert isinstance(data.real, methods.HostRows)
    assert data.real.batch_size == 16
    with_labels = hosted._replace(train=hosted.train._replace(targets=None))
    with pytest.raises(ValueError, match="no class labels"):
        real_data(with_labels, feature_maps.inputs(), batch_size=16)


def test_refuses():
    with pytest.raises(ValueError, match="'inputs'"):
        methods.kip(features={"kind": "inputs"})
    with pytest.raises(ValueError, match="batch_size"):
        methods.kip(batch_size=0)


def test_distilled_names_its_kernel(three_classes):
    method = methods.kip(features=RANDOM, per_class=2, batch_size=16)
    data, _, state, _ = run(method, three_classes, steps=1)
    distilled = method.distilled(state, three_classes, data)
    assert distilled.targets.shape == (6, 3)
    assert distilled.targets_kind == "scores"
    assert distilled.provenance["features"]["readout"] is True


@pytest.mark.parametrize("name", ["decorrelated_colour", "pyramid"])
def test_other_parameterizations(three_classes, name):
    method = methods.kip(
        features=RANDOM,
        batch_size=64,
        ridge=1e-3,
        learning_rate=0.1,
        initialization="own",
        parameterization={"name": name, "bounds": "data"},
    )
    data, _, state, metrics = run(method, three_classes, steps=20)
    assert metrics["loss"][-3:].mean() < 0.8 * metrics["loss"][0]
    images = decoded_inputs(method.distilled(state, three_classes, data))
    real = np.asarray(three_classes.train.inputs)
    assert real.min() - 1e-5 <= images.min() and images.max() <= real.max() + 1e-5
