"""Distilled regression as the paper runs it, on its synthetic linear problem.

  python -m experiments.launch --config=configs/regression_dd/synthetic.py \
      --workdir=runs/synthetic

99 samples from noise, T inner steps of gradient descent from 30 random initial weights
(up to 60 where the loss rises, and T up to 1.5 T as the run goes on), batches of 32 of
the 800 real rows, plain gradient descent. Under a minute on two CPU cores. Ridge
regression on the set of step 500, the best by validation, has a test R2 of 0.97 (on all
rows: 1.00); the set is made for T steps of descent, not for ridge regression.

Arguments: `T` (inner steps: 100, 125, 150, 175), `m` (samples), `fixed` (T and Q stay
what they are), `runlocal`, a run of seconds.
`python -m experiments.regression_dd.convergence` makes the paper's table.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.common import parse_arg, training


def get_config(arg: str | None = None) -> ConfigDict:
    given: Any = parse_arg(arg, T=100, m=99, fixed=False)
    # One and the same section, so that a change of the evaluation's is one of both.
    learner = {"name": "regression"}
    config: Any = ConfigDict(
        {
            "seed": 0,
            "data": {
                "name": "linear",
                "limit": placeholder(int),
                "preprocessing": "none",
                "standardize_targets": False,
            },
            "method": {
                "name": "regression",
                "count": given.m,
                "inner_steps": given.T,
                "inner_ridge": 1e-3,
                "outer_ridge": 1e-3,
                "step_size": 0.05,
                "draws": 30,
                "reduction": "sum",
                "batch_size": 32,
                "steps_growth": placeholder(float) if given.fixed else 0.12,
                "most_draws": placeholder(int) if given.fixed else 60,
                "form": "spectral",
                "initialization": "noise",
                "descent": {"optimizer": "sgd", "learning_rate": 0.0025},
            },
            "train": training(2500, validate="regression", chunk=100),
            "evaluate": {
                "regression": learner,
                "random_real": {"learner": learner},
                "full_data": {"loss": "squared", "ridge_per_sample": 1e-3},
            },
        }
    )
    if given.runlocal:
        config.update(
            {
                "data": {"limit": 200},
                "method": {"count": 9, "inner_steps": 10, "draws": 4},
                "train": {"steps": 20, "evaluate_every": 10, "checkpoint_every": 10},
            }
        )
        if not given.fixed:
            config.method.most_draws = 6
    return config
