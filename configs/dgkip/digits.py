"""DGKIP on scikit-learn's digits: ten 8 x 8 images that stand for 1294.

  python -m experiments.launch --config=configs/dgkip/digits.py --workdir=runs/digits

Half a minute on two CPU cores; 96 % test accuracy of logistic regression (softmax) on
the ten samples (95.8 to 97.2 % with the versions and threads of a machine), where ten
random real ones give 60 % and all 1294 give 98.3 %.

Arguments: `ipc` (samples a class), `loss` (a name in `ddjax.kernels.losses`), and
`runlocal`, a run of seconds.
"""

from ml_collections import ConfigDict

from configs.common import data_section, parse_arg, training
from ddjax.command.configuration import preset
from ddjax.kernels import losses


def get_config(arg: str | None = None) -> ConfigDict:
    given = parse_arg(arg, ipc=1, loss="softmax")
    settings = preset("dgkip")
    regression = losses.get(given.loss).kind == "regression"
    settings["method"] |= {
        "loss": given.loss,
        "per_class": given.ipc,
        "duals": "optimality" if regression else "learned",
    }
    # One and the same section, so that a change of the probe's is one of both.
    learner = {"name": "probe", **settings["evaluate"]["probe"], "loss": given.loss}
    config = ConfigDict(
        {
            "seed": 0,
            "data": data_section("digits"),
            "method": settings["method"],
            "train": {
                **training(1000, validate="probe", evaluations=5, chunk=100),
                "choose": settings["train"]["choose"],
            },
            "evaluate": {
                "probe": learner,
                # What distillation is worth: as many random real images, and all.
                "random_real": {"learner": learner},
                "full_data": {**settings["evaluate"]["full_data"], "loss": given.loss},
                "certificate": {},
            },
        }
    )
    if given.runlocal:
        config.update(
            {
                "data": {"limit": 300},
                "method": {"features": {"networks": 1, "architecture": {"width": 64}}},
                "train": {"steps": 20, "evaluate_every": 10, "checkpoint_every": 10},
            }
        )
    return config
