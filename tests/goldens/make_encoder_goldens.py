"""Writes `encoders.npz`: features and pixel gradients of small encoders, in float64.

They come from timm, transformers and efficientnet_lite_pytorch, unmodified and without
this library; MobileNetV2, which the three do not have under torchvision's names, is
written out in PyTorch's modules. Weights and images are those of `encoder_weights`.
To make the file again:

    python3.11 -m venv goldens
    goldens/bin/pip install torch==2.13.0 transformers==5.23.0 numpy
    goldens/bin/pip install efficientnet_lite_pytorch==0.1.0
    goldens/bin/pip install --no-deps timm==1.0.31
    goldens/bin/python tests/goldens/make_encoder_goldens.py
"""

import importlib.machinery
import json
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import transformers
from encoder_weights import cotangents, images, tensor
from torch import nn

FOLDER = Path(__file__).parent
COUNT = 2
# Of timm's transformers.
SMALL = {"img_size": 12, "patch_size": 4, "embed_dim": 16, "depth": 2}
SMALL |= {"num_heads": 2, "num_classes": 0, "dynamic_img_size": True}


class Names(type):
    """Classes whose every attribute is its own name."""

    def __getattr__(cls, name):
        return name


class Absent(types.ModuleType):
    """Stands in for torchvision, which timm imports but which is not used here."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Names(name, (), {})


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Absent(spec.name)

    def exec_module(self, module):
        pass


try:
    import torchvision  # noqa: F401
except ImportError:
    # These look whether torchvision is there when they are first named.
    for name in ("CLIPVision", "Dinov2", "Dinov2WithRegisters"):
        getattr(transformers, f"{name}Model")
    sys.meta_path.append(Finder())


def rotary_in_double(model):
    """Timm makes the tables in float32, also for a model in float64."""
    from timm.layers import build_rotary_pos_embed

    rope = model.rope
    exponents = torch.arange(rope.dim // 4, dtype=torch.float64) / (rope.dim // 4)

    def get_embed(shape=None, dtype=None):
        tables = build_rotary_pos_embed(
            feat_shape=list(shape or rope.feat_shape),
            bands=10000.0**-exponents,
            in_pixels=False,
            ref_feat_shape=list(rope.ref_feat_shape),
            dtype=torch.float64,
        )
        return torch.cat(tables, -1)

    rope.get_embed = get_embed


def vit(pooling="token", **options):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(global_pool=pooling, **SMALL, **options)


def clip():
    from functools import partial

    from timm.layers import LayerNorm

    return vit(
        pre_norm=True, act_layer="quick_gelu", norm_layer=partial(LayerNorm, eps=1e-5)
    )


def eva(pooling="avg"):
    from timm.models.eva import Eva

    model = Eva(
        global_pool=pooling,
        qkv_fused=False,
        mlp_ratio=4 * 2 / 3 + 0.01,
        swiglu_mlp=True,
        scale_mlp=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(3, 3),
        **SMALL,
    )
    rotary_in_double(model)
    return model


def hugging_face(name, **options):
    config = getattr(transformers, f"{name}Config")(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=12,
        patch_size=4,
        **options,
    )
    return getattr(transformers, f"{name}Model")(config)


def resnet():
    from timm.models.resnet import Bottleneck, ResNet

    channels = (4, 6, 8, 10)
    return ResNet(Bottleneck, layers=(1, 2, 1, 1), channels=channels, num_classes=0)


def efficientnet():
    from efficientnet_lite_pytorch.model import EfficientNet
    from efficientnet_lite_pytorch.utils import BlockDecoder, efficientnet_lite

    _, sizes = efficientnet_lite(1.0, 1.0, 32)
    blocks = ["r1_k3_s11_e1_i32_o8", "r2_k3_s22_e2_i8_o8", "r2_k5_s22_e3_i8_o16"]
    return EfficientNet(BlockDecoder.decode(blocks), sizes)


def mobilenetv2(stem=8, stages=((1, 8, 1, 1), (3, 12, 2, 2)), head=20):
    def layer(inputs, outputs, kernel=1, stride=1, groups=1):
        return (
            nn.Conv2d(
                inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
            ),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        )

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride, expansion):
            super().__init__()
            inside = inputs * expansion
            self.residual = stride == 1 and inputs == outputs
            expand = layer(inputs, inside) if expansion > 1 else ()
            deep = layer(inside, inside, 3, stride, inside)
            self.conv = nn.Sequential(*expand, *deep, *layer(inside, outputs)[:2])

        def forward(self, x):
            return x + self.conv(x) if self.residual else self.conv(x)

    blocks, inputs = [], stem
    for expansion, outputs, repeats, stride in stages:
        for repeat in range(repeats):
            blocks.append(Block(inputs, outputs, 1 if repeat else stride, expansion))
            inputs = outputs
    first = nn.Sequential(*layer(3, stem, 3, 2))
    last = nn.Sequential(*layer(inputs, head))
    model = nn.Module()
    model.features = nn.Sequential(first, *blocks, last)
    return model


def outputs(model, inputs):
    return model(inputs)


def pooler_output(model, inputs):
    return model(inputs).pooler_output


def pooled(model, inputs):
    return model.features(inputs).mean((2, 3))


CASES = {
    # name: (model, features of the model, height and width of the images)
    "clip": (clip, outputs, (12, 12)),
    "clip_other_size": (clip, outputs, (8, 20)),
    "dinov2": (lambda: vit(init_values=1.0), outputs, (12, 12)),
    "dinov2_other_size": (lambda: vit(init_values=1.0), outputs, (16, 8)),
    "dinov2_registers": (
        lambda: vit(init_values=1.0, reg_tokens=2, no_embed_class=True),
        outputs,
        (16, 12),
    ),
    "dinov2_mean": (
        lambda: vit("avg", init_values=1.0, reg_tokens=2, no_embed_class=True),
        outputs,
        (12, 12),
    ),
    "eva02": (eva, outputs, (12, 12)),
    # Timm makes the grid in float32: these sizes are stretched without rounding.
    "eva02_other_size": (eva, outputs, (8, 16)),
    "eva02_class": (lambda: eva("token"), outputs, (12, 12)),
    "mocov3": (vit, outputs, (12, 12)),
    "transformers_clip": (
        lambda: hugging_face("CLIPVision", intermediate_size=64),
        pooler_output,
        (12, 12),
    ),
    "transformers_dinov2": (lambda: hugging_face("Dinov2"), pooler_output, (12, 12)),
    "transformers_dinov2_registers": (
        lambda: hugging_face("Dinov2WithRegisters", num_register_tokens=2),
        pooler_output,
        (12, 12),
    ),
    "resnet": (resnet, outputs, (20, 17)),
    "mobilenetv2": (mobilenetv2, pooled, (17, 12)),
    "efficientnet_lite0": (
        efficientnet,
        lambda m, x: m.extract_features(x).mean((2, 3)),
        (32, 32),
    ),
}


def features_and_gradients(model, features, pixels):
    """Of a model in float64 at images `(n, h, w, 3)` that are normalised already."""
    inputs = torch.tensor(pixels, requires_grad=True)
    # Timm interpolates positions in float32, also for a model in float64.
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        found = features(model, inputs.permute(0, 3, 1, 2))
    (found * torch.tensor(cotangents(*found.shape))).sum().backward()
    return found.detach().numpy(), inputs.grad.numpy()


def run(make, features, size):
    """Features, pixel gradients and the shapes of the weights by name."""
    model = make().double().eval()
    shapes = {
        name: list(value.shape)
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    }
    arrays = {name: torch.tensor(tensor(name, s)) for name, s in shapes.items()}
    model.load_state_dict(arrays, strict=False)
    return *features_and_gradients(model, features, images(COUNT, *size)), shapes


def main():
    arrays, shapes = {}, {}
    for name, case in CASES.items():
        found = run(*case)
        arrays[f"{name}/features"], arrays[f"{name}/gradients"] = found[:2]
        shapes[name] = found[2]
        print(name, found[0].shape, np.abs(found[0]).mean(), np.abs(found[1]).mean())
    np.savez_compressed(
        FOLDER / "encoders.npz", **arrays, shapes=np.array(json.dumps(shapes))
    )


if __name__ == "__main__":
    main()
