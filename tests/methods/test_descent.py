"""Optimisers and schedules against optax's own."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddjax.methods import descent as descents
from ddjax.methods.descent import Descent, decays, describe, learning_rate_at
from tests.methods.runs import progress

VALUES = {"a": jnp.asarray([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.asarray([4.0])}
GRADIENTS = {"a": jnp.asarray([[0.1, 0.2], [-0.3, 1.0]]), "b": jnp.asarray([-2.0])}

# Those that methods and configurations name, and some with states of other types.
OPTIMIZERS = {
    "adabelief": {"eps": 1e-12},
    "adadelta": {},
    "adam": {"b1": 0.8},
    "adamw": {"weight_decay": 0.1},
    "fromage": {},
    "lamb": {"weight_decay": 0.01},
    "lars": {"momentum": 0.8},
    "lion": {},
    "rmsprop": {"momentum": 0.5},
    "rprop": {},
    "sgd": {"momentum": 0.5, "nesterov": True},
}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_descends_as_optax_does(name):
    """Values, weight decay included, after steps under a decaying rate."""
    settings = OPTIMIZERS[name]
    given = {
        "optimizer": name,
        "learning_rate": 0.1,
        "settings": settings,
        "schedule": "linear",
        "final": 0.1,
    }
    described = describe(given, Descent())
    values, theirs = VALUES, VALUES
    moments = descents.first_moments(described, "inputs", values)
    rates = optax.linear_schedule(0.1, 0.01, 4)
    # A step size that is kept in the state follows no schedule.
    make = functools.partial(getattr(optax, name), **settings)
    state = make(0.1).init(theirs)
    for step in range(4):
        before = jax.tree.map(jax.typeof, moments)
        values, moments = descents.descend(
            described, "inputs", values, GRADIENTS, moments, progress(step, 4)
        )
        # Another type in the state would compile the step of a run a second time.
        assert jax.tree.map(jax.typeof, moments) == before
        with jax.numpy_dtype_promotion("standard"):
            changes, state = make(rates(step)).update(GRADIENTS, state, theirs)
        theirs = optax.apply_updates(theirs, changes)
    chex.assert_trees_all_close(values, theirs, rtol=1e-5)
    assert not np.allclose(values["a"], VALUES["a"])


SCHEDULES = {
    "constant": ({}, lambda steps: optax.constant_schedule(0.3)),
    "cosine": (
        {"schedule": "cosine"},
        lambda steps: optax.cosine_decay_schedule(0.3, steps),
    ),
    "cosine with warm-up": (
        {"schedule": "cosine", "warmup": 0.25, "final": 0.5},
        lambda steps: optax.warmup_cosine_decay_schedule(
            0.0, 0.3, steps // 4, steps, end_value=0.15
        ),
    ),
    "linear with warm-up": (
        {"schedule": "linear", "warmup": 0.25, "final": 0.2},
        lambda steps: optax.join_schedules(
            [
                optax.linear_schedule(0.0, 0.3, steps // 4),
                optax.linear_schedule(0.3, 0.06, steps - steps // 4),
            ],
            [steps // 4],
        ),
    ),
    "warm-up alone": (
        {"warmup": 0.5},
        lambda steps: optax.linear_schedule(0.0, 0.3, steps // 2),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_those_of_optax(name):
    """At every step, for any length of a run, in one program."""
    given, theirs = SCHEDULES[name]
    described = describe(given, Descent(learning_rate=0.3))
    rate = jax.jit(lambda at: learning_rate_at(described, at, "inputs"))
    for steps in (8, 20, 100):
        ours = [rate(progress(step, steps)) for step in range(steps + 1)]
        expected = [theirs(steps)(step) for step in range(steps + 1)]
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    assert rate._cache_size() == 1
    assert decays(described) == (name != "constant")


def test_every_group_has_its_rate():
    default = Descent(learning_rate=0.5, rates={"scale": 2.0})
    described = describe(
        {"rates": {"targets": 0.25}}, default, groups=("targets", "scale", "shift")
    )
    rates = [
        float(learning_rate_at(described, progress(), group))
        for group in ("inputs", "targets", "scale", "shift")
    ]
    assert rates == [0.5, 0.25, 2.0, 0.5]
    # All that may be given are named, so that a configuration can list them.
    assert described.rates == {"targets": 0.25, "scale": 2.0, "shift": None}
    assert describe({"rates": {"scale": None}}, default, groups=("scale",)).rates == {
        "scale": None
    }


def test_what_is_not_given_is_the_methods_own():
    default = Descent("sgd", 0.1, settings={"momentum": 0.5})
    assert describe({}, default, groups=()) == default
    assert describe(None, default, groups=()) == default
    changed = describe({"settings": {"nesterov": True}}, default)
    assert changed.settings == {"momentum": 0.5, "nesterov": True}
    # Another optimiser takes nothing over from the settings of the first.
    assert describe({"optimizer": "adam"}, default).settings == {}
    assert describe(Descent("adam"), default, groups=()) == Descent("adam")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rat": 0.1}, "no 'learning_rat'; did you mean 'learning_rate'"),
        ({"decay_steps": 5}, "no 'decay_steps'.* there are: optimizer, learning_rate"),
        ({"optimizer": "adamv"}, "no 'adamv'; did you mean 'adam.*adabelief, .*yogi"),
        ({"optimizer": "softmax_cross_entropy"}, "no 'softmax_cross_entropy'"),
        ({"optimizer": "lbfgs"}, "'lbfgs' .* from gradients and values alone"),
        ({"settings": {"momentun": 0.1}}, "adam has no 'momentun'.*b1, b2, eps"),
        (
            {"settings": {"b1": "high"}},
            "'adam' with settings .*'high'.* makes no update",
        ),
        ({"schedule": "step"}, "no 'step'.*constant, cosine, linear"),
        ({"rates": {"target": 1.0}}, "no 'target'; did you mean 'targets'"),
        ({"rates": {"targets": 0.0}}, "descent.rates.targets must be .*> 0, got 0.0"),
        ({"learning_rate": -1.0}, "descent.learning_rate must be .*> 0, got -1.0"),
        ({"learning_rate": "fast"}, "learning_rate must be a number > 0, got 'fast'"),
        ({"learning_rate": float("nan")}, "learning_rate must be .* got nan"),
        ({"warmup": 1.0}, r"descent.warmup is .* in \[0, 1\), got 1.0"),
        ({"warmup": -0.1}, r"descent.warmup .* got -0.1"),
        ({"final": 1.5}, r"descent.final is .* in \[0, 1\], got 1.5"),
    ],
)
def test_refuses(given, message):
    with pytest.raises(ValueError, match=message):
        describe(given, Descent())
