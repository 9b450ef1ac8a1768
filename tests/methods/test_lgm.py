import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddjax import methods, runtime, synthetic
from ddjax.data.augment import augmenter
from ddjax.data.feed import Batches
from ddjax.methods import frozen_features
from ddjax.synthetic.distilled import decoded
from tests.methods.encoders import colour_digits, small
from tests.methods.runs import distilled, drawn, prepared, progress, run

PIXELS = dict(decoder="pixels", initialization="balanced")
DESCENT = dict(descent={"optimizer": "sgd", "learning_rate": 1.0}, **PIXELS)
KEY = 9
# For tests that ask where and when copies are made, not of what: it compiles fast.
FLIPS = {"name": "dsa", "strategy": "flip"}


@pytest.fixture(scope="module")
def problem():
    return colour_digits()


@pytest.fixture(scope="module")
def encoder():
    return small()


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
        jnp.concatenate([g.reshape(-1) for g in jax.grad(of_head)(head, *data)])
        for data in ((real, real_labels), (images, labels))
    ]
    lengths = [jnp.sqrt(jnp.sum(each**2)) for each in flat]
    return 1.0 - flat[0] @ flat[1] / (lengths[0] * lengths[1])


@pytest.mark.parametrize("copies", [0, 2])
def test_the_gradient_is_that_of_second_order_autodiff(problem, encoder, copies):
    """The draws are made again here: the head and the keys of the augmentation."""
    augmentation = "flip_crop_noise" if copies else None
    images, moved, value, real = gradients(
        problem,
        encoder=encoder,
        per_class=2,
        augmentation=augmentation,
        copies=copies or 1,
    )
    assert len(real.inputs) == 30
    if not copies:
        # Of these the method holds features: their images are found by the rows.
        rows = np.asarray(encoder.apply(encoder.params, problem.train.inputs))
        apart = np.abs(np.asarray(real.inputs)[:, None] - rows[None]).max(axis=2)
        real = real._replace(inputs=problem.train.inputs[apart.argmin(axis=1)])
    head_key, own, other = jax.random.split(jax.random.key(KEY), 3)
    head = (
        0.01 * jax.random.normal(jax.random.fold_in(head_key, 0), (20, 3)),
        jnp.zeros(3),
    )
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
        return by_definition(
            augmented(images, own, (copies, 6)),
            jnp.tile(labels, copies or 1),
            augmented(real.inputs, other, (1, 30)),
            real.labels,
            encoder=encoder,
            head=head,
        )

    expected, gradient = jax.jit(jax.value_and_grad(loss))(images)
    assert float(value) == pytest.approx(float(expected), rel=1e-4)
    scale = float(jnp.abs(gradient).max())
    np.testing.assert_allclose(moved / scale, gradient / scale, atol=2e-3)


def test_micro_batches_change_nothing(problem, encoder):
    keywords = dict(encoder=encoder, per_class=3, copies=2, augmentation=FLIPS)
    _, whole, first, _ = gradients(problem, **keywords)
    _, parts, second, _ = gradients(problem, **keywords, micro_batch=4)
    assert first == pytest.approx(float(second), rel=1e-5)
    scale = float(jnp.abs(whole).max())
    np.testing.assert_allclose(whole / scale, parts / scale, atol=1e-4)


def test_cached_features_are_those_of_the_images(problem, encoder):
    """Real images that are not augmented need no encoder in a step."""
    keywords = dict(encoder=[encoder, small(seed=1)])
    still = {"name": "dsa", "strategy": "flip", "flip": 0.0}
    _, cached, first, _ = gradients(problem, augmentation=None, **keywords)
    _, through, second, _ = gradients(problem, augmentation=still, copies=1, **keywords)
    assert first == pytest.approx(float(second), rel=1e-4)
    scale = float(jnp.abs(cached).max())
    np.testing.assert_allclose(cached / scale, through / scale, atol=1e-3)


def test_steps_lower_the_distance(problem, encoder):
    method = methods.lgm(
        encoder=encoder,
        augmentation=FLIPS,
        copies=2,
        descent={"learning_rate": 0.05},
        decoder={"name": "pyramid", "extend_every": 0.125},
    )
    data, _, state, metrics = run(method, problem, steps=40)
    assert float(state.learned["stored"]["active"]) == 4
    assert metrics["loss"][-5:].mean() < 0.8 * metrics["loss"][:3].mean()
    made = distilled(method, problem, data, state)
    assert made.targets_kind == "probabilities"
    np.testing.assert_array_equal(decoded(made).targets, np.eye(3))


def test_a_run_that_resumes(problem, encoder, tmp_path):
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
                method, problem, seed=3, steps=steps, workdir=where, verbose=False
            )
        return synthetic.digest(result.distilled)

    assert train(tmp_path / "resumed", 3, 5) == train(tmp_path / "straight", 5)


def test_images_that_do_not_fit_stay_on_the_host(
    problem, encoder, tmp_path, monkeypatch
):
    monkeypatch.setattr(frozen_features, "DEVICE_BYTES", 0)
    method = methods.lgm(encoder=encoder, copies=2, augmentation=FLIPS)
    data = method.prepare(jax.random.key(0), problem)
    assert isinstance(data.real[0], Batches) and data.real[0].batch_size == 30
    assert isinstance(data.real[0].split.inputs, np.ndarray)
    result = runtime.train(
        method, problem, seed=0, steps=2, workdir=tmp_path, verbose=False
    )
    assert result.step == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"copies": 0}, "copies must be at least 1"),
        ({"micro_batch": 0}, "micro_batch must be at least 1"),
        ({"augmentation": {"name": "dsa", "noise": 1}}, "takes no 'noise'"),
    ],
)
def test_refuses(encoder, settings, message):
    with pytest.raises(ValueError, match=message):
        methods.lgm(**{"encoder": encoder, **settings})
