"""Writes `networks.npz`: small networks in PyTorch, in float64.

The networks are written out in PyTorch's modules after the papers that
`ddjax.models.networks` names, without this library. Their modules have this library's
names, weights and images are those of `encoder_weights`. Of each network the file holds
its outputs in evaluation and in training mode, and of its running statistics after one
training batch and of its gradients, for every tensor, the norm and the product with a
fixed direction. To make the file again:

    python3.11 -m venv goldens
    goldens/bin/pip install torch==2.13.0 numpy
    goldens/bin/python tests/goldens/make_network_goldens.py
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from encoder_weights import cotangents, images, tensor
from torch import nn

FOLDER = Path(__file__).parent
COUNT, OUTPUTS = 3, 2


class ChannelsLast(nn.Module):
    """Flattens maps as they lie in memory when channels are the last axis."""

    def forward(self, maps):
        return maps.permute(0, 2, 3, 1).flatten(1)


class Mean(nn.Module):
    def forward(self, maps):
        return maps.mean((2, 3))


def norm(kind, channels):
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(channels, channels) if kind == "instance" else nn.Identity()


def convnet(widths, kind):
    layers, inputs = OrderedDict(), 3
    prefix = "_BatchNorm" if kind == "batch" else "GroupNorm"
    for block, width in enumerate(widths):
        layers[f"_Convolution_{block}"] = nn.Conv2d(inputs, width, 3, padding=1)
        layers[f"{prefix}_{block}"] = norm(kind, width)
        layers[f"relu{block}"] = nn.ReLU()
        layers[f"pool{block}"] = nn.AvgPool2d(2)
        inputs = width
    layers["flatten"] = ChannelsLast()
    layers["Dense_0"] = nn.LazyLinear(OUTPUTS)
    return nn.Sequential(layers)


def fully_connected(width):
    layers = OrderedDict(flatten=ChannelsLast())
    for place in range(2):
        layers[f"Dense_{place}"] = nn.LazyLinear(width)
        layers[f"relu{place}"] = nn.ReLU()
    layers["Dense_2"] = nn.Linear(width, OUTPUTS)
    return nn.Sequential(layers)


def classifier(parts, hidden):
    """The end of VGG and AlexNet for large images, without dropout."""
    return OrderedDict(
        average=nn.AdaptiveAvgPool2d(parts),
        flatten=ChannelsLast(),
        dense1=nn.LazyLinear(hidden),
        relu_dense1=nn.ReLU(),
        dense2=nn.Linear(hidden, hidden),
        relu_dense2=nn.ReLU(),
        head=nn.Linear(hidden, OUTPUTS),
    )


def vgg11(size, width, kind):
    layers, inputs = OrderedDict(), 3
    for stage, factors in enumerate(([1], [2], [4, 4], [8, 8], [8, 8]), 1):
        for place, factor in enumerate(factors, 1):
            name, outputs = f"{stage}_{place}", factor * width
            layers[f"conv{name}"] = nn.Conv2d(inputs, outputs, 3, padding=1)
            layers[f"norm{name}"] = norm(kind, outputs)
            layers[f"relu{name}"] = nn.ReLU()
            inputs = outputs
        layers[f"pool{stage}"] = nn.MaxPool2d(2, 2)
    if size == "imagenet":
        layers |= classifier(7, 64 * width)
    else:
        layers["mean"], layers["head"] = Mean(), nn.Linear(inputs, OUTPUTS)
    return nn.Sequential(layers)


def alexnet(size, width):
    if size == "imagenet":
        window, first, channels = 3, nn.Conv2d(3, width, 11, 4, 2), (1, 3, 6, 4, 4)
    else:
        window, first, channels = 2, nn.Conv2d(3, 2 * width, 5, 1, 2), (2, 3, 4, 3, 3)
    layers = OrderedDict(conv1=first)
    for place, factor in enumerate(channels, 1):
        if place > 1:
            kernel = 5 if place == 2 else 3
            layers[f"conv{place}"] = nn.Conv2d(
                channels[place - 2] * width, factor * width, kernel, 1, kernel // 2
            )
        layers[f"relu{place}"] = nn.ReLU()
        if place in (1, 2, 5):
            layers[f"pool{place}"] = nn.MaxPool2d(window, 2)
    if size == "imagenet":
        layers |= classifier(6, 64 * width)
    else:
        layers["flatten"], layers["head"] = ChannelsLast(), nn.LazyLinear(OUTPUTS)
    return nn.Sequential(layers)


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, kind):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = norm(kind, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = norm(kind, outputs)
        self.changes = stride != 1 or inputs != outputs
        if self.changes:
            self.shortcut_conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_norm = norm(kind, outputs)

    def forward(self, x):
        hidden = torch.relu(self.norm1(self.conv1(x)))
        hidden = self.norm2(self.conv2(hidden))
        shortcut = self.shortcut_norm(self.shortcut_conv(x)) if self.changes else x
        return torch.relu(hidden + shortcut)


def resnet(size, width, kind, depths):
    large = size == "imagenet"
    kernel, stride, padding = (7, 2, 3) if large else (3, 1, 1)
    layers = OrderedDict(
        conv=nn.Conv2d(3, width, kernel, stride, padding, bias=False),
        norm=norm(kind, width),
        relu=nn.ReLU(),
    )
    if large:
        layers["pool"] = nn.MaxPool2d(3, 2, 1)
    inputs = width
    for stage, depth in enumerate(depths, 1):
        outputs = width * 2 ** (stage - 1)
        for block in range(1, depth + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            name = f"stage{stage}_block{block}"
            layers[name] = BasicBlock(inputs, outputs, stride, kind)
            inputs = outputs
    layers["mean"], layers["head"] = Mean(), nn.Linear(inputs, OUTPUTS)
    return nn.Sequential(layers)


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, expansion, stride):
        super().__init__()
        inside = inputs * expansion
        if expansion > 1:
            self.expand = nn.Conv2d(inputs, inside, 1, bias=False)
            self.expand_norm = nn.BatchNorm2d(inside)
        self.depthwise = nn.Conv2d(
            inside, inside, 3, stride, 1, groups=inside, bias=False
        )
        self.depthwise_norm = nn.BatchNorm2d(inside)
        self.project = nn.Conv2d(inside, outputs, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(outputs)
        self.expands, self.residual = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, x):
        hidden, relu6 = x, nn.functional.relu6
        if self.expands:
            hidden = relu6(self.expand_norm(self.expand(hidden)))
        hidden = relu6(self.depthwise_norm(self.depthwise(hidden)))
        hidden = self.project_norm(self.project(hidden))
        return x + hidden if self.residual else hidden


def mobilenetv2(size, width, repeats):
    """With the first stages of the table; channels in proportion to the width."""
    stride = 2 if size == "imagenet" else 1
    layers = OrderedDict(
        conv=nn.Conv2d(3, width, 3, stride, 1, bias=False),
        norm=nn.BatchNorm2d(width),
        relu=nn.ReLU6(),
    )
    table = ((1, 16, 1), (6, 24, stride), (6, 32, 2), (6, 64, 2), (6, 96, 1))
    inputs = width
    for place, count in enumerate(repeats):
        expansion, channels, stride = table[place]
        for block in range(count):
            name = f"stage{place + 1}_block{block + 1}"
            outputs = channels * width // 32
            layers[name] = InvertedResidual(
                inputs, outputs, expansion, stride if block == 0 else 1
            )
            inputs = outputs
    layers["last_conv"] = nn.Conv2d(inputs, 40 * width, 1, bias=False)
    layers["last_norm"] = nn.BatchNorm2d(40 * width)
    layers["last_relu"], layers["mean"] = nn.ReLU6(), Mean()
    layers["head"] = nn.Linear(40 * width, OUTPUTS)
    return nn.Sequential(layers)


class VisionTransformer(nn.Module):
    def __init__(self, patch, tokens, width, depth, heads):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + tokens, width))
        self.patch_embed_proj = nn.Conv2d(3, width, patch, patch)
        layer = nn.TransformerEncoderLayer(
            width,
            heads,
            4 * width,
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, OUTPUTS)

    def forward(self, x):
        tokens = self.patch_embed_proj(x).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(len(x), -1, -1)
        tokens = torch.cat([first, tokens], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(tokens))[:, 0])


CASES = {
    # name: (the network, height and width of the images)
    "convnet_instance": (lambda: convnet((4, 6), "instance"), (8, 10)),
    "convnet_batch": (lambda: convnet((4, 6), "batch"), (9, 8)),
    "fully_connected": (lambda: fully_connected(5), (4, 3)),
    "vgg11_batch": (lambda: vgg11("small", 2, "batch"), (32, 33)),
    "vgg11_imagenet": (lambda: vgg11("imagenet", 2, "none"), (288, 32)),
    "alexnet": (lambda: alexnet("small", 2), (16, 8)),
    "alexnet_imagenet": (lambda: alexnet("imagenet", 2), (70, 256)),
    "resnet": (lambda: resnet("small", 2, "batch", (2, 1)), (16, 11)),
    "resnet_instance": (lambda: resnet("small", 2, "instance", (1, 1)), (8, 10)),
    "resnet_imagenet": (lambda: resnet("imagenet", 2, "batch", (1,)), (40, 33)),
    "mobilenetv2": (lambda: mobilenetv2("small", 4, (1, 1, 1)), (8, 11)),
    "mobilenetv2_imagenet": (lambda: mobilenetv2("imagenet", 4, (1, 2)), (17, 16)),
    "vit_small": (lambda: VisionTransformer(4, 4, 12, 2, 3), (8, 8)),
}


def renamed(name):
    """A tensor of the transformer by timm's name, joined by underscores."""
    changes = {
        "blocks.layers.": "blocks_",
        "self_attn.in_proj_": "attn_qkv_",
        "self_attn.out_proj.": "attn_proj_",
        "linear1.": "mlp_fc1_",
        "linear2.": "mlp_fc2_",
    }
    for theirs, ours in changes.items():
        name = name.replace(theirs, ours)
    return name if name.startswith("head") else name.replace(".", "_")


def summary(found):
    """For every tensor by name: its norm, and its product with a direction."""
    return {
        name: [np.linalg.norm(value), np.sum(value * tensor(f"to.{name}", value.shape))]
        for name, value in found.items()
    }


def run(make, size):
    """Outputs in evaluation, in training; summaries of statistics and gradients."""
    model = make().double()
    inputs = torch.tensor(images(COUNT, *size)).permute(0, 3, 1, 2)
    model.eval()(inputs)  # lazy layers get their shapes
    call = renamed if isinstance(model, VisionTransformer) else str
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.tensor(tensor(call(name), tuple(value.shape))))
    inputs.requires_grad_(True)
    evaluated = model.eval()(inputs).detach().numpy()
    trained = model.train()(inputs)
    (trained * torch.tensor(cotangents(*trained.shape))).sum().backward()
    gradients = {call(k): each.grad.numpy() for k, each in model.named_parameters()}
    gradients["images"] = inputs.grad.permute(0, 2, 3, 1).numpy()
    statistics = {
        call(name): value.numpy()
        for name, value in model.state_dict().items()
        if name.rpartition(".")[2] in ("running_mean", "running_var")
    }
    return evaluated, trained.detach().numpy(), summary(statistics), summary(gradients)


def main():
    arrays = {}
    for case, given in CASES.items():
        evaluated, trained, statistics, gradients = run(*given)
        arrays[f"{case}/evaluated"], arrays[f"{case}/trained"] = evaluated, trained
        for kind, found in (("statistics", statistics), ("gradients", gradients)):
            names = sorted(found)
            arrays[f"{case}/{kind}_names"] = np.array(names)
            values = [found[name] for name in names]
            arrays[f"{case}/{kind}"] = np.array(values).reshape(-1, 2)
        print(case, evaluated.std(0), trained.std(0), gradients["images"])
    np.savez_compressed(FOLDER / "networks.npz", **arrays)


if __name__ == "__main__":
    main()
