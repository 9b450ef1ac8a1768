"""What the configurations on tables share."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs.common import data_section, parse_arg, training

__all__ = ["tabular_config"]


def tabular_config(
    arg: str | None, *, dataset: str, defaults: Mapping[str, bool | int | float | str]
) -> ConfigDict:
    """Distilled regression of a table, learned through ridge regression.

    Args:
      arg: what follows the colon in `--config=file.py:arg`. Known names: `m` (distilled
        rows), `features` (`fourier`, random Fourier features, or `inputs`, a linear
        model), `frequencies` (half the number of Fourier features), `length_scale`,
        `ridge` (of the inner ridge regression, per sample), `real_ridge` (of that on
        all rows, which is what the rows are compared with), `steps`, `runlocal`; and
        for a table of one's own `file` and `target`.
      dataset: name of the data set.
      defaults: values of those names that differ from the common ones; `file` and
        `target` are known where they are among them.
    """
    given: Any = parse_arg(
        arg,
        **{
            "m": 20,
            "features": "fourier",
            "frequencies": 128,
            "length_scale": 1.0,
            "ridge": 1e-3,
            "real_ridge": 1e-6,
            "steps": 1000,
            **defaults,
        },
    )
    features: dict[str, Any] = {"kind": given.features}
    if given.features == "fourier":
        features |= {
            "frequencies": given.frequencies,
            "length_scale": given.length_scale,
        }
    # One and the same section, so that a change of the evaluation's is one of both.
    learner = {"name": "regression"}
    config: Any = ConfigDict(
        {
            "seed": 0,
            "data": data_section(dataset),
            "method": {
                "name": "regression",
                "count": given.m,
                "inner": "ridge",
                "inner_ridge": given.ridge,
                "features": features,
                "descent": {"learning_rate": 0.03, "schedule": "cosine"},
            },
            "train": training(given.steps, validate="regression"),
            "evaluate": {
                "regression": learner,
                "random_real": {"learner": learner},
                "full_data": {
                    "loss": "squared",
                    "ridge_per_sample": given.real_ridge,
                    "block": 4096,
                },
            },
        }
    )
    if "file" in defaults:
        config.data.name = f"table:{given.file}"
        config.data.table = ConfigDict(
            {"target": given.target, "text": "one_hot", "missing": "refuse"}
        )
    if given.runlocal:
        config.update(
            {
                "data": {"limit": 400},
                "train": {"steps": 20, "evaluate_every": 10, "checkpoint_every": 10},
            }
        )
        if given.features == "fourier":
            config.method.features.frequencies = 16
    return config
