"""Kernel inducing points: runs, and what they leave. The loss: `test_precision.py`."""

import pytest

from ddjax import methods
from ddjax.synthetic.distilled import decoded
from tests.methods.runs import distilled, run

RANDOM = {
    "kind": "random_features",
    "architecture": {"kind": "fully_connected", "depth": 1, "width": 64},
    "networks": 2,
}
EXACT = {"kind": "ntk", "architecture": {"kind": "fully_connected", "depth": 1}}


@pytest.mark.parametrize("features", [RANDOM, EXACT], ids=["random", "exact"])
def test_steps_lower_the_loss(three_classes, features):
    method = methods.kip(
        features=features,
        per_class=1,
        batch_size=64,
        ridge=1e-3,
        descent={"learning_rate": 0.05},
    )
    data, _, state, metrics = run(method, three_classes, steps=30)
    first, last = metrics["loss"][:5].mean(), metrics["loss"][-5:].mean()
    assert last < 0.7 * first
    made = distilled(method, three_classes, data, state)
    assert decoded(made).targets.shape == (3, 3) and made.targets_kind == "scores"
    kernel = made.recipe["features"]
    assert kernel["kind"] == features["kind"]
    assert kernel.get("readout", True) is True
    assert made.recipe["ridge"] == {"strength": 1e-3, "convention": "relative"}
