"""Networks that see a few images at a time see what they would see at once."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.models import networks, parts


def images_of(count):
    return jnp.asarray(np.random.default_rng(0).normal(size=(count, 4, 3, 2)))


@pytest.mark.parametrize("count", [3, 13])
def test_features_of_a_few_images_at_a_time(count):
    images, seen = images_of(count), []

    def network(images):
        seen.append(len(images))
        return jnp.sum(jnp.sin(images), axis=(1, 2))

    @jax.jit(static_argnums=0)
    def total_and_slopes(network, images):
        return jax.value_and_grad(lambda images: jnp.sum(network(images) ** 2))(images)

    found = total_and_slopes(
        lambda x: parts.a_few_at_a_time(network, x, pixels=5 * 12), images
    )
    assert max(seen) <= 5
    chex.assert_trees_all_close(found, total_and_slopes(network, images), rtol=1e-6)


# None over, one part and a rest, parts that divide, a prime.
@pytest.mark.parametrize("count", [4, 6, 12, 13])
def test_the_mean_over_a_few_images_at_a_time(count, monkeypatch):
    monkeypatch.setattr(parts, "_PIXELS_AT_ONCE", 5 * 12)
    images, seen = images_of(count), []

    def means(images):
        seen.append(len(images))
        return {"level": images.mean(), "curve": jnp.cos(images).mean(axis=0)}

    found = jax.jit(lambda x: parts.mean_over(means, x))(images)
    assert max(seen) <= 5
    chex.assert_trees_all_close(found, means(images), rtol=1e-5, atol=1e-6)
    parts.mean_over(means, images, whole=True)
    assert max(seen) == count


def test_rows_of_a_table_are_split_too(monkeypatch):
    monkeypatch.setattr(parts, "_PIXELS_AT_ONCE", 4)
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(10, 3)))
    found = parts.mean_over(lambda part: part.mean(axis=0), rows)
    np.testing.assert_allclose(found, rows.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(parts.a_few_at_a_time(jnp.sin, rows), jnp.sin(rows))


def test_a_gradient_by_parameters_is_that_of_all_images(monkeypatch):
    monkeypatch.setattr(parts, "_PIXELS_AT_ONCE", 5 * 64)
    network = networks.make_for("convnet", {"width": 4}, outputs=3, shape=(8, 8, 3))
    images = jax.random.normal(jax.random.key(1), (13, 8, 8, 3))
    params, _ = networks.started(jax.random.key(0), network, images)

    def gradients(images):
        def loss(params):
            return jnp.mean(jnp.square(network.apply({"params": params}, images) - 1.0))

        return jax.grad(loss)(params)

    together = jax.jit(gradients)(images)
    found = jax.jit(lambda images: parts.mean_over(gradients, images))(images)
    chex.assert_trees_all_close(found, together, rtol=1e-4, atol=1e-6)
