"""CLP-DD on the first 50 classes of CUB-200-2011 (128 px) with a frozen MobileNetV2.

  python -m experiments.launch --config=configs/clp_dd/cub50.py --workdir=runs/cub50 \
      --config.data.directory=DIR

DIR holds `cub50/{train,test}/` and `encoders/mobilenetv2_features.safetensors`.
Some ten minutes on two CPU cores. Expected test accuracy: 61 % by the probe in closed
form (all real images: 62 %), see docs/papers/clp_dd.md.

Arguments: see `configs.clp_dd.common.probe_config`.
"""

from ml_collections import ConfigDict

from configs.clp_dd.common import probe_config


def get_config(arg: str | None = None) -> ConfigDict:
    return probe_config(
        arg, dataset="cub50", defaults={}, image_size=128, temperature=0.3
    )
