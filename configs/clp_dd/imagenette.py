"""CLP-DD on Imagenette (ten classes of ImageNet, 128 px) with a frozen MobileNetV2.

  python -m experiments.launch --config=configs/clp_dd/imagenette.py \
      --workdir=runs/imagenette --config.data.directory=DIR

DIR holds `imagenette/{train,val}/` and `encoders/mobilenetv2_features.safetensors`.
Some six minutes on two busy CPU cores, two of them for encoding the images once.
Expected test accuracy: 94.4 % by the probe in closed form, as of all real images, and
78 % by gradient; with `:augment` see the table in docs/papers/clp_dd.md.

Arguments: see `configs.clp_dd.common.probe_config`.
"""

from ml_collections import ConfigDict

from configs.clp_dd.common import probe_config


def get_config(arg: str | None = None) -> ConfigDict:
    return probe_config(arg, dataset="imagenette", defaults={}, image_size=128)
