"""Random differentiable augmentations of images, composed of single transforms.

Drawing is apart from applying: `Transform.draw` makes explicit parameters from a key,
`Transform.apply` is a function of them and of the images. `make` builds a transform
from a configuration's values, `augmenter` a function `(key, images) -> images`.
"""

from ddjax.data.augment.base import Transform, compose, one_of
from ddjax.data.augment.colours import color_jitter, grayscale, solarize
from ddjax.data.augment.geometry import (
    crop,
    flip,
    resized_crop,
    rotate,
    sample_bilinear,
    scale,
)
from ddjax.data.augment.named import (
    AUGMENTATIONS,
    TRANSFORMS,
    PlainSetting,
    Setting,
    augmenter,
    crop_jitter_solarize,
    dsa,
    flip_crop_noise,
    make,
)
from ddjax.data.augment.values import color, cutout, noise

__all__ = [
    "AUGMENTATIONS",
    "TRANSFORMS",
    "PlainSetting",
    "Setting",
    "Transform",
    "augmenter",
    "color",
    "color_jitter",
    "compose",
    "crop",
    "crop_jitter_solarize",
    "cutout",
    "dsa",
    "flip",
    "flip_crop_noise",
    "grayscale",
    "make",
    "noise",
    "one_of",
    "resized_crop",
    "rotate",
    "sample_bilinear",
    "scale",
    "solarize",
]
