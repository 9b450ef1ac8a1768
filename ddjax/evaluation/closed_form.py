"""Linear probes in closed form: what they see of features, and the solution."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy import ndarray

from ddjax.checks import check_names, check_positive
from ddjax.evaluation.accuracy import accuracy
from ddjax.kernels import linear_probe as probes
from ddjax.kernels import ridge as ridge_regression
from ddjax.kernels.ridge import RidgeSolution

__all__ = [
    "ProbeSettings",
    "best_solution",
    "predictions",
    "probe_settings",
    "solution",
]

_CENTRINGS = ("none", "real", "intercept")
_Real = Array | ndarray


class ProbeSettings(NamedTuple):
    """What the closed form sees of features, and its strength.

    Attributes:
      ridge: lambda, read by `ridge_convention`.
      ridge_convention: see `ddjax.kernels.ridge`.
      normalize_features: whether rows have norm 1.
      centring: `none`, `real` (the mean of the real features) or `intercept`.
    """

    ridge: float = 1e-2
    ridge_convention: ridge_regression.Convention = "relative"
    normalize_features: bool = True
    centring: str = "none"


def probe_settings(*sources: Mapping[str, Any]) -> ProbeSettings:
    """The settings that stand in the last source that has them, else the defaults.

    Args:
      *sources: such as what a set was distilled with, and what is given; None stands
        for what is not there, and other entries do not count.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    values = ProbeSettings()._asdict()
    for source in sources:
        values |= {k: source[k] for k in values if source.get(k) is not None}
    settings = ProbeSettings(**values)
    check_positive(ridge=settings.ridge)
    check_names(
        ridge_convention=(settings.ridge_convention, ridge_regression.CONVENTIONS),
        centring=(settings.centring, _CENTRINGS),
    )
    return settings


def solution(
    features: Float[_Real, "m p"],
    targets: Float[_Real, "m *c"],
    settings: ProbeSettings,
    centre: Float[ndarray, " p"] | None,
) -> RidgeSolution:
    """The probe, in float64: beside a small ridge float32's rounding is not small."""
    with jax.enable_x64(True):
        wanted = jnp.asarray(np.asarray(targets, np.float64))
        return ridge_regression.solve(
            _embedded(features, settings, centre),
            wanted.reshape(len(wanted), -1),
            ridge=settings.ridge,
            convention=settings.ridge_convention,
            intercept=settings.centring == "intercept",
        )


def predictions(
    features: Float[_Real, "n p"],
    probe: RidgeSolution,
    settings: ProbeSettings,
    centre: Float[ndarray, " p"] | None,
) -> Float[ndarray, "n c"]:
    """Scores of features under a probe, in float64."""
    with jax.enable_x64(True):
        rows = _embedded(features, settings, centre)
        return np.asarray(ridge_regression.predict(rows, probe))


def best_solution(
    choices: Sequence[ProbeSettings],
    features: Float[_Real, "m p"],
    targets: Float[_Real, "m *c"],
    centre: Float[ndarray, " p"] | None,
    judged: tuple[Float[_Real, "n p"], Int[_Real, " n"]] | None,
) -> tuple[ProbeSettings, RidgeSolution]:
    """The solution that is best on judged features and labels; of equals the first.

    Trained on the first features, of which all have this centre; nothing is judged
    where there is nothing to choose.
    """
    found = []
    for settings in choices:
        probe, worth = solution(features, targets, settings, centre), 0.0
        if judged is not None:
            scores = predictions(judged[0], probe, settings, centre)
            worth = accuracy(scores, judged[1])
        found.append((worth, settings, probe))
    _, settings, probe = max(found, key=lambda each: each[0])
    return settings, probe


def _embedded(
    rows: Any, settings: ProbeSettings, centre: ndarray | None
) -> Float[Array, "n p"]:
    return probes.embed(
        np.asarray(rows, np.float64),
        centre=centre,
        normalize=settings.normalize_features,
    )
