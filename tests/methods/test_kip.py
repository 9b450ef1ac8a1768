import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from ddjax import methods
from ddjax.data.feed import Batches
from ddjax.methods.ridge_objective import ridge_loss
from ddjax.synthetic.distilled import decoded
from tests.methods.runs import distilled, drawn, prepared, run

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

        @jax.jit
        def loss(samples):
            return ridge_loss(
                samples @ samples.T,
                real @ samples.T,
                targets,
                real_targets,
                ridge=1e-1,
            )[0]

        gradient = jax.jit(jax.grad(loss))(samples)
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
        features=features,
        per_class=1,
        batch_size=64,
        ridge=1e-3,
        descent={"learning_rate": 0.05},
    )
    _, _, state, metrics = run(method, three_classes, steps=30)
    first, last = metrics["loss"][:5].mean(), metrics["loss"][-5:].mean()
    assert last < 0.7 * first
    assert np.isfinite(np.asarray(state.learned["stored"]["targets"])).all()


def test_a_step_sees_different_samples(three_classes):
    method = methods.kip(features=RANDOM, batch_size=7)
    data, _ = prepared(method, three_classes)
    batch = method.sample(jax.random.key(0), drawn(data))
    rows = np.asarray(batch.real.inputs).reshape(7, -1)
    assert len(np.unique(rows, axis=0)) == 7
    assert batch.real.labels.shape == (7,)
    everything = methods.kip(features=RANDOM, batch_size=10_000)
    data, _ = prepared(everything, three_classes)
    np.testing.assert_array_equal(data.real.inputs, three_classes.train.inputs)


def test_data_on_the_host_stay_there(three_classes):
    train = three_classes.train
    hosted = three_classes._replace(
        train=train._replace(
            inputs=np.asarray(train.inputs), labels=np.asarray(train.labels)
        )
    )
    data, _ = prepared(methods.kip(features=RANDOM, batch_size=16), hosted)
    assert isinstance(data.real, Batches) and data.real.batch_size == 16
    assert isinstance(data.real.split.inputs, np.ndarray)
    unlabelled = hosted._replace(train=hosted.train._replace(labels=None))
    with pytest.raises(ValueError, match="no class labels"):
        methods.kip(features=RANDOM).prepare(jax.random.key(0), unlabelled)


def test_refuses():
    with pytest.raises(ValueError, match="'inputs'"):
        methods.kip(features={"kind": "inputs"})
    with pytest.raises(ValueError, match="batch_size"):
        methods.kip(batch_size=0)


def test_a_misspelt_setting_of_the_decoder_is_one_line():
    with pytest.raises(ValueError, match="'pyramid' takes no 'extend_evry'") as caught:
        methods.kip(decoder={"name": "pyramid", "extend_evry": 3})
    assert "did you mean 'extend_every'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_distilled_names_its_kernel(three_classes):
    method = methods.kip(features=RANDOM, per_class=2, batch_size=16, ridge=1e-3)
    data, _, state, _ = run(method, three_classes, steps=1)
    made = distilled(method, three_classes, data, state)
    assert decoded(made).targets.shape == (6, 3)
    assert made.targets_kind == "scores"
    assert made.recipe["features"]["readout"] is True
    assert made.recipe["ridge"] == {"strength": 1e-3, "convention": "relative"}


def test_another_decoder_descends_within_its_bounds(three_classes):
    method = methods.kip(
        features=RANDOM,
        batch_size=64,
        ridge=1e-3,
        initialization="decoder_noise",
        decoder={"name": "decorrelated_colour", "bounds": "data"},
        descent={"learning_rate": 0.1},
    )
    data, _, state, metrics = run(method, three_classes, steps=20)
    assert metrics["loss"][-3:].mean() < 0.8 * metrics["loss"][0]
    images = decoded(distilled(method, three_classes, data, state)).inputs
    real = np.asarray(three_classes.train.inputs)
    assert real.min() - 1e-5 <= images.min() and images.max() <= real.max() + 1e-5
