"""Distilled regression on scikit-learn's diabetes: rows that stand for 319 patients.

  python -m experiments.launch --config=configs/regression_dd/diabetes.py \
      --workdir=runs/diabetes

Some 10 s on two CPU cores; test R2 0.50 of ridge regression on ten rows through random
Fourier features, where all 319 give 0.50.

Arguments: see `configs.regression_dd.tabular`.
"""

from ml_collections import ConfigDict

from configs.regression_dd.tabular import tabular_config


def get_config(arg: str | None = None) -> ConfigDict:
    defaults = {"m": 10, "length_scale": 4.0, "ridge": 1e-2, "real_ridge": 1e-3}
    return tabular_config(arg, dataset="diabetes", defaults=defaults)
