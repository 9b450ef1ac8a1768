"""Distilled regression on a table of one's own, CSV or Parquet.

  python -m experiments.launch \
      --config=configs/regression_dd/table.py:file=houses.csv,target=price \
      --workdir=runs/houses --config.data.directory=FOLDER

Seconds to a minute on two CPU cores: a step costs the same for any number of rows. The
report has R2, RMSE and MAE of the distilled rows beside those of all rows;
`exports/distilled.csv` has the rows in natural units.

Beside those of `configs.regression_dd.tabular` the arguments are `file`, below
`data.directory`, and `target`, the column to predict. `ddjax.data.tabular.read` says
what `--config.data.table.missing=drop` and `--config.data.table.text=refuse` do.
"""

from ml_collections import ConfigDict

from configs.regression_dd.tabular import tabular_config


def get_config(arg: str | None = None) -> ConfigDict:
    defaults = {"file": "table.csv", "target": "target", "real_ridge": 1e-4}
    return tabular_config(arg, dataset="table", defaults=defaults)
