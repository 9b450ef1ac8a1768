"""What the configurations on image data sets share."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.common import data_section, parse_arg, training

__all__ = ["image_config"]


def image_config(
    arg: str | None, *, dataset: str, defaults: Mapping[str, bool | int | float | str]
) -> ConfigDict:
    """DGKIP on an image data set.

    Args:
      arg: what follows the colon in `--config=file.py:arg`. Known names: `ipc`, `loss`,
        `ten` (all classes instead of 0 and 1), `arch` (`fully_connected` or
        `convolutional`), `networks`, `width`, `steps`, `paper` (the paper's networks,
        30 of 1024 units or 8 of 256 channels), `runlocal`.
      dataset: name of the data set.
      defaults: values of those names that differ from the common ones.
    """
    given: Any = parse_arg(
        arg,
        **{
            "ipc": 1,
            "loss": "logistic",
            "ten": False,
            "arch": "fully_connected",
            "networks": 4,
            "width": 1024,
            "steps": 500,
            "paper": False,
            **defaults,
        },
    )
    if given.paper:
        convolutional = given.arch == "convolutional"
        given.networks, given.width = (8, 256) if convolutional else (30, 1024)
    # With ten classes a reference of norm 300 is out of a few samples' reach. Chosen on
    # validation splits: docs/papers/dgkip.md.
    ridge = 1e-5 if given.ten else 1e-6
    rate, targets_rate = (0.3, 0.03) if given.ten else (0.1, 0.01)
    loss = "softmax" if given.ten and given.loss == "logistic" else given.loss
    probe: dict[str, Any] = {"draws": 1, "ridge_per_sample": ridge}
    other = {"logistic": "hinge", "hinge": "logistic"}.get(loss)
    config: Any = ConfigDict(
        {
            "seed": 0,
            "data": data_section(
                dataset, classes=placeholder(tuple) if given.ten else (0, 1)
            ),
            "method": {
                "name": "dgkip",
                "loss": loss,
                "per_class": given.ipc,
                "features": {
                    "kind": "random_features",
                    "architecture": {"kind": given.arch, "width": given.width},
                    "networks": given.networks,
                },
                "real_ridge": ridge,
                "distilled_ridge": ridge,
                "initialization": "kmeans_centres" if given.ten else "balanced",
                "descent": {
                    "learning_rate": rate,
                    "schedule": "cosine",
                    "warmup": 0.1,
                    "rates": {"targets": targets_rate},
                },
                # See `ddjax.methods.dgkip`: the way around the trap of few samples.
                "duals": "learned",
            },
            "train": training(given.steps, validate="probe"),
            "evaluate": {"probe": {"loss": loss, **probe}, "certificate": {}},
        }
    )
    if other is not None:
        config.evaluate["transfer"] = {"name": "probe", "loss": other, **probe}
    if given.runlocal:
        config.update(
            {
                "data": {"limit": 400},
                "method": {"features": {"networks": 1, "architecture": {"width": 32}}},
                "train": {"steps": 10, "evaluate_every": 5, "checkpoint_every": 5},
            }
        )
    return config
