"""DGKIP on CIFAR-10, aeroplanes against cars: two images stand for 9 000.

  python -m experiments.launch --config=configs/dgkip/cifar10.py \
      --workdir=runs/cifar10 --config.data.directory=DIR

Expected: about 85 % test accuracy of logistic regression on the distilled pair, within
five minutes on two cores. Arguments: see `configs.dgkip.images`, for instance
`:ipc=10,loss=hinge`, `:ten` (all ten classes) or `:paper` (the paper's number of random
networks, for a GPU).
"""

from ml_collections import ConfigDict

from configs.dgkip.images import image_config


def get_config(arg: str | None = None) -> ConfigDict:
    return image_config(
        arg,
        dataset="cifar10",
        defaults={"arch": "convolutional", "networks": 2, "width": 128},
    )
