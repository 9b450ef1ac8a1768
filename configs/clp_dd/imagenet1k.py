"""CLP-DD on ImageNet-1K with a frozen ViT-B: one image for each of 1000 classes.

  python -m experiments.launch --config=configs/clp_dd/imagenet1k.py:encoder=NAME \
      --workdir=runs/imagenet1k --config.data.directory=TFDS_DIR \
      --config.encoder.weights=WEIGHTS.safetensors

TFDS_DIR is the data directory of TensorFlow Datasets with `imagenet2012` prepared with
`file_format="array_record"`; images stay in its files and are decoded once for their
features. Encoders of the paper: `clip_vit_b16`, `dinov2_vit_b14`, `eva02_vit_b14`,
`mocov3_vit_b16`; the weights' sources are in `ddjax.models.encoders.ENTRIES`. Images
pass through the encoder 50 at a time.

Not run: neither ImageNet nor these weights were at hand. The same code is tested on
small stand-ins. No time or accuracy of our own to expect; the paper's
(arXiv 2605.07194) is that of LGM with augmentation or above on three of the four.

Arguments: see `configs.clp_dd.common.probe_config`.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.clp_dd.common import probe_config


def imagenet_config(arg: str | None, classes: tuple[int, ...] | None = None) -> Any:
    """CLP-DD on ImageNet or some of its classes."""
    config: Any = probe_config(
        arg,
        dataset="tfds:imagenet2012",
        defaults={"encoder": "clip_vit_b16", "steps": 1000},
        image_size=224,
        on_device="files",
        classes=classes,
    )
    config.method.micro_batch = 50
    return config


def get_config(arg: str | None = None) -> ConfigDict:
    config = imagenet_config(arg)
    config.method.batch_size = 10_000
    return config
