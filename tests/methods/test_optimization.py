import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.kernels import losses
from ddjax.methods import optimization

KEYWORDS = dict(
    per_class=1,
    initialization="real",
    parameterization="pixels",
    optimizer="sgd",
    learning_rate=0.5,
    learn_targets=True,
)


def start(parts, problem, extra=None):
    targets = optimization.class_targets_for(losses.get("logistic"), problem.classes)
    return parts.start(jax.random.key(0), problem, targets, extra)


def ones_like(learned):
    return jax.tree.map(jnp.ones_like, learned)


def test_every_group_has_its_own_rate(binary):
    parts = optimization.learner(
        **KEYWORDS, targets_learning_rate=0.25, extra_learning_rates={"scale": 2.0}
    )
    state = start(parts, binary, {"scale": jnp.zeros(())})
    new = parts.update(state, ones_like(state.learned)).learned
    np.testing.assert_allclose(
        state.learned["stored"]["inputs"] - new["stored"]["inputs"], 0.5, rtol=1e-4
    )
    np.testing.assert_allclose(state.learned["targets"] - new["targets"], 0.25)
    np.testing.assert_allclose(new["scale"], -2.0)


def test_cosine_decay_ends_at_rest(binary):
    parts = optimization.learner(**KEYWORDS, decay_steps=2)
    state = start(parts, binary)
    for _ in range(2):
        state = parts.update(state, ones_like(state.learned))
    after = parts.update(state, jax.tree.map(jnp.zeros_like, state.learned))
    np.testing.assert_allclose(after.learned["targets"], state.learned["targets"])


def test_warm_up_starts_at_rest(binary):
    parts = optimization.learner(**KEYWORDS, decay_steps=10, warmup_steps=2)
    state = start(parts, binary)
    first = parts.update(state, ones_like(state.learned))
    np.testing.assert_allclose(first.learned["targets"], state.learned["targets"])
    second = parts.update(first, ones_like(state.learned))
    assert not np.allclose(second.learned["targets"], first.learned["targets"])


@pytest.mark.parametrize("warmup", [-1, 10])
def test_warm_up_has_to_fit(warmup):
    with pytest.raises(ValueError, match="warmup_steps"):
        optimization.learner(**KEYWORDS, decay_steps=10, warmup_steps=warmup)


def test_parameterization_needs_a_name():
    with pytest.raises(ValueError, match="no 'name'"):
        optimization.decoder_for({"levels": 3})


def test_projection(binary):
    parts = optimization.learner(**KEYWORDS, project_targets=lambda t: t * 0.0)
    state = start(parts, binary)
    assert not parts.update(state, ones_like(state.learned)).learned["targets"].any()


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("logistic", 2, [-1.0, 1.0]),
        ("softmax", 2, [[1.0, 0.0], [0.0, 1.0]]),
        ("hinge", 3, [[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0]]),
        ("squared", 4, [[0.75, -0.25, -0.25, -0.25], [-0.25, 0.75, -0.25, -0.25]]),
    ],
)
def test_class_targets(name, classes, expected):
    targets = optimization.class_targets_for(losses.get(name), classes)
    np.testing.assert_allclose(targets(jnp.array([0, 1])), expected)


def test_class_targets_refuse_one_class():
    with pytest.raises(ValueError, match="2 classes, got 1"):
        optimization.class_targets_for(losses.get("logistic"), 1)


PYRAMID = {"name": "pyramid", "extend_every": 2, "bounds": "data"}


def test_a_pyramid_grows_and_its_optimizer_begins_anew(three_classes):
    keywords = KEYWORDS | dict(
        initialization="own", parameterization=PYRAMID, optimizer="adam", decay_steps=9
    )
    parts = optimization.learner(**keywords)
    state = start(parts, three_classes)
    update = jax.jit(parts.update)
    for step in range(1, 8):
        before, state = state, update(state, ones_like(state.learned))
        stored = state.learned["stored"]
        # 8 x 8 images have 4 levels.
        assert int(stored["active"]) == min(1 + step // 2, 4)
        np.testing.assert_array_equal(
            stored["colour"], before.learned["stored"]["colour"]
        )
        adam, schedule = state.optimizer.inner_states["stored"].inner_state
        since = step % 2 if step < 7 else 1
        assert int(adam.count) == since and int(schedule.count) == step
        assert bool(adam.mu["stored"]["level_1"].any()) == bool(since)
        of_targets = state.optimizer.inner_states["targets"].inner_state[0]
        assert int(of_targets.count) == step


def test_a_start_of_its_own_is_balanced(three_classes):
    keywords = KEYWORDS | dict(
        per_class=2, initialization="own", parameterization=PYRAMID
    )
    state = start(optimization.learner(**keywords), three_classes)
    np.testing.assert_array_equal(state.labels, [0, 0, 1, 1, 2, 2])
    with pytest.raises(ValueError, match="'pixels' has no random start"):
        optimization.learner(**KEYWORDS | dict(initialization="own"))
