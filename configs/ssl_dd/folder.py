"""Your folder of unlabelled images, distilled with a teacher of yours.

  python -m experiments.launch --config=configs/ssl_dd/folder.py --workdir=runs/mine \
      --config.data.directory=IMAGES --config.method.teacher.weights=WEIGHTS.safetensors

IMAGES holds images, directly or in subfolders; they are cropped and resized to 64 x 64.
WEIGHTS are those of a supported encoder (`:teacher=NAME`, `mobilenetv2` by default), or
of a network that `experiments.ssl_dd.teacher` trained (`:teacher=network_file`). The
working directory gets the set, bases and all, its exports for PyTorch and NumPy, and a
picture of the images in `report.html`.

Some 30 000 steps at this size are for a GPU (hours on one); `:steps=2000` with
`--config.method.pool.settings.widths=(16,32,64,64)` is for two cores, in about an hour.
There is no score without labels: pretrain a network on the set and try it on your task.

Arguments: see `configs.ssl_dd.common.representation_config`.
"""

from ml_collections import ConfigDict

from configs.ssl_dd.common import representation_config


def get_config(arg: str | None = None) -> ConfigDict:
    return representation_config(
        arg,
        dataset="folder",
        image_size=64,
        has_labels=False,
        widths=(64, 128, 256, 512),
        downscale=4,
    )
