"""Whole augmentations and transforms by name, and from a configuration's values."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.checks import check_names
from ddjax.data.augment import colours, geometry, values
from ddjax.data.augment.base import Factory, Transform, compose, one_of
from ddjax.kernels._keywords import check_keywords

__all__ = [
    "AUGMENTATIONS",
    "TRANSFORMS",
    "PlainSetting",
    "Setting",
    "augmenter",
    "crop_jitter_solarize",
    "dsa",
    "flip_crop_noise",
    "make",
]

PlainSetting = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
"""A name; a mapping with `name` and settings; or several of those."""

Setting = str | Mapping[str, Any] | Sequence[Any] | Transform
"""As `PlainSetting`, or a transform."""

TRANSFORMS: dict[str, Factory] = {
    "flip": geometry.flip,
    "scale": geometry.scale,
    "rotate": geometry.rotate,
    "crop": geometry.crop,
    "cutout": values.cutout,
    "color": values.color,
    "resized_crop": geometry.resized_crop,
    "noise": values.noise,
    "color_jitter": colours.color_jitter,
    "grayscale": colours.grayscale,
    "solarize": colours.solarize,
}
"""Single transforms by name."""

_JOINED: dict[str, Callable[..., Transform]] = {"compose": compose, "one_of": one_of}


def dsa(
    *,
    strategy: str = "flip_scale_rotate_crop_cutout_color",
    flip: float = 0.5,
    scale: float = 1.2,
    rotate: float = 15.0,
    crop: float = 0.125,
    cutout: float = 0.5,
    brightness: float = 1.0,
    saturation: float = 2.0,
    contrast: float = 0.5,
) -> Transform:
    """Differentiable siamese augmentation: one operation of `strategy`, drawn once.

    One operation is chosen for the whole batch, each with the same probability
    (`one_of`). Its parameters are drawn once for the batch where the draw is shared, so
    that two batches (real and synthetic) are transformed alike, and for each image
    otherwise. What comes from outside the image is 0, the mean in standardised space.

    Source: Zhao and Bilen, "Dataset Condensation with Differentiable Siamese
    Augmentation" (ICML 2021), with its published defaults. Rotation here is rigid in
    pixels; on images that are not square the published one shears.

    Args:
      strategy: names of transforms joined by `_`, from flip, scale, rotate, crop,
        cutout and color.
      flip: `probability` of `flip`.
      scale: `largest` of `scale`.
      rotate: `degrees` of `rotate`.
      crop: `part` of `crop`.
      cutout: `part` of `cutout`.
      brightness: of `color`.
      saturation: of `color`.
      contrast: of `color`.

    Raises:
      ValueError: an unknown operation, with the known ones, or a number out of range.
    """
    settings = dict(locals())
    available = {
        "flip": geometry.flip(probability=flip),
        "scale": geometry.scale(largest=scale),
        "rotate": geometry.rotate(degrees=rotate),
        "crop": geometry.crop(part=crop),
        "cutout": values.cutout(part=cutout),
        "color": values.color(
            brightness=brightness, saturation=saturation, contrast=contrast
        ),
    }
    names = strategy.split("_")
    for name in names:
        if name not in available:
            raise ValueError(
                f"unknown operation {name!r} in strategy {strategy!r}; known: "
                f"{', '.join(available)}"
            )
    joined = one_of(*(available[name] for name in names))
    return Transform("dsa", settings, joined.draw, joined.apply)


def flip_crop_noise(
    *,
    flip: float = 0.5,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    noise: float = 0.5,
    noise_std: float = 0.2,
    noise_mean: float = 0.0,
) -> Transform:
    """A random flip, a random resized crop and, now and then, Gaussian noise.

    For pixels in [0, 1]; the noise may leave that range.

    Source: the augmentation of Cazenavette, Torralba and Sitzmann (NeurIPS 2025, arXiv
    2511.16674). Its first release adds noise of mean 0.5, those since March 2026 of
    mean 0.

    Args:
      flip: `probability` of `flip`.
      scale: of `resized_crop`.
      ratio: of `resized_crop`.
      noise: `probability` of `noise`; 0 for none.
      noise_std: `std` of `noise`.
      noise_mean: `mean` of `noise`.

    Raises:
      ValueError: a number out of range.
    """
    settings = {**locals(), "scale": list(scale), "ratio": list(ratio)}
    transforms = [
        geometry.flip(probability=flip),
        geometry.resized_crop(scale=scale, ratio=ratio),
        values.noise(probability=noise, std=noise_std, mean=noise_mean),
    ]
    # Without noise there is none to draw.
    joined = compose(*(transforms if noise else transforms[:2]))
    return Transform("flip_crop_noise", settings, joined.draw, joined.apply)


def crop_jitter_solarize(
    *,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
    jitter: float = 0.8,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.2,
    hue: float = 0.1,
    grayscale: float = 0.2,
    solarize: float = 0.2,
) -> Transform:
    """A random resized crop, a flip, jittered colours, now and then grey or solarized.

    For pixels in [0, 1]. One view of an image in self-supervised learning.

    Source: Zbontar et al., "Barlow Twins" (ICML 2021), section 2.2, after Grill et al.
    (BYOL, NeurIPS 2020, appendix B), without their Gaussian blur, which is left out
    for images of 32 x 32. There `solarize` is 0 for one of the two views.

    Args:
      scale: of `resized_crop`.
      ratio: of `resized_crop`.
      flip: `probability` of `flip`.
      jitter: `probability` of `color_jitter`.
      brightness: of `color_jitter`.
      contrast: of `color_jitter`.
      saturation: of `color_jitter`.
      hue: of `color_jitter`.
      grayscale: `probability` of `grayscale`.
      solarize: `probability` of `solarize`.

    Raises:
      ValueError: a number out of range.
    """
    settings = {**locals(), "scale": list(scale), "ratio": list(ratio)}
    joined = compose(
        geometry.resized_crop(scale=scale, ratio=ratio),
        geometry.flip(probability=flip),
        colours.color_jitter(
            probability=jitter,
            brightness=brightness,
            contrast=contrast,
            saturation=saturation,
            hue=hue,
        ),
        colours.grayscale(probability=grayscale),
        colours.solarize(probability=solarize),
    )
    return Transform("crop_jitter_solarize", settings, joined.draw, joined.apply)


AUGMENTATIONS: dict[str, Factory] = {
    "dsa": dsa,
    "flip_crop_noise": flip_crop_noise,
    "crop_jitter_solarize": crop_jitter_solarize,
}
"""Whole augmentations by name."""


def make(setting: Setting) -> Transform:
    """A transform from a configuration's plain values.

    >>> make(["flip", {"name": "noise", "std": 0.1}]).settings["transforms"][1]
    {'name': 'noise', 'probability': 0.5, 'std': 0.1, 'mean': 0.0}

    Args:
      setting: a name in `TRANSFORMS` or `AUGMENTATIONS`; a mapping with `name` and that
        factory's keywords; a sequence of those, composed in this order; or a mapping
        with `name` `compose` or `one_of` and `transforms`, such a sequence. A
        `Transform` is returned as it is.

    Raises:
      ValueError: an unknown name, setting, or a value that it does not take.
    """
    if isinstance(setting, Transform):
        return setting
    if isinstance(setting, Sequence) and not isinstance(setting, str):
        return compose(*(make(each) for each in setting))
    given = {"name": setting} if isinstance(setting, str) else dict(setting)
    name = given.pop("name", None)
    factories = {**AUGMENTATIONS, **TRANSFORMS}
    known = ", ".join([*factories, *_JOINED])
    if name is None:
        raise ValueError(f"augmentation {given} has no 'name'; known names: {known}")
    if name in _JOINED:
        check_keywords(f"augmentation {name!r}", _JOINED[name], {"transforms", *given})
        return _JOINED[name](*(make(each) for each in given.get("transforms", ())))
    check_names(augmentation=(name, (*factories, *_JOINED)))
    factory = factories[name]
    check_keywords(f"augmentation {name!r}", factory, given)
    return factory(**given)


def augmenter(
    setting: Setting, *, shared: bool
) -> Callable[[PRNGKeyArray, Float[Array, "n h w c"]], Float[Array, "n h w c"]]:
    """An augmentation as one function: it draws and applies at once.

    Args:
      setting: see `make`.
      shared: one draw for all images of a call ("siamese"), or one for each.

    Returns:
      `(key, images (n, h, w, c)) -> images`, pure and differentiable in the images.
      Equal settings return the same function, so that what is compiled with it as a
      static argument is compiled once.

    Raises:
      ValueError: see `make`.
    """
    transform = make(setting)
    if _holds_transform(setting):
        # Functions of the caller's own, which a name does not tell apart.
        return _drawn_and_applied(transform, shared)
    made = {"name": transform.name, **transform.settings}
    return _known_augmenter(json.dumps(made, sort_keys=True), shared)


def _holds_transform(setting: Setting) -> bool:
    if isinstance(setting, Transform | str):
        return isinstance(setting, Transform)
    if isinstance(setting, Mapping):
        setting = setting.get("transforms", ())
    return any(map(_holds_transform, setting))


@functools.lru_cache(maxsize=64)
def _known_augmenter(setting: str, shared: bool) -> Callable[..., Array]:
    return _drawn_and_applied(make(json.loads(setting)), shared)


def _drawn_and_applied(transform: Transform, shared: bool) -> Callable[..., Array]:
    def augment(
        key: PRNGKeyArray, images: Float[Array, "n h w c"]
    ) -> Float[Array, "n h w c"]:
        number, *shape = images.shape
        params = transform.draw(key, 1 if shared else number, tuple(shape))
        return transform.apply(params, images)

    return augment
