"""The encoders in plain PyTorch, for `encoder_step` to compare with.

Written from the papers in PyTorch's ordinary manner, under the names of torchvision's
and timm's weights. Images and kernels of convolutions are channels last in memory,
where PyTorch is fastest.
"""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ddjax.models import encoders
from ddjax.models.encoders import weights

__all__ = ["ENCODERS", "encoder"]


def encoder(name: str) -> Callable[[Any], Any]:
    """Images `(n, 3, h, w)` in [0, 1] -> features `(n, p)`.

    The weights are those of `ddjax.models.encoders.random(name, jax.random.key(0))`.

    Raises:
      ModuleNotFoundError: no PyTorch.
    """
    torch: Any = importlib.import_module("torch")
    entry = encoders.ENTRIES[name]
    network = ENCODERS[name](torch, entry.spec)
    arrays = weights.draw(jax.random.key(0), entry.shapes(entry.spec))
    values = {name: torch.tensor(np.array(each)) for name, each in arrays.items()}
    network.load_state_dict(values, strict=False)
    network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (entry.mean, entry.std))
    return lambda images: network((images - mean) / std)


def _mobilenetv2(torch: Any, spec: Any) -> Any:
    def layer(before: int, after: int, kernel: int = 1, stride: int = 1, groups=1):
        convolution = torch.nn.Conv2d(
            before, after, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        return convolution, torch.nn.BatchNorm2d(after), torch.nn.ReLU6()

    class Block(torch.nn.Module):
        def __init__(self, before: int, after: int, stride: int, expansion: int):
            super().__init__()
            inside = before * expansion
            self.residual = stride == 1 and before == after
            expand = layer(before, inside) if expansion > 1 else ()
            deep = layer(inside, inside, 3, stride, inside)
            self.conv = torch.nn.Sequential(*expand, *deep, *layer(inside, after)[:2])

        def forward(self, shown: Any) -> Any:
            return shown + self.conv(shown) if self.residual else self.conv(shown)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            blocks, before = [], spec.stem
            for stage in spec.stages:
                for place in range(stage.repeats):
                    stride = 1 if place else stage.stride
                    blocks.append(Block(before, stage.outputs, stride, stage.expansion))
                    before = stage.outputs
            ends = layer(3, spec.stem, 3, 2), layer(before, spec.head)
            first, last = (torch.nn.Sequential(*each) for each in ends)
            self.features = torch.nn.Sequential(first, *blocks, last)

        def forward(self, images: Any) -> Any:
            return self.features(images).mean((2, 3))

    return Network()


def _resnet50(torch: Any, spec: Any) -> Any:
    nn = torch.nn

    def convolution(before: int, after: int, kernel: int, stride: int = 1) -> Any:
        return nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)

    class Block(nn.Module):
        def __init__(self, before: int, width: int, stride: int):
            super().__init__()
            after = 4 * width
            self.conv1, self.bn1 = convolution(before, width, 1), nn.BatchNorm2d(width)
            self.conv2 = convolution(width, width, 3, stride)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3, self.bn3 = convolution(width, after, 1), nn.BatchNorm2d(after)
            self.downsample = nn.Sequential()
            if stride != 1 or before != after:
                shortcut = convolution(before, after, 1, stride)
                self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(after))

        def forward(self, shown: Any) -> Any:
            inside = torch.relu(self.bn1(self.conv1(shown)))
            inside = torch.relu(self.bn2(self.conv2(inside)))
            return torch.relu(self.bn3(self.conv3(inside)) + self.downsample(shown))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = convolution(3, spec.stem, 7, 2)
            self.bn1, self.pool = nn.BatchNorm2d(spec.stem), nn.MaxPool2d(3, 2, 1)
            before = spec.stem
            for stage, (depth, width) in enumerate(
                zip(spec.depths, spec.widths, strict=True), 1
            ):
                blocks = []
                for place in range(depth):
                    stride = 2 if stage > 1 and place == 0 else 1
                    blocks.append(Block(before, width, stride))
                    before = 4 * width
                setattr(self, f"layer{stage}", nn.Sequential(*blocks))

        def forward(self, images: Any) -> Any:
            shown = self.pool(torch.relu(self.bn1(self.conv1(images))))
            for stage in range(1, len(spec.depths) + 1):
                shown = getattr(self, f"layer{stage}")(shown)
            return shown.mean((2, 3))

    return Network()


def _vision_transformer(torch: Any, spec: Any) -> Any:
    nn, functional = torch.nn, torch.nn.functional

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(spec.width, 3 * spec.width)
            self.proj = nn.Linear(spec.width, spec.width)

        def forward(self, tokens: Any) -> Any:
            count, length, width = tokens.shape
            split = (count, length, 3, spec.heads, width // spec.heads)
            parts = self.qkv(tokens).reshape(split).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(*parts)
            return self.proj(mixed.transpose(1, 2).reshape(count, length, width))

    class Perceptron(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(spec.width, spec.hidden)
            self.fc2 = nn.Linear(spec.hidden, spec.width)

        def forward(self, tokens: Any) -> Any:
            return self.fc2(functional.gelu(self.fc1(tokens)))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1 = nn.LayerNorm(spec.width, spec.epsilon)
            self.attn = Attention()
            self.norm2 = nn.LayerNorm(spec.width, spec.epsilon)
            self.mlp = Perceptron()

        def forward(self, tokens: Any) -> Any:
            tokens = tokens + self.attn(self.norm1(tokens))
            return tokens + self.mlp(self.norm2(tokens))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.side = spec.image_size // spec.patch
            self.patch_embed = nn.Module()
            self.patch_embed.proj = nn.Conv2d(3, spec.width, spec.patch, spec.patch)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, spec.width))
            positions = self.side**2 + 1
            self.pos_embed = nn.Parameter(torch.zeros(1, positions, spec.width))
            self.blocks = nn.Sequential(*(Block() for _ in range(spec.depth)))
            self.norm = nn.LayerNorm(spec.width, spec.epsilon)

        def forward(self, images: Any) -> Any:
            patches = self.patch_embed.proj(images)
            table = self.pos_embed[:, 1:].transpose(1, 2)
            table = functional.interpolate(
                table.reshape(1, spec.width, self.side, self.side),
                size=patches.shape[2:],
                mode="bicubic",
                antialias=True,
            )
            tokens = (patches + table).flatten(2).transpose(1, 2)
            first = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
            tokens = self.blocks(torch.cat([first, tokens], dim=1))
            return self.norm(tokens[:, 0])

    return Network()


ENCODERS: dict[str, Callable[[Any, Any], Any]] = {
    "mobilenetv2": _mobilenetv2,
    "resnet50": _resnet50,
    "mocov3_vit_b16": _vision_transformer,
}
"""Encoder -> function of PyTorch and the encoder's sizes, giving the network."""
