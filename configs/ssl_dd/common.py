"""What the configurations of self-supervised distillation share."""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.common import data_section, parse_arg

__all__ = ["representation_config"]


def representation_config(
    arg: str | None,
    *,
    dataset: str,
    image_size: int | None,
    has_labels: bool,
    widths: tuple[int, ...],
    downscale: int,
) -> ConfigDict:
    """KRR-ST boosted on images, with or without labels.

    Args:
      arg: what follows the colon in `--config=file.py:arg`. Known names: `budget`
        (storage in images), `teacher` (a registered encoder, or `network_file` for one
        that `experiments.ssl_dd.teacher` trained), `steps`, `views`, `plain` (KRR-ST
        itself, pairs stored as they are) and `runlocal` (random weights, few images,
        two steps).
      dataset: name of the data set.
      image_size: side of the images in pixels; None for the files' own.
      has_labels: whether networks that are pretrained on the set are probed.
      widths: channels of the students, one number a block.
      downscale: of the image bases.
    """
    given: Any = parse_arg(
        arg,
        budget=100,
        teacher="mobilenetv2",
        steps=30_000,
        views="rotation",
        plain=False,
    )
    directory = placeholder(str)
    own = given.teacher == "network_file"
    network = {"widths": widths, "depth": len(widths), "norm": "batch"}
    teacher = {
        "name": given.teacher,
        "directory": None if own else directory,
        "weights": placeholder(str),
        "random": placeholder(int),
    }
    method: dict[str, Any] = {
        "name": "krr_st" if given.plain else "ssl_dd",
        "teacher": {
            k: v for k, v in teacher.items() if not own or k in ("name", "weights")
        },
        # Encoders for 224 pixels see next to nothing in 32.
        "teacher_size": placeholder(int) if own else max(64, image_size or 0),
        "representations_directory": "local_data/features",
        "pool": {"settings": network, "students": 10, "steps": 1000},
        "batch_size": 1024,
    }
    if given.plain:
        method["count"] = given.budget
    else:
        method |= {
            "images": given.budget,
            "image_bases": 2 * given.budget,
            "target_bases": 2 * given.budget,
            "downscale": downscale,
            "views": given.views,
        }
    judge = {"architecture": "convnet", "settings": network, "networks": 3}
    config: Any = ConfigDict(
        {
            "seed": 0,
            "data": data_section(
                dataset,
                directory=directory,
                image_size=placeholder(int) if image_size is None else image_size,
            ),
            "method": method,
            "train": {
                "steps": given.steps,
                "chunk": 50,
                "log_every": 50,
                "evaluate_every": 0,
                "checkpoint_every": 500,
                "keep": 2,
                "choose": "last",
                "validate": (),
            },
            "evaluate": {"pretraining": judge} if has_labels else {},
        },
        convert_dict=True,
    )
    if given.runlocal:
        if not own:
            config.method.teacher.random = 0
        small = {"widths": (4,), "depth": 1, "norm": "batch"}
        config.update(
            {
                "data": {"limit": 60},
                "method": {
                    "pool": {"settings": small, "students": 2, "steps": 2},
                    "batch_size": 20,
                    "teacher_size": 32,
                },
                "train": {"steps": 2, "checkpoint_every": 1},
            }
        )
        if given.plain:
            config.method.count = 4
        else:
            sizes = {"images": 8, "image_bases": 8, "target_bases": 4}
            config.method.update(sizes)
        if has_labels:
            config.evaluate.pretraining.update(
                {"settings": small, "networks": 1, "epochs": 2}
            )
    return config
