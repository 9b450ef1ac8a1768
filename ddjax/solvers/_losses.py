"""Losses as the solvers of `ddjax.solvers.erm` see them: smooth, in float64, on CPU."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax.kernels.losses import Loss

__all__ = ["Local", "evaluate", "in_float64", "slack", "slope_along"]


class Local(NamedTuple):
    """A loss around given predictions.

    Attributes:
      value: sum of the (smoothed) losses.
      duals: minus its gradient, feasible for the loss itself; (n, *c).
      curvature: diagonal second derivative (n, c); for a multiclass loss the weights
        w of the second derivative `diag(w) - w w' / sum(w)`.
      loss: sum of the losses themselves.
      slack: sum of their Fenchel-Young slacks at `duals`; 0 for a smooth loss.
    """

    value: float
    duals: np.ndarray
    curvature: np.ndarray
    loss: float
    slack: float


class _Float64OnCpu:
    """Context in which jax computes in float64 on the host's CPU."""

    def __enter__(self):
        self._x64 = jax.enable_x64(True)
        self._device = jax.default_device(jax.local_devices(backend="cpu")[0])
        self._x64.__enter__()
        self._device.__enter__()
        return self

    def __exit__(self, *error):
        self._device.__exit__(*error)
        self._x64.__exit__(*error)


def in_float64(function: Callable[..., jax.Array], *arrays: np.ndarray) -> np.ndarray:
    """A function of float64 arrays, evaluated in float64 on the host."""
    with _Float64OnCpu():
        return np.array(jax.jit(function)(*arrays))


def _smoothed_hinge(targets, predictions, width, _):
    rise = (1.0 - targets * predictions) / width
    alpha = jnp.clip(rise, 0.0, 1.0)
    value = width * alpha * (rise - 0.5 * alpha)
    band = (rise > 0) & (rise < 1)
    return value, targets * alpha, jnp.where(band, jnp.square(targets) / width, 0.0)


def _smoothed_insensitive(targets, predictions, width, settings):
    residual = predictions - targets
    rise = (jnp.abs(residual) - settings["epsilon"]) / width
    size = jnp.clip(rise, 0.0, 1.0)
    value = width * size * (rise - 0.5 * size)
    band = (rise > 0) & (rise < 1)
    return value, -jnp.sign(residual) * size, jnp.where(band, 1.0 / width, 0.0)


def _smoothed_multiclass_hinge(targets, predictions, width, _):
    scores = (predictions + 1.0 - targets) / width
    points = jax.nn.softmax(scores, axis=1)
    value = width * jax.nn.logsumexp(scores, axis=1)
    value = value - jnp.sum(targets * predictions, axis=1)
    return value, targets - points, points / width


# Each adds width times a strongly convex function to the conjugate, so the dual
# variables of the smoothed loss are feasible for the loss itself.
_SMOOTHED = {
    "hinge": _smoothed_hinge,
    "epsilon_insensitive": _smoothed_insensitive,
    "multiclass_hinge": _smoothed_multiclass_hinge,
}


def _parts(loss: Loss, targets, predictions, width):
    """Smoothed value, duals and curvature."""
    if not loss.smooth:
        smoothed = _SMOOTHED[loss.name]
        return smoothed(targets, predictions, width, dict(loss.settings))
    value = loss.value(targets, predictions)
    if loss.kind == "multiclass":
        slopes = loss.gradient(targets, predictions)
        return value, -slopes, slopes + targets
    slopes, curvature = jax.jvp(
        lambda f: loss.gradient(targets, f),
        (predictions,),
        (jnp.ones_like(predictions),),
    )
    return value, -slopes, curvature


@functools.partial(jax.jit, static_argnames="loss")
def _evaluate(targets, predictions, width, *, loss: Loss):
    value, duals, curvature = _parts(loss, targets, predictions, width)
    exact = loss.value(targets, predictions)
    slack = jnp.zeros(())
    if not loss.smooth:
        inner = jnp.sum(duals * predictions)
        slack = jnp.sum(exact) + jnp.sum(loss.conjugate(targets, -duals)) + inner
    return jnp.sum(value), duals, curvature, jnp.sum(exact), jnp.maximum(slack, 0.0)


def evaluate(
    targets: np.ndarray, predictions: np.ndarray, *, loss: Loss, width: float = 1.0
) -> Local:
    """Everything a solver needs to know of a loss at given predictions.

    Args:
      targets: `(n, *c)` float64.
      predictions: like targets.
      loss: the loss.
      width: of the smoothing, for a loss with kinks; ignored for a smooth loss.
    """
    with _Float64OnCpu():
        out = _evaluate(targets, predictions, np.float64(width), loss=loss)
        value, duals, curvature, exact, slack = (np.asarray(o) for o in out)
    return Local(float(value), duals, curvature, float(exact), float(slack))


@functools.partial(jax.jit, static_argnames="loss")
def _slack(targets, predictions, duals, *, loss: Loss):
    inner = jnp.sum(duals * predictions, axis=1)
    value = loss.value(targets, predictions) + loss.conjugate(targets, -duals)
    return jnp.maximum(value + inner, 0.0)


def slack(
    targets: np.ndarray, predictions: np.ndarray, duals: np.ndarray, *, loss: Loss
) -> np.ndarray:
    """Fenchel-Young slack of each sample, `(n,)`, for arrays `(n, c)`."""
    with _Float64OnCpu():
        return np.array(_slack(targets, predictions, duals, loss=loss))


@functools.partial(jax.jit, static_argnames="loss")
def _slopes(targets, predictions, direction, step, width, *, loss: Loss):
    moved = predictions + step * direction
    duals = _parts(loss, targets, moved, width)[1]
    return -jnp.sum(duals * direction, axis=0)


def slope_along(
    targets: np.ndarray,
    predictions: np.ndarray,
    direction: np.ndarray,
    step: np.ndarray,
    *,
    loss: Loss,
    width: float = 1.0,
) -> np.ndarray:
    """Derivative of the summed smoothed loss along a direction, column by column.

    Args:
      targets: `(n, c)` float64.
      predictions: `(n, c)`.
      direction: `(n, c)`, change of the predictions per unit step.
      step: `(1, c)`, step of each column.
      loss: the loss.
      width: of the smoothing.

    Returns:
      `(c,)` derivatives.
    """
    with _Float64OnCpu():
        return np.asarray(
            _slopes(targets, predictions, direction, step, np.float64(width), loss=loss)
        )
