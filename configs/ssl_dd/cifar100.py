"""KRR-ST boosted on CIFAR-100: bases, views and networks in the storage of 100 images.

  python -m experiments.launch --config=configs/ssl_dd/cifar100.py \
      --workdir=runs/ssl --data_dir=DIR

DIR holds `cifar100/` (the binary version) and `encoders/` with the teacher's weights;
`:teacher=network_file --config.method.teacher.weights=FILE` takes a network that
`python -m experiments.ssl_dd.teacher` trained. At the papers' size (30 000 steps,
students of 128-256-512 channels), which is for a GPU; published with a ResNet-18
teacher: 52.41 % for a ConvNet pretrained on the set, 47.00 % of KRR-ST, `:plain`. For
two cores see `experiments.ssl_dd.table --scale=reduced`.

Arguments: see `configs.ssl_dd.common.representation_config`.
"""

from ml_collections import ConfigDict

from configs.ssl_dd.common import representation_config


def get_config(arg: str | None = None) -> ConfigDict:
    return representation_config(
        arg,
        dataset="cifar100",
        image_size=None,
        has_labels=True,
        widths=(128, 256, 512),
        downscale=2,
    )
