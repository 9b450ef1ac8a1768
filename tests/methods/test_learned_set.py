"""The part that methods of descent share: groups, what is fixed, and where to start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.kernels import losses
from ddjax.methods import learned_set
from ddjax.methods.descent import Descent
from ddjax.storage.cache import in_memory, no_cache
from ddjax.synthetic import decoders
from tests.methods.runs import progress

PLAIN = Descent("sgd", 0.5)
PYRAMID = {"name": "pyramid", "extend_every": 0.2, "bounds": "data"}


def made(**keywords):
    settings = {"decoder": "pixels", "descent": None, "learn_targets": True, **keywords}
    return learned_set.learned_set(default=PLAIN, **settings)


def start(parts, problem, *, extra=None, initialization="balanced", per_class=1):
    stored, labels = learned_set.class_start(
        parts,
        jax.random.key(0),
        problem,
        parts.fit(problem, no_cache),
        learned_set.class_targets_for(losses.get("logistic"), problem.classes),
        per_class=per_class,
        initialization=initialization,
    )
    return parts.start(stored, labels, extra)


def ones_like(learned):
    return jax.tree.map(jnp.ones_like, learned)


def test_every_group_has_its_own_rate(binary):
    parts = made(
        descent={"rates": {"targets": 0.25, "scale": 2.0}}, groups=("scale", "shift")
    )
    state = start(parts, binary, extra={"scale": jnp.zeros(()), "shift": jnp.zeros(2)})
    new = parts.update(state, ones_like(state.learned), progress()).learned
    old, stored = state.learned["stored"], new["stored"]
    np.testing.assert_allclose(old["inputs"] - stored["inputs"], 0.5, rtol=1e-4)
    np.testing.assert_allclose(old["targets"] - stored["targets"], 0.25)
    np.testing.assert_allclose(new["scale"], -2.0)
    np.testing.assert_allclose(new["shift"], -0.5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_is_fixed_does_not_move(three_classes, optimizer):
    """Neither do the decoder's constants, and weight decay is no exception."""
    parts = made(
        decoder={"name": "decorrelated_colour", "bounds": "data"},
        descent={"optimizer": optimizer},
        learn_targets=False,
        groups=("scale",),
        frozen=("scale",),
    )
    state = start(parts, three_classes, extra={"scale": jnp.ones(())})
    after = parts.update(state, ones_like(state.learned), progress())
    assert set(state.moments) == {"inputs"}
    for name, before in state.learned["stored"].items():
        moved = not np.array_equal(before, after.learned["stored"][name])
        assert moved == (name == "latent")
    assert float(after.learned["scale"]) == 1.0


def test_a_decaying_rate_ends_at_rest(binary):
    parts = made(descent={"schedule": "cosine"})
    assert parts.follows_length
    state = start(parts, binary)
    last = parts.update(state, ones_like(state.learned), progress(5, 5))
    jax.tree.map(np.testing.assert_array_equal, last.learned, state.learned)


def test_projection(binary):
    parts = made(project_targets=lambda targets: targets * 0.0)
    state = start(parts, binary)
    after = parts.update(state, ones_like(state.learned), progress())
    assert not after.learned["stored"]["targets"].any()


def test_projection_needs_targets_that_are_stored_as_they_are():
    factors = decoders.pixels()._replace(name="factors", targets=("left", "right"))
    with pytest.raises(ValueError, match="'factors' makes its targets of left, right"):
        made(decoder=factors, project_targets=jnp.abs)
    made(decoder=factors, project_targets=jnp.abs, learn_targets=False)


def test_class_targets_are_hard_targets_of_two_classes_at_least():
    targets = learned_set.class_targets_for(losses.get("hinge"), 3)(jnp.array([0, 1]))
    np.testing.assert_allclose(targets, [[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0]])
    with pytest.raises(ValueError, match="2 classes, got 1"):
        learned_set.class_targets_for(losses.get("logistic"), 1)


def test_a_pyramid_grows_and_the_moments_of_its_inputs_begin_anew(three_classes):
    parts = made(
        decoder=PYRAMID,
        descent={"optimizer": "adam", "schedule": "cosine"},
        groups=("scale",),
    )
    assert parts.follows_length
    extra = {"scale": jnp.zeros(())}
    state = start(parts, three_classes, extra=extra, initialization="decoder_noise")
    update = jax.jit(parts.update)
    for step in range(1, 8):
        # A fifth of ten steps is two of them.
        before = state
        state = update(state, ones_like(state.learned), progress(step - 1, 10))
        stored = state.learned["stored"]
        # 8 x 8 images have 4 levels.
        assert int(stored["active"]) == min(1 + step // 2, 4)
        np.testing.assert_array_equal(
            stored["colour"], before.learned["stored"]["colour"]
        )
        adam, since = state.moments["inputs"][0], step % 2 if step < 7 else 1
        assert int(adam.count) == since
        assert bool(adam.mu["level_1"].any()) == bool(since)
        for other in ("targets", "scale"):
            assert int(state.moments[other][0].count) == step
    assert update._cache_size() == 1


def test_a_start_of_the_decoders_own_is_balanced(three_classes):
    parts = made(decoder=PYRAMID)
    state = start(parts, three_classes, initialization="decoder_noise", per_class=2)
    np.testing.assert_array_equal(state.labels, [0, 0, 1, 1, 2, 2])


def test_a_decoder_is_fitted_once(three_classes):
    calls = []

    def fit(real):
        calls.append(len(real.inputs))
        return {"mean": np.asarray(real.inputs).mean(axis=0)}

    parts = made(decoder=decoders.pixels()._replace(fit=fit))
    cache = in_memory()
    first, again = (parts.fit(three_classes, cache) for _ in range(2))
    assert len(calls) == 1
    np.testing.assert_array_equal(first["mean"], again["mean"])
    other = three_classes._replace(fingerprint="another")
    parts.fit(other, cache)
    assert len(calls) == 2
