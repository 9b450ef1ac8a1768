r"""Vision transformers: CLIP, DINOv2, EVA-02 and MoCo-v3 in one code path.

A block is :math:`x \leftarrow x + \gamma_1 A(N_1 x)`, then
:math:`x \leftarrow x + \gamma_2 M(N_2 x)`, with layer norms N, self-attention A and a
perceptron M. What differs between the families is in `VisionTransformerSpec`. Names of
the weights are timm's.

Sources: Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021); Radford et
al., CLIP (ICML 2021): quick GELU :math:`x \sigma(1.702 x)` and a norm in front of the
blocks; Oquab et al., DINOv2 (TMLR 2024): layer scale; Darcet et al., "Vision
Transformers Need Registers" (ICLR 2024); Fang et al., EVA-02 (2023): SwiGLU with a norm
inside, rotary positions; Chen, Xie & He, MoCo v3 (ICCV 2021).
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddjax.models.encoders.base import EncoderError
from ddjax.models.encoders.layers import at_least_single

__all__ = [
    "CLIP_B16",
    "DINOV2_B14",
    "DINOV2_REGISTERS_B14",
    "EVA02_B14",
    "MOCOV3_B16",
    "POOLINGS",
    "VisionTransformerSpec",
    "apply",
    "shapes",
]

POOLINGS = ("class", "mean")
"""The class token behind the last norm, or the norm of the patch tokens' mean."""

_ROTARY_BASE = 10000.0


class VisionTransformerSpec(NamedTuple):
    """What a vision transformer is made of.

    Attributes:
      patch: height and width of a patch, in pixels.
      image_size: height and width that the position table is for, in pixels.
      width: of a token.
      depth: number of blocks.
      heads: of the attention.
      hidden: width inside the perceptron.
      epsilon: of the layer norms.
      activation: `gelu`, `quick_gelu`, or `swiglu`, which has a layer norm behind it.
      norm_first: whether a layer norm stands in front of the blocks; the patches then
        have no bias.
      layer_scale: whether the blocks' branches are scaled by learned gammas.
      registers: number of register tokens.
      class_position: whether the position table has a row for the class token.
      rotary: whether queries and keys are rotated by their position; their
        projections then stand apart, and that of the keys has no bias.
    """

    patch: int = 16
    image_size: int = 224
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    epsilon: float = 1e-6
    activation: str = "gelu"
    norm_first: bool = False
    layer_scale: bool = False
    registers: int = 0
    class_position: bool = True
    rotary: bool = False


CLIP_B16 = VisionTransformerSpec(epsilon=1e-5, activation="quick_gelu", norm_first=True)
DINOV2_B14 = VisionTransformerSpec(patch=14, image_size=518, layer_scale=True)
DINOV2_REGISTERS_B14 = DINOV2_B14._replace(registers=4, class_position=False)
EVA02_B14 = VisionTransformerSpec(
    patch=14, hidden=2048, activation="swiglu", rotary=True
)
MOCOV3_B16 = VisionTransformerSpec()


def _grid(spec: VisionTransformerSpec) -> int:
    return spec.image_size // spec.patch


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _block_shapes(spec: VisionTransformerSpec) -> dict[str, tuple[int, ...]]:
    width, hidden = spec.width, spec.hidden
    found = {**_norm("norm1", width), **_norm("norm2", width)}
    if spec.rotary:
        for name in ("q_proj", "k_proj", "v_proj"):
            found |= _linear(f"attn.{name}", width, width)
        del found["attn.k_proj.bias"]
    else:
        found |= _linear("attn.qkv", 3 * width, width)
    found |= _linear("attn.proj", width, width)
    if spec.activation == "swiglu":
        found |= _linear("mlp.fc1_g", hidden, width)
        found |= _linear("mlp.fc1_x", hidden, width)
        found |= _norm("mlp.norm", hidden)
    else:
        found |= _linear("mlp.fc1", hidden, width)
    found |= _linear("mlp.fc2", width, hidden)
    if spec.layer_scale:
        found |= {"ls1.gamma": (width,), "ls2.gamma": (width,)}
    return found


def shapes(spec: VisionTransformerSpec) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by name."""
    width, positions = spec.width, _grid(spec) ** 2 + spec.class_position
    found: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, positions, width),
        "patch_embed.proj.weight": (width, 3, spec.patch, spec.patch),
    }
    if spec.registers:
        found["reg_token"] = (1, spec.registers, width)
    if spec.norm_first:
        found |= _norm("norm_pre", width)
    else:
        found["patch_embed.proj.bias"] = (width,)
    for block in range(spec.depth):
        for name, shape in _block_shapes(spec).items():
            found[f"blocks.{block}.{name}"] = shape
    return {**found, **_norm("norm", width)}


def apply(
    params: dict[str, Array],
    images: Float[Array, "n h w 3"],
    *,
    spec: VisionTransformerSpec,
    pooling: str = "class",
    rematerialize: bool = False,
    scan: bool = False,
) -> Float[Array, "n p"]:
    """Features of images whose sides are multiples of the patch.

    Where the grid of patches is not that of the position table, the table is
    interpolated (bicubic, with antialiasing, as timm does); rotary positions are
    stretched to the same extent.

    Args:
      params: the weights by name, as `shapes` lists them.
      images: normalised, in the dtype of the weights.
      spec: the network.
      pooling: one of `POOLINGS`.
      rematerialize: compute each block again in the backward pass rather than keep
        what is inside it: some third more time, a fraction of the memory.
      scan: compile one block and loop over it: less to compile, but the weights are
        copied into one array a call.

    Raises:
      EncoderError: an unknown pooling, or sides that are no multiples of the patch.
    """
    if pooling not in POOLINGS:
        raise EncoderError(f"pooling={pooling!r}; allowed: {', '.join(POOLINGS)}")
    height, width = (side // spec.patch for side in images.shape[1:3])
    if images.shape[1:3] != (height * spec.patch, width * spec.patch):
        raise EncoderError(
            f"images of {images.shape[1]} x {images.shape[2]} pixels; both sides must "
            f"be multiples of the patch, {spec.patch}"
        )
    tokens = _tokens(params, images, (height, width), spec)
    rotary = _rotary(spec, (height, width), tokens.dtype) if spec.rotary else None
    block = functools.partial(_block, spec=spec, rotary=rotary)
    if rematerialize:
        block = jax.checkpoint(block)
    blocks = [
        {name: params[f"blocks.{index}.{name}"] for name in _block_shapes(spec)}
        for index in range(spec.depth)
    ]
    if scan:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
        tokens = jax.lax.scan(lambda x, p: (block(x, p), None), tokens, stacked)[0]
    else:
        tokens = functools.reduce(block, blocks, tokens)
    if pooling == "mean":
        pooled = jnp.mean(tokens[:, 1 + spec.registers :], axis=1)
    else:
        pooled = tokens[:, 0]
    return _layer_norm(pooled, params, "norm", spec.epsilon)


def _tokens(
    params: dict[str, Array],
    images: Array,
    grid: tuple[int, int],
    spec: VisionTransformerSpec,
) -> Array:
    """The class token, the registers and the patches, with their positions."""
    count, size = images.shape[0], spec.patch
    patches = images.reshape(count, grid[0], size, grid[1], size, 3)
    kernel = params["patch_embed.proj.weight"]
    tokens = jnp.einsum("nhiwjc,dcij->nhwd", patches, kernel)
    tokens = tokens.reshape(count, -1, spec.width)
    if not spec.norm_first:
        tokens = tokens + params["patch_embed.proj.bias"].reshape(1, 1, -1)
    table = params["pos_embed"]
    first = params["cls_token"]
    if spec.class_position:
        first, table = first + table[:, :1], table[:, 1:]
    tokens = tokens + _resized(table, _grid(spec), grid)
    registers = [params["reg_token"]] if spec.registers else []
    prefix = jnp.concatenate([first, *registers], axis=1)
    prefix = jnp.broadcast_to(prefix, (count, *prefix.shape[1:]))
    tokens = jnp.concatenate([prefix, tokens], axis=1)
    if spec.norm_first:
        tokens = _layer_norm(tokens, params, "norm_pre", spec.epsilon)
    return tokens


def _resized(table: Array, size: int, grid: tuple[int, int]) -> Array:
    if grid == (size, size):
        return table
    square = table.astype(at_least_single(table.dtype)).reshape(size, size, -1)
    shape = (*grid, square.shape[-1])
    resized = jax.image.resize(square, shape, "cubic", antialias=True)
    return resized.reshape(1, -1, shape[-1]).astype(table.dtype)


def _rotary(
    spec: VisionTransformerSpec, grid: tuple[int, int], dtype: np.dtype
) -> tuple[Array, Array]:
    r"""Cosines and sines `(tokens, 1, pairs)` of the angles that pairs are turned by.

    A head's channels are d/2 pairs: d/4 for the row, d/4 for the column. At row i of H
    pair k is turned by :math:`10000^{-4k/d} \, i \, G / H`, G being the grid that the
    weights were trained on. The class token is not turned.
    """
    pairs = spec.width // spec.heads // 4
    frequencies = _ROTARY_BASE ** -(np.arange(pairs) / pairs)
    rows, columns = (np.arange(size) * _grid(spec) / size for size in grid)
    place = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    angles = (place[..., None] * frequencies).reshape(-1, 1, 2 * pairs)
    angles = np.concatenate([np.zeros((1 + spec.registers, 1, 2 * pairs)), angles])
    return jnp.asarray(np.cos(angles), dtype), jnp.asarray(np.sin(angles), dtype)


def _turned(heads: Array, rotary: tuple[Array, Array]) -> Array:
    """Turns the pairs (0, 1), (2, 3), … of each head's channels."""
    cosines, sines = (values[None] for values in rotary)
    even, odd = heads[..., 0::2], heads[..., 1::2]
    turned = (even * cosines - odd * sines, odd * cosines + even * sines)
    return jnp.stack(turned, axis=-1).reshape(heads.shape)


def _dense(tokens: Array, params: dict[str, Array], name: str) -> Array:
    outputs = jnp.einsum("ntd,ed->nte", tokens, params[f"{name}.weight"])
    bias = params.get(f"{name}.bias")
    return outputs if bias is None else outputs + bias.reshape(1, 1, -1)


def _layer_norm(
    values: Array, params: dict[str, Array], name: str, epsilon: float
) -> Array:
    """Over the last axis, at least in float32."""
    wide = values.astype(at_least_single(values.dtype))
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    normal = (centred * jax.lax.rsqrt(variance + epsilon)).astype(values.dtype)
    shape = (1,) * (values.ndim - 1) + (-1,)
    weight, bias = (params[f"{name}.{last}"] for last in ("weight", "bias"))
    return normal * weight.reshape(shape) + bias.reshape(shape)


def _attention(
    tokens: Array,
    params: dict[str, Array],
    spec: VisionTransformerSpec,
    rotary: tuple[Array, Array] | None,
) -> Array:
    count, length, width = tokens.shape
    split = (count, length, spec.heads, width // spec.heads)
    if rotary is None:
        parts = jnp.split(_dense(tokens, params, "attn.qkv"), 3, axis=-1)
    else:
        names = ("q_proj", "k_proj", "v_proj")
        parts = [_dense(tokens, params, f"attn.{name}") for name in names]
    queries, keys, values = (part.reshape(split) for part in parts)
    if rotary is not None:
        queries, keys = _turned(queries, rotary), _turned(keys, rotary)
    scores = jnp.einsum("nqhd,nkhd->nhqk", queries / math.sqrt(split[-1]), keys)
    weights = jax.nn.softmax(scores.astype(at_least_single(scores.dtype)), axis=-1)
    mixed = jnp.einsum("nhqk,nkhd->nqhd", weights.astype(values.dtype), values)
    return _dense(mixed.reshape(tokens.shape), params, "attn.proj")


def _perceptron(
    tokens: Array, params: dict[str, Array], spec: VisionTransformerSpec
) -> Array:
    if spec.activation == "swiglu":
        gate = jax.nn.silu(_dense(tokens, params, "mlp.fc1_g"))
        hidden = gate * _dense(tokens, params, "mlp.fc1_x")
        hidden = _layer_norm(hidden, params, "mlp.norm", spec.epsilon)
    else:
        hidden = _dense(tokens, params, "mlp.fc1")
        if spec.activation == "quick_gelu":
            hidden = hidden * jax.nn.sigmoid(1.702 * hidden)
        else:
            hidden = jax.nn.gelu(hidden, approximate=False)
    return _dense(hidden, params, "mlp.fc2")


def _block(
    tokens: Array,
    params: dict[str, Array],
    *,
    spec: VisionTransformerSpec,
    rotary: tuple[Array, Array] | None,
) -> Array:
    def scaled(branch: Array, name: str) -> Array:
        return branch * params[name].reshape(1, 1, -1) if spec.layer_scale else branch

    normal = _layer_norm(tokens, params, "norm1", spec.epsilon)
    tokens = tokens + scaled(_attention(normal, params, spec, rotary), "ls1.gamma")
    normal = _layer_norm(tokens, params, "norm2", spec.epsilon)
    return tokens + scaled(_perceptron(normal, params, spec), "ls2.gamma")
