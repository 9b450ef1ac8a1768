"""What the names of scalars mean, and numbers as a person writes them."""

import math
from typing import NamedTuple

from ddjax.kernels.losses import LOSSES
from ddjax.synthetic.distilled import DistilledSet

__all__ = [
    "TRAINED_ON",
    "Meaning",
    "is_certificate",
    "is_diagnostic",
    "is_quality",
    "meaning",
    "number",
    "percent",
    "trained_on",
]

TRAINED_ON = ("distilled", "random_real", "full_data")
"""What the learner behind a scalar may have been trained on: the set, as many random
real samples, all the real data. The latter two are how the names of such evaluations
begin."""

_DIAGNOSTICS = ("solver_gap", "converged")
# In the order in which a reader wants them.
_MEASURES = {
    "accuracy": "accuracy",
    "closed_form_accuracy": "accuracy",
    "gradient_accuracy": "accuracy",
    "nearest_accuracy": "accuracy",
    "r2": "R²",
    "rmse": "root mean squared error",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "reachable_accuracy": "accuracy within reach of so few samples",
    "ridge": "ridge, chosen by validation",
}
_LEARNERS = {
    "regression": "ridge regression",
    "kernel_regression": "kernel ridge regression",
    "linear_probe": "linear probe",
    "network": "network",
    "pretraining": "probe of the pretrained network",
}
_OF_LOSS = {
    "logistic": "logistic regression",
    "softmax": "logistic regression (softmax)",
    "hinge": "SVM (hinge)",
    "squared_hinge": "SVM (squared hinge)",
    "multiclass_hinge": "SVM (multiclass hinge)",
    "squared": "ridge regression",
}
_HOW = {
    "closed_form_accuracy": " in closed form",
    "gradient_accuracy": " by gradient",
    "nearest_accuracy": " by nearest neighbours",
    "reachable_accuracy": " in closed form",
}


class Meaning(NamedTuple):
    """A scalar in words.

    Attributes:
      trained_on: one of `TRAINED_ON`.
      learner: what was trained.
      measure: what was measured.
      unit: of what and in what, ` (price, dollars)`; empty where there is none, as of
        percentages, which have theirs beside the number.
      order: where it stands among the measures of a learner.
    """

    trained_on: str
    learner: str
    measure: str
    unit: str
    order: int

    @property
    def words(self) -> str:
        """`root mean squared error of ridge regression (price, dollars)`."""
        return f"{self.measure} of {self.learner}{self.unit}"


def meaning(name: str, distilled: DistilledSet) -> Meaning:
    """What a scalar of an evaluation says about a set.

    Args:
      name: of the scalar.
      distilled: the set; it knows the units of regression targets.
    """
    evaluation, _, what = name.partition("/")
    whose = trained_on(name)
    rest = evaluation.removeprefix(f"{whose}_")
    known = [key for key in _MEASURES if what == key or what.startswith(f"{key}_")]
    key = max(known, key=len, default="")
    unit = ""
    if distilled.targets_kind == "regression":
        unit = _unit(key, what[len(key) + 1 :], distilled)
    elif key == "mse":
        unit = " (against the coded labels)"
    order = list(_MEASURES).index(key) if key else len(_MEASURES)
    learner = _learner(rest) + _HOW.get(key, "")
    return Meaning(whose, learner, _MEASURES.get(key, what), unit, order)


def trained_on(name: str) -> str:
    """Which of `TRAINED_ON` the learner behind a scalar saw."""
    for whose in TRAINED_ON[1:]:
        if name.startswith(f"{whose}_"):
            return whose
    return "distilled"


def is_quality(name: str) -> bool:
    """Whether a scalar is an accuracy or an R2: the larger, the better."""
    return name.endswith(("accuracy", "/r2"))


def is_certificate(name: str) -> bool:
    """Whether a scalar belongs to a certificate."""
    return name.startswith("certificate")


def is_diagnostic(name: str) -> bool:
    """Whether a scalar tells of a solver, or of a certificate, not of a worth."""
    return is_certificate(name) or name.rpartition("/")[2] in _DIAGNOSTICS


def number(value: float | int) -> str:
    """A number with four digits or all before the point: `598,123`, `0.4271`, `12`.

    Only what is smaller than 0.0001 or larger than 10^15 is in powers of ten.
    """
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size and not 1e-4 <= size < 1e15:
        return f"{value:.3g}"
    if size >= 999.95:
        # Four digits are read at a glance, more need a comma.
        return f"{value:,.0f}" if size >= 9999.5 else f"{value:.0f}"
    return f"{value:.4g}"


def percent(share: float) -> str:
    """A share of one as a percentage with two digits behind the point, at most."""
    text = f"{100 * share:.2f}"
    return f"{text.rstrip('0').rstrip('.')} %"


def _learner(evaluation: str) -> str:
    """`probe_hinge_wide` or `hinge_wide` as `SVM (hinge), wide`."""
    rest = evaluation.removeprefix("probe_")
    for key in sorted({*LOSSES, *_LEARNERS}, key=len, reverse=True):
        if rest == key or rest.startswith(f"{key}_"):
            other = f"linear model ({key.replace('_', ' ')})"
            words = {**_OF_LOSS, **_LEARNERS}.get(key, other)
            label = rest[len(key) + 1 :]
            if key in ("network", "pretraining"):
                return f"{words} ({label})"
            return f"{words}, {label}" if label else words
    return evaluation


def _unit(key: str, output: str, distilled: DistilledSet) -> str:
    """Which target, and what a number of it stands for."""
    columns, of_targets = distilled.columns, distilled.targets_preprocessing
    scaled = of_targets is not None and of_targets.kind != "none"
    if key == "mse":
        return " (standardised units)" if scaled else " (natural units, squared)"
    if key not in ("rmse", "mae"):
        return ""
    name = output or (columns.targets[0] if columns else "")
    unit = columns.units.get(name, "") if columns else ""
    about = f"{name}, {unit}" if unit else f"{name}, natural units"
    return f" ({about})" if name else " (natural units)"
