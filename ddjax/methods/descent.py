"""How samples descend: one description of an optimiser and its learning rates.

Every gradient-based method takes a `Descent`. Its schedule is a function of the share
of the run that is done, and the run says how long it is: no second number of steps has
to agree with the first.
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ddjax import checks
from ddjax.methods.base import Progress

__all__ = [
    "SCHEDULES",
    "Descent",
    "decays",
    "descend",
    "describe",
    "first_moments",
    "learning_rate_at",
]

SCHEDULES = ("constant", "cosine", "linear")
"""How a learning rate goes on after the warm-up."""


class Descent(NamedTuple):
    r"""An optimiser and its learning rates along a run.

    With s the share of the run that is done and w that of the warm-up, the rate is the
    learning rate times

    .. math::
        s / w \;(s < w), \qquad
        1, \quad f + (1 - f)\tfrac12(1 + \cos \pi u)
        \quad\text{or}\quad 1 - (1 - f) u, \qquad u = \tfrac{s - w}{1 - w},

    for the schedules `constant`, `cosine` and `linear`.

    Attributes:
      optimizer: any of optax's by its name there: `adam`, `adamw`, `adabelief`, `lamb`,
        `lars`, `sgd`, ...
      learning_rate: of the samples' inputs, and of every group without one of its own.
      schedule: one of `SCHEDULES`.
      warmup: w, in [0, 1).
      final: f, in [0, 1], what is left of the rate at the end of a decay.
      rates: group -> its own learning rate, or None for `learning_rate`; groups are
        `targets` and those that a method names.
      settings: further keywords of the optimiser, such as `{"momentum": 0.9}`.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-2
    schedule: str = "constant"
    warmup: float = 0.0
    final: float = 0.0
    rates: Mapping[str, float | None] = {}
    settings: Mapping[str, Any] = {}


def describe(
    given: Mapping[str, Any] | Descent | None,
    default: Descent,
    *,
    groups: tuple[str, ...] = ("targets",),
) -> Descent:
    """A description from a configuration's values over a method's own.

    Args:
      given: fields of `Descent` that differ from `default`; `rates` are merged, and
        `settings` too unless the optimiser is another.
      default: the method's.
      groups: the groups that may have a rate of their own; the description names all.

    Raises:
      ValueError: an unknown field, optimiser, schedule, group or keyword of the
        optimiser, with the known ones; a number out of range; an optimiser that
        refuses its settings, or needs more than gradients.
    """
    fields = checks.fields_of("descent", Descent, given)
    settings = dict(default.settings)
    if fields.get("optimizer", default.optimizer) != default.optimizer:
        settings = {}
    descent = default._replace(
        **{
            **fields,
            "rates": {
                **dict.fromkeys(groups),
                **default.rates,
                **(fields.get("rates") or {}),
            },
            "settings": {**settings, **(fields.get("settings") or {})},
        }
    )
    _check(descent, groups)
    return descent


def learning_rate_at(
    descent: Descent, progress: Progress, group: str
) -> Float[Array, ""]:
    """The learning rate of a group at a step; the equation is that of `Descent`."""
    dtype = jnp.result_type(float)
    done = progress.step.astype(dtype) / progress.steps.astype(dtype)
    along = jnp.clip((done - descent.warmup) / (1.0 - descent.warmup), 0.0, 1.0)
    share = jnp.ones((), dtype)
    if descent.schedule == "cosine":
        falling = 0.5 * (1.0 + jnp.cos(math.pi * along))
        share = descent.final + (1.0 - descent.final) * falling
    elif descent.schedule == "linear":
        share = 1.0 - (1.0 - descent.final) * along
    if descent.warmup:
        share = jnp.where(done < descent.warmup, done / descent.warmup, share)
    return share * _full_rate(descent, group)


def first_moments(descent: Descent, group: str, values: Any) -> Any:
    """The optimiser's state before the first step of a group."""
    moments = _optimizer(descent, _full_rate(descent, group)).init(values)
    # Python numbers in it would be another type, hence another program, after a step.
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), moments)


def descend(
    descent: Descent,
    group: str,
    values: Any,
    gradients: Any,
    moments: Any,
    progress: Progress,
) -> tuple[Any, Any]:
    """One update of a group: its new values, and the optimiser's new state."""
    rate = learning_rate_at(descent, progress, group)
    # Optax raises floats to the power of its integer step count.
    with jax.numpy_dtype_promotion("standard"):
        changes, moments = _optimizer(descent, rate).update(gradients, moments, values)
    return optax.apply_updates(values, changes), moments


def decays(descent: Descent) -> bool:
    """Whether the rates depend on the run's length."""
    return descent.schedule != "constant" or descent.warmup > 0


def _full_rate(descent: Descent, group: str) -> float:
    own = descent.rates.get(group)
    return descent.learning_rate if own is None else own


def _optimizer(descent: Descent, rate: Any) -> optax.GradientTransformation:
    # A rate that is an array leaves no trace in the optimiser's state: the schedule has
    # no counter of its own that could run away from the run's.
    return getattr(optax, descent.optimizer)(rate, **descent.settings)


def _check(descent: Descent, groups: tuple[str, ...]) -> None:
    known = [name for name in dir(optax) if _is_optimizer(name)]
    checks.check_known("optimizer", [descent.optimizer], known)
    allowed = list(inspect.signature(getattr(optax, descent.optimizer)).parameters)[1:]
    checks.check_known(f"optimizer {descent.optimizer}", descent.settings, allowed)
    checks.check_known("schedule", [descent.schedule], SCHEDULES)
    checks.check_known("descent.rates", descent.rates, groups)
    rates = {"learning_rate": descent.learning_rate} | {
        f"rates.{group}": rate
        for group, rate in descent.rates.items()
        if rate is not None
    }
    for name, rate in rates.items():
        if not (isinstance(rate, int | float) and math.isfinite(rate) and rate > 0):
            raise ValueError(f"descent.{name} must be a number > 0, got {rate!r}")
    warmup, final = descent.warmup, descent.final
    if not (isinstance(warmup, int | float) and 0 <= warmup < 1):
        raise ValueError(
            f"descent.warmup is a share of the run, in [0, 1), got {warmup!r}"
        )
    if not (isinstance(final, int | float) and 0 <= final <= 1):
        raise ValueError(
            f"descent.final is a share of the rate, in [0, 1], got {final!r}"
        )
    _try_optimizer(descent)


def _try_optimizer(descent: Descent) -> None:
    """Traces one update, so that what an optimiser cannot do is said before a run."""
    values = jnp.zeros((2, 2))

    def update(values: Array) -> Any:
        optimizer = _optimizer(descent, descent.learning_rate)
        return optimizer.update(values, optimizer.init(values), values)

    try:
        with jax.numpy_dtype_promotion("standard"):
            jax.eval_shape(update, values)
    except Exception as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"optimizer {descent.optimizer!r} with settings {dict(descent.settings)} "
            f"makes no update from gradients and values alone: {why}"
        ) from error


def _is_optimizer(name: str) -> bool:
    what = getattr(optax, name)
    if name.startswith(("_", "scale_by_")) or not inspect.isfunction(what):
        return False
    return next(iter(inspect.signature(what).parameters), None) == "learning_rate"
