import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from ddjax import methods, runtime, synthetic
from ddjax.data.augment import augmenter
from tests.methods.encoders import small
from tests.methods.runs import drawn, prepared, progress

PIXELS = dict(decoder="pixels", initialization="balanced")
DESCENT = dict(descent={"optimizer": "sgd", "learning_rate": 1.0}, **PIXELS)
KEY = 9
# For tests that ask where and when copies are made, not of what: it compiles fast.
FLIPS = {"name": "dsa", "strategy": "flip"}


def gradients(problem, **settings):
    """That of one step, as what plain descent subtracts; and the step's loss."""
    method = methods.lgm(**DESCENT | settings)
    data, state = prepared(method, problem)
    batch = drawn(data)
    after, metrics = jax.jit(method.step)(state, batch, jax.random.key(KEY), progress())
    images = state.learned["stored"]["inputs"]
    moved = images - after.learned["stored"]["inputs"]
    return images, moved, metrics["loss"], batch.real[0]


def by_definition(images, labels, real, real_labels, *, encoder, head):
    """Second-order autodiff, the real and distilled images seen in the same way."""

    def of_head(head, images, labels):
        rows = encoder.apply(encoder.params, images)
        scores = rows @ head[0] + head[1][None]
        return optax.softmax_cross_entropy(scores, jax.nn.one_hot(labels, 3)).mean()

    flat = [
        ravel_pytree(jax.grad(of_head)(head, *data))[0]
        for data in ((real, real_labels), (images, labels))
    ]
    return optax.cosine_distance(*flat)


@pytest.mark.parametrize("copies", [0, 2])
def test_the_gradient_is_that_of_second_order_autodiff(coloured, encoder, copies):
    """The draws are made again here: the heads and the keys of the augmentation."""
    augmentation = "flip_crop_noise" if copies else None
    encoders = [encoder] if copies else [encoder, small(seed=1)]
    images, moved, value, real = gradients(
        coloured,
        encoder=encoders,
        per_class=2,
        augmentation=augmentation,
        copies=copies or 1,
    )
    assert len(real.inputs) == 30
    if not copies:
        # Of these the method holds features: their images are found by the rows.
        rows = np.asarray(encoder.apply(encoder.params, coloured.train.inputs))
        apart = np.abs(np.asarray(real.inputs)[:, None] - rows[None]).max(axis=2)
        real = real._replace(inputs=coloured.train.inputs[apart.argmin(axis=1)])
    head_key, own, other = jax.random.split(jax.random.key(KEY), 3)
    keys = [jax.random.fold_in(head_key, index) for index in range(len(encoders))]
    heads = [(0.01 * jax.random.normal(k, (20, 3)), jnp.zeros(3)) for k in keys]
    labels = jnp.repeat(jnp.arange(3), 2)
    augment_images = augmenter({"name": "flip_crop_noise"}, shared=True)

    def augmented(images, key, shape):
        if not copies:
            return images
        keys = jax.random.split(key, shape).reshape(-1)
        images = jnp.tile(images, (shape[0], 1, 1, 1))
        return jax.vmap(lambda k, image: augment_images(k, image[None])[0])(
            keys, images
        )

    def loss(images):
        return sum(
            by_definition(
                augmented(images, own, (copies, 6)),
                jnp.tile(labels, copies or 1),
                augmented(real.inputs, other, (1, 30)),
                real.labels,
                encoder=each,
                head=head,
            )
            for each, head in zip(encoders, heads, strict=True)
        )

    expected, gradient = jax.jit(jax.value_and_grad(loss))(images)
    assert float(value) == pytest.approx(float(expected), rel=1e-4)
    scale = float(jnp.abs(gradient).max())
    np.testing.assert_allclose(moved / scale, gradient / scale, atol=2e-3)


def test_micro_batches_change_nothing(coloured, encoder):
    keywords = dict(encoder=encoder, per_class=3, copies=2, augmentation=FLIPS)
    _, whole, first, _ = gradients(coloured, **keywords)
    _, parts, second, _ = gradients(coloured, **keywords, micro_batch=4)
    assert first == pytest.approx(float(second), rel=1e-5)
    scale = float(jnp.abs(whole).max())
    np.testing.assert_allclose(whole / scale, parts / scale, atol=1e-4)


def test_a_run_that_resumes(coloured, encoder, tmp_path):
    def train(where, *stops):
        method = methods.lgm(
            encoder=encoder,
            copies=2,
            augmentation=FLIPS,
            augment_real=False,
            decoder="decorrelated_colour",
        )
        for steps in stops:
            result = runtime.train(
                method, coloured, seed=3, steps=steps, workdir=where, verbose=False
            )
        return synthetic.digest(result.distilled)

    assert train(tmp_path / "resumed", 3, 5) == train(tmp_path / "straight", 5)
