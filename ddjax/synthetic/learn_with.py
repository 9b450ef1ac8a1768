"""What a learner outside this library needs to know to train on a distilled set.

The targets of a set ask for a loss and a head. An export says which, in words and
formulas that need none of this code: see `learn_with`.
"""

from typing import Any

import numpy as np

from ddjax.kernels import losses
from ddjax.synthetic.distilled import DistilledSet, decoded, decoded_shapes

__all__ = ["FORMULAS", "PREDICTIONS", "learn_with"]

FORMULAS = {
    "squared": "mean((outputs - targets)**2)",
    "cross_entropy": "-mean(sum(targets * log_softmax(outputs), axis=1))",
    "logistic": "mean(log(1 + exp(-targets * outputs)))",
}
"""The loss that goes with targets, by name; outputs and targets are `(m, outputs)`."""

PREDICTIONS = {
    "largest": "class k where outputs[:, k] is the largest",
    "sign": "class 1 where outputs[:, 0] > 0, else class 0",
    "value": "outputs * targets_std + targets_mean, where the file has those two",
}
"""What outputs mean, by name."""


def learn_with(distilled: DistilledSet) -> dict[str, Any]:
    """The loss, the head and the rule of prediction that go with a set's targets.

    Args:
      distilled: the set.

    Returns:
      JSON-able: `outputs` (number of output units of the head), `loss` (a key of
      `FORMULAS`) with its `formula`, `prediction` (a key of `PREDICTIONS`) and
      `prediction_in_words`; where ridge regression on the inputs as they are is what
      the set was distilled for, `ridge`, its absolute strength lambda in
      `|outputs - targets|**2 + lambda |weights|**2`; and `through`, what else learners
      see the inputs through: `features` (see `ddjax.models.feature_maps`), or
      `encoders` with their `probe`.
    """
    shape = decoded_shapes(distilled).targets.shape
    outputs = 1 if len(shape) == 1 else shape[1]
    loss, prediction = _loss(distilled), _prediction(distilled, outputs)
    result = {
        "outputs": outputs,
        "loss": loss,
        "formula": FORMULAS[loss],
        "prediction": prediction,
        "prediction_in_words": PREDICTIONS[prediction],
    }
    through = {
        key: distilled.recipe[key]
        for key in ("features", "encoders", "probe")
        if key in distilled.recipe
    }
    if through.get("features") == {"kind": "inputs"}:
        del through["features"]
        if loss == "squared" and distilled.recipe.get("ridge"):
            result["ridge"] = _absolute(distilled)
    return {**result, "through": through} if through else result


def _loss(distilled: DistilledSet) -> str:
    if distilled.targets_kind == "probabilities":
        return "cross_entropy"
    given = distilled.recipe.get("loss") or {}
    name = given.get("name")
    # Scores of a margin loss are signs, one column a class against the rest.
    of_margins = name in losses.LOSSES and losses.get(name).kind == "margin"
    if distilled.targets_kind == "margin" or of_margins:
        return "logistic"
    return "squared"


def _prediction(distilled: DistilledSet, outputs: int) -> str:
    if distilled.targets_kind in ("regression", "representation"):
        return "value"
    return "sign" if outputs == 1 else "largest"


def _absolute(distilled: DistilledSet) -> float:
    strength = float(distilled.recipe["ridge"]["strength"])
    convention = distilled.recipe["ridge"]["convention"]
    inputs = np.asarray(decoded(distilled).inputs, np.float64)
    if convention == "relative":
        return strength * float(np.sum(np.square(inputs))) / len(inputs)
    return strength * len(inputs) if convention == "per_sample" else strength
