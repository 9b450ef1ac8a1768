"""Dataset condensation: DM, IDM, DC, DSA, DD, MTT, DATM and FRePo on images.

  python -m experiments.launch --config=configs/condensation/images.py:method=dm \
      --workdir=runs/dm --config.data.directory=DIR

Ten images for CIFAR-10 with the settings of the method's paper, for a GPU.
`:method=dm,dataset=mnist,reduced` takes two minutes on two CPU cores, and a network of
16 channels then has some 85 % test accuracy on MNIST after training on the ten images,
where ten random real ones give 60 %.

Arguments: `method` (see `configs.condensation.settings.CONDENSATION`), `dataset`
(`cifar10`, `mnist`, `digits`, ... or `folder` with `--config.data.directory` and
`size`, their side in pixels), `ipc` (images a class), `reduced`, and `runlocal`, a run
of seconds on digits.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.common import data_section, parse_arg
from configs.condensation.settings import Wanted, condensation


def get_config(arg: str | None = None) -> ConfigDict:
    given: Any = parse_arg(
        arg, method="dm", dataset="cifar10", ipc=1, size=0, reduced=False
    )
    small = given.reduced or given.runlocal
    dataset = "digits" if given.runlocal else given.dataset
    plan = condensation(
        given.method,
        Wanted(
            dataset=dataset,
            per_class=given.ipc,
            reduced=small,
            width=4 if given.runlocal else 16 if small else 128,
            experts_directory=None if small else "local_data/experts",
        ),
    )
    judge: dict[str, Any] = {
        "architecture": "convnet",
        "settings": {"width": 16 if small else 128},
        "protocol": plan.protocol,
        "augment": plan.augment,
    }
    if plan.learning_rate is not None:
        judge["learning_rate"] = plan.learning_rate
    if small:
        judge["networks"] = 2
    every = max(1, plan.steps // 10)
    config: Any = ConfigDict(
        {
            "seed": 0,
            "data": data_section(
                dataset,
                limit=20_000 if small else placeholder(int),
                image_size=given.size or placeholder(int),
                preprocessing=plan.preprocessing,
            ),
            "method": plan.method,
            "train": {
                "steps": plan.steps,
                "chunk": 10,
                "log_every": 10,
                "evaluate_every": 0,
                "checkpoint_every": every,
                "keep": 2,
                "choose": "last",
                "validate": (),
            },
            "evaluate": {"network": judge},
        },
        convert_dict=True,
    )
    if given.runlocal:
        config.update(
            {"data": {"limit": 200}, "train": {"steps": 2, "checkpoint_every": 1}}
        )
        config.evaluate.network.settings = {"width": 4}
        config.evaluate.network.networks = 1
        if plan.protocol != "inner":
            config.evaluate.network.epochs = 2
    return config
