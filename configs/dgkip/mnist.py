"""DGKIP on MNIST, zeros against ones: two images stand for 11 399.

  python -m experiments.launch --config=configs/dgkip/mnist.py \
      --workdir=runs/mnist --config.data.directory=DIR

Expected: about 99.9 % test accuracy of logistic regression on the distilled pair,
within two minutes on two cores. Arguments: see `configs.dgkip.images`, for instance
`:ipc=10,loss=hinge`, `:ten` (all ten classes) or `:paper` (the paper's number of random
networks, for a GPU).
"""

from ml_collections import ConfigDict

from configs.dgkip.images import image_config


def get_config(arg: str | None = None) -> ConfigDict:
    return image_config(arg, dataset="mnist", defaults={})
