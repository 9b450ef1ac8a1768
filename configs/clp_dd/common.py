"""What the configurations of distillation on frozen encoders share."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.common import data_section, parse_arg, training

__all__ = ["probe_config"]


def probe_config(
    arg: str | None,
    *,
    dataset: str,
    defaults: Mapping[str, bool | int | float | str],
    image_size: int | None,
    classes: tuple[int, ...] | None = None,
    on_device: bool | str = False,
    temperature: float = 0.1,
) -> ConfigDict:
    """CLP-DD on images.

    The section `encoder` is of the method and the evaluations alike:
    `--config.encoder.weights`, `--config.encoder.features_directory`. Encoders are
    looked for in `encoders/` below `--config.data.directory` too.

    Args:
      arg: what follows the colon in `--config=file.py:arg`. Known names: `ipc`,
        `encoder` (registered name), `steps`, `outer` (`cross_entropy` or `squared`),
        `augment` (flips, crops and noise on 3 copies of each distilled image),
        `full_protocol` (the probe's training as published, new views in every epoch)
        and `runlocal` (random weights, few small images, two steps).
      dataset: name of the data set.
      defaults: values of those names that differ from the common ones.
      image_size: side of the images in pixels; None for the files' own.
      classes: which classes; None for all.
      on_device: see `ddjax.data.load`.
      temperature: of the cross-entropy.
    """
    given: Any = parse_arg(
        arg,
        **{
            "ipc": 1,
            "encoder": "mobilenetv2",
            "steps": 500,
            "outer": "cross_entropy",
            "augment": False,
            "full_protocol": False,
            **defaults,
        },
    )
    directory = placeholder(str)
    encoder: dict[str, Any] = {
        "name": given.encoder,
        "directory": directory,
        "weights": placeholder(str),
        "random": placeholder(int),
        "features_directory": "local_data/features",
    }
    closed_form: dict[str, Any] = {"name": "linear_probe", "kinds": ("closed_form",)}
    gradient = {
        **closed_form,
        "kinds": ("gradient",),
        "views": placeholder(int) if given.full_protocol else 20,
        "epochs": 1000,
        "seeds": 5,
    }
    config: Any = ConfigDict(
        {
            "seed": 0,
            "data": data_section(
                dataset,
                directory=directory,
                classes=placeholder(tuple) if classes is None else classes,
                image_size=placeholder(int) if image_size is None else image_size,
                preprocessing="none",
                on_device=on_device,
            ),
            "encoder": encoder,
            "method": {
                "name": "clp",
                "per_class": given.ipc,
                "outer": given.outer,
                "temperature": temperature,
                "augmentation": "flip_crop_noise" if given.augment else None,
                "copies": 3 if given.augment else 1,
                # One image a class may be fitted closely, several or copies not.
                "ridge": 1.0 if given.augment or given.ipc > 1 else 1e-2,
                "initialization": "balanced",
                "decoder": {"name": "pyramid", "extend_every": 0.0},
                "descent": {"learning_rate": 1e-2, "schedule": "cosine"},
            },
            "train": training(given.steps, validate="closed_form", evaluations=5),
            "evaluate": {
                "closed_form": closed_form,
                "gradient": gradient,
                "random_real": {"learner": closed_form},
                "full_data": {
                    "name": "full_data_linear_probe",
                    "kinds": ("closed_form",),
                },
            },
        },
        convert_dict=True,
    )
    if given.runlocal:
        config.encoder.random = 0
        config.update(
            {
                "data": {"limit": 60, "image_size": 32},
                "train": {"steps": 2, "evaluate_every": 1, "checkpoint_every": 1},
                "evaluate": {"gradient": {"views": 2, "epochs": 5, "seeds": 1}},
            }
        )
    return config
