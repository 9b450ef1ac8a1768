"""CLP-DD on a hundred classes of ImageNet with a frozen ViT-B.

  python -m experiments.launch --config=configs/clp_dd/imagenet100.py:encoder=NAME \
      --workdir=runs/imagenet100 --config.data.directory=TFDS_DIR \
      --config.encoder.weights=WEIGHTS.safetensors

See `configs/clp_dd/imagenet1k.py` for TFDS_DIR, the encoders, and what has not been
run. The classes are the first hundred labels; the literature has several lists, which
`--config.data.classes="('n01558993', ...)"` takes by name.

Arguments: see `configs.clp_dd.common.probe_config`.
"""

from ml_collections import ConfigDict

from configs.clp_dd.imagenet1k import imagenet_config


def get_config(arg: str | None = None) -> ConfigDict:
    return imagenet_config(arg, classes=tuple(range(100)))
