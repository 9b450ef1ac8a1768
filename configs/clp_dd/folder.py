"""Your folder of images, distilled for a frozen encoder: one image a class.

  python -m experiments.launch --config=configs/clp_dd/folder.py --workdir=runs/mine \
      --config.data.directory=IMAGES --config.encoder.weights=WEIGHTS.safetensors

IMAGES holds a subfolder of images for each class, or `train/` and `test/` with those;
they are cropped and resized to 128 x 128 (`--config.data.image_size=224` for larger).
WEIGHTS are those of a supported encoder (`ddjax.models.encoders.ENTRIES`), under the
names that its authors published; `:encoder=NAME` says which, `mobilenetv2` being the
default. The working directory gets the distilled set, its accuracy under both linear
probes beside that of all your images, and a picture in `report.html`.

Images stay in their files, so that there may be any number of them. A few minutes on
two CPU cores for ten classes, most of it for encoding your images once; their features
are kept under `local_data/features` (`--config.encoder.features_directory`).
What accuracy to expect is what the report's `full_data_linear_probe` says, within a few
percent: for Imagenette see `configs/clp_dd/imagenette.py`.

Arguments: see `configs.clp_dd.common.probe_config`.
"""

from ml_collections import ConfigDict

from configs.clp_dd.common import probe_config


def get_config(arg: str | None = None) -> ConfigDict:
    return probe_config(
        arg, dataset="folder", defaults={}, image_size=128, on_device="files"
    )
