"""Condensation methods against PyTorch's numbers and plain definitions."""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from ddjax import methods
from ddjax.data import augment
from ddjax.methods import class_samples, gradient_matching, student_pool
from ddjax.methods.dm import mean_feature_distance
from ddjax.methods.frepo import outer_loss, separation
from ddjax.methods.learned_set import Samples
from ddjax.methods.trajectory_matching import normalized_distance
from ddjax.models import networks
from ddjax.synthetic.targets import one_hot
from tests.methods.runs import drawn, prepared, progress, run

GOLDENS = np.load(Path(__file__).parent.parent / "goldens" / "matching.npz")
SETTINGS = {"depth": 2, "widths": (4, 6)}
NETWORK = networks.make("convnet", outputs=2, **SETTINGS)
LAYERS = {"depth": 2, "width": 4}
DENSE = {"architecture": "fully_connected", "settings": LAYERS}
POOL = {"network": "fully_connected", "settings": LAYERS, "students": 1, "steps": 4}
LABELS = jnp.asarray([0, 0, 1, 1], jnp.int32)


def params_of_goldens(prefix=""):
    """The weights of the goldens under flax's names, channels last."""

    def convolution(place):
        kernel = GOLDENS[f"{prefix}conv{place}"].transpose(2, 3, 1, 0)
        return {"kernel": kernel, "bias": GOLDENS[f"{prefix}conv{place}_bias"]}

    def norm(place):
        found = (GOLDENS[f"{prefix}norm{place}_{kind}"] for kind in ("weight", "bias"))
        return dict(zip(("scale", "bias"), found, strict=True))

    dense = {
        "kernel": GOLDENS[f"{prefix}dense"].T,
        "bias": GOLDENS[f"{prefix}dense_bias"],
    }
    found = {"Dense_0": dense}
    for place in range(2):
        found[f"_Convolution_{place}"] = convolution(place)
        found[f"GroupNorm_{place}"] = norm(place)
    return jax.tree.map(jnp.asarray, found)


def agrees(name, loss, *given):
    """A loss and its gradients, in the order of the goldens' `_by_` arrays."""
    value_and_slopes = jax.value_and_grad(loss, tuple(range(len(given))))
    check(name, *jax.jit(value_and_slopes)(*given))


def check(name, value, slopes):
    np.testing.assert_allclose(value, GOLDENS[name], rtol=1e-6)
    for what, found in zip(("samples", "targets", "step_sizes"), slopes, strict=False):
        wanted = GOLDENS[f"{name}_by_{what}"]
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found, wanted, atol=1e-6 * scale)


def test_distribution_matching_is_that_of_pytorch():
    with jax.enable_x64(True):
        params = {"params": params_of_goldens()}
        seen = NETWORK.clone(outputs=None)

        def loss(samples):
            real = class_samples.by_class(jnp.asarray(GOLDENS["real"]), 2)
            means = jnp.stack([seen.apply(params, each).mean(axis=0) for each in real])
            return mean_feature_distance(means, seen.apply(params, samples))

        agrees("distribution_matching", loss, jnp.asarray(GOLDENS["samples"]))


def test_gradient_matching_is_that_of_pytorch():
    """As the step computes it, class by class and with its own gradient."""
    with jax.enable_x64(True):
        samples = jnp.asarray(GOLDENS["samples"])
        value, slopes = gradient_matching.matched(
            jax.random.split(jax.random.key(0), 2),
            NETWORK,
            params_of_goldens(),
            {},
            class_samples.by_class(jnp.asarray(GOLDENS["real"]), 2),
            Samples(samples, one_hot(LABELS, 2)),
            class_samples.augmenter(None, shared=True),
        )
    check("gradient_matching", value, [slopes])


def test_feature_regression_is_that_of_pytorch():
    training = student_pool.student_training({"settings": SETTINGS})

    with jax.enable_x64(True):
        student = (params_of_goldens(), {})
        real = jnp.asarray(GOLDENS["real"])
        labels = jnp.repeat(jnp.arange(2, dtype=jnp.int32), 3)

        def loss(samples, targets):
            return outer_loss(
                *(training, student, Samples(samples, targets), real, labels),
                strength=1e-2,
                mirrored=True,
            )

        given = (jnp.asarray(GOLDENS[name]) for name in ("samples", "targets"))
        agrees("feature_regression", loss, *given)


def _trained(samples, targets, step_sizes):
    """The network of the goldens after plain SGD on the samples."""

    def loss(params, statistics, _):
        return class_samples.trained_on(NETWORK, params, statistics, samples, targets)

    start = params_of_goldens()
    return class_samples.after_steps(loss, start, {}, step_sizes, None)[0]


def test_unrolled_training_is_that_of_pytorch():
    """What DD, and MTT and DATM, descend on, by samples, targets and step sizes."""
    with jax.enable_x64(True):
        real = jnp.asarray(GOLDENS["real"])
        wanted = one_hot(jnp.repeat(jnp.arange(2), 3), 2)
        ends = [params_of_goldens(), params_of_goldens("wanted_")]
        (start, unravel), (end, _) = (ravel_pytree(each) for each in ends)
        losses = {
            "unrolled": lambda found: class_samples.trained_on(
                NETWORK, unravel(found), {}, real, wanted
            )[0],
            "trajectory": lambda found: normalized_distance(found, start, end),
        }

        @jax.jit
        def values_and_slopes(*given):
            # The unrolled steps are differentiated once for both.
            found, pull = jax.vjp(lambda *x: ravel_pytree(_trained(*x))[0], *given)
            each = [jax.value_and_grad(loss)(found) for loss in losses.values()]
            return [(value, pull(slopes)) for value, slopes in each]

        names = ("samples", "targets", "step_sizes")
        both = values_and_slopes(*(jnp.asarray(GOLDENS[name]) for name in names))
    for name, (value, slopes) in zip(losses, both, strict=True):
        check(name, value, slopes)


def coloured(*, brightness=0.0, saturation=1.0, contrast=1.0):
    values = {"brightness": brightness, "saturation": saturation, "contrast": contrast}
    return augment.color(), {name: [each] for name, each in values.items()}


TRANSFORMS = {
    "flip": (augment.flip(), [True]),
    "scale": (augment.scale(), {"rows": [1.15], "columns": [0.9]}),
    "rotate": (augment.rotate(), [11.0]),
    "crop": (augment.crop(), {"rows": [-1], "columns": [1]}),
    "cutout": (augment.cutout(), {"row": [2], "column": [-1]}),
    "brightness": coloured(brightness=0.3),
    "saturation": coloured(saturation=1.7),
    "contrast": coloured(contrast=0.8),
}


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_transforms_are_those_of_pytorch(name):
    transform, params = TRANSFORMS[name]
    with jax.enable_x64(True):
        params = jax.tree.map(
            jnp.asarray, params, is_leaf=lambda each: isinstance(each, list)
        )
        found = jax.jit(transform.apply)(params, jnp.asarray(GOLDENS["samples"]))
    np.testing.assert_allclose(found, GOLDENS[f"transform_{name}"], atol=1e-9)


def test_a_step_of_dm_is_the_plain_definition(three_classes):
    """Networks and transforms of the step's key; plain SGD, so that it can be seen."""
    method = methods.dm(
        **DENSE,
        per_class=2,
        real_per_class=5,
        augment="flip",
        descent={"learning_rate": 0.1},
    )
    data, state = prepared(method, three_classes)
    batch, key = drawn(data), jax.random.key(3)
    after, metrics = jax.jit(method.step)(state, batch, key, progress())

    network_key, key = jax.random.split(key)
    network = networks.make_for("fully_connected", LAYERS, outputs=3, shape=(8, 8, 1))
    real, labels = class_samples.drawn(batch.real)
    assert labels.tolist() == np.repeat([0, 1, 2], 5).tolist()
    variables = jax.jit(network.init)(network_key, real[:1])
    transform = augment.augmenter("flip", shared=True)

    def loss(samples):
        total = 0.0
        for label, own in enumerate(jax.random.split(key, 3)):
            both = (
                transform(own, real[5 * label : 5 * label + 5]),
                transform(own, samples[2 * label : 2 * label + 2]),
            )
            means = [
                network.clone(outputs=None).apply(variables, each).mean(0)
                for each in both
            ]
            total = total + jnp.sum(jnp.square(means[0] - means[1]))
        return total

    before = state.learned["stored"]["inputs"]
    value, slopes = jax.jit(jax.value_and_grad(loss))(before)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-4)
    moved = (before - after.learned["stored"]["inputs"]) / 0.1
    np.testing.assert_allclose(moved, slopes, atol=1e-4 * np.abs(slopes).max())
    np.testing.assert_array_equal(
        after.learned["stored"]["targets"], state.learned["stored"]["targets"]
    )


def test_the_network_of_dc_trains_on_the_set_and_is_drawn_anew(three_classes):
    method = methods.dc(
        **DENSE, per_class=2, real_per_class=4, outer_steps=2, network_steps=3
    )
    data, state = prepared(method, three_classes)
    network = networks.make_for("fully_connected", LAYERS, outputs=3, shape=(8, 8, 1))
    init = jax.jit(network.init)
    compiled = jax.jit(method.step)

    def step(state, place):
        key = jax.random.fold_in(jax.random.key(4), place)
        fresh = init(jax.random.split(key, 3)[0], jnp.zeros((1, 8, 8, 1)))
        after, _ = compiled(state, drawn(data, step=place), key, progress(place, 9))
        return after, fresh["params"]

    def trained(params, stored):
        def loss(params):
            outputs = network.apply({"params": params}, stored["inputs"])
            return optax.softmax_cross_entropy(outputs, stored["targets"]).mean()

        slope = jax.jit(jax.grad(loss))
        for _ in range(3):
            slopes = slope(params)
            params = jax.tree.map(lambda p, g: p - 0.01 * g, params, slopes)
        return params

    first, fresh = step(state, 0)
    wanted = trained(fresh, first.descent.learned["stored"])
    chex.assert_trees_all_close(first.params, wanted, atol=1e-5)
    # The last step of a network: it has served, and nothing more is made of it.
    second, _ = step(first, 1)
    jax.tree.map(np.testing.assert_array_equal, second.params, first.params)
    third, fresh = step(second, 2)
    wanted = trained(fresh, third.descent.learned["stored"])
    np.testing.assert_allclose(
        third.params["Dense_0"]["kernel"], wanted["Dense_0"]["kernel"], atol=1e-5
    )


def test_published_loops():
    assert gradient_matching.loops(1) == (1, 1)
    assert gradient_matching.loops(10) == (10, 50)
    assert gradient_matching.loops(15) == (10, 50)
    assert gradient_matching.loops(50) == gradient_matching.loops(60) == (50, 10)


def test_idm_matches_classes_as_well(three_classes):
    """Its loss is DM's on the network of the pool, and the cross-entropy."""
    method = methods.idm(
        pool=POOL, real_per_class=4, augment=None, class_weight=2.0, per_class=1
    )
    data, state = prepared(method, three_classes)
    batch = method.sample(jax.random.key(0), drawn(data))
    after, metrics = jax.jit(method.step)(state, batch, jax.random.key(1), progress())
    decoder = method.distilled(jax.random.key(0), state, three_classes, data).decoder
    pairs = decoder.decode(state.descent.learned["stored"])
    assert pairs.inputs.shape == (12, 8, 8, 1)  # four parts a sample
    student = student_pool.student(state.pool, jnp.int32(0))
    training = student_pool.student_training({**POOL, "loss": "cross_entropy"})
    real, _ = class_samples.drawn(batch)
    means, found = (
        np.reshape(student_pool.features(training, student, each), (3, 4, -1)).mean(1)
        for each in (real, pairs.inputs)
    )
    answers = student_pool.outputs(training, student, pairs.inputs, 3)
    error = optax.softmax_cross_entropy(answers, pairs.targets).mean()
    wanted = np.sum(np.square(means - found)) + 2.0 * error
    np.testing.assert_allclose(metrics["loss"], wanted, rtol=1e-4)
    np.testing.assert_allclose(metrics["class_error"], error, rtol=1e-5)
    # The network goes on, on real samples.
    assert int(after.pool.ages[0]) in (0, int(state.pool.ages[0]) + 1)


def test_separation_is_capped():
    targets = jnp.asarray([[0.9, 0.1, 0.0], [0.3, 0.1, 0.2]])
    # 0.8 is capped at a third; 0.1 is not.
    np.testing.assert_allclose(separation(targets), (1 / 3 + 0.1) / 2, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frepo", "idm"])
def test_steps_lower_the_loss(three_classes, name):
    pool = {"settings": {"widths": (4,), "depth": 1}, "students": 2}
    method = methods.make(name, pool=pool, descent={"learning_rate": 0.05})
    *_, metrics = run(method, three_classes, steps=40)
    assert metrics["loss"][-10:].mean() < 0.9 * metrics["loss"][:10].mean()
