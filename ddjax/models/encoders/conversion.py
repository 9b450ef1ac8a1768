"""Key names of other libraries, brought to those that the networks here use."""

import re
from collections.abc import Sequence

import numpy as np

__all__ = [
    "clip",
    "dinov2",
    "eva02",
    "mobilenetv2",
    "mocov3",
    "unchanged",
]

Arrays = dict[str, np.ndarray]
Rules = Sequence[tuple[str, str]]

_CLIP: Rules = (
    # OpenAI's and OpenCLIP's names
    (r"^visual\.", ""),
    (r"^conv1\.", "patch_embed.proj."),
    (r"^positional_embedding$", "pos_embed"),
    (r"^class_embedding$", "cls_token"),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    # transformers'
    (r"^vision_model\.", ""),
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^post_layernorm\.", "norm."),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm([12])\.", r".norm\1."),
)
_DINOV2: Rules = (
    # transformers'; what is left behaves like the names of the authors' checkpoints
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.attention\.query\.", ".attn.q_proj."),
    (r"\.attention\.attention\.key\.", ".attn.k_proj."),
    (r"\.attention\.attention\.value\.", ".attn.v_proj."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.([qkv])_proj\.", r".attn.\1_proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
_EVA02: Rules = ((r"^fc_norm\.", "norm."),)
_MOCOV3: Rules = ((r"^module\.base_encoder\.", ""), (r"^base_encoder\.", ""))
_TORCHVISION = re.compile(r"(features\.\d+\.conv)\.(\d)(?:\.(\d))?\.(\w+)")


def _renamed(arrays: Arrays, rules: Rules) -> Arrays:
    found: Arrays = {}
    for name, array in arrays.items():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if new in found:
            raise ValueError(f"two of the file's names stand for {new}")
        found[new] = array
    return found


def _fused(arrays: Arrays) -> Arrays:
    """Queries, keys and values, in this order, as one projection."""
    found = dict(arrays)
    for name in arrays:
        if ".attn.q_proj." in name:
            parts = [name.replace("q_proj", part) for part in ("k_proj", "v_proj")]
            stacked = [found.pop(part) for part in (name, *parts)]
            found[name.replace("q_proj", "qkv")] = np.concatenate(stacked)
    return found


def unchanged(arrays: Arrays) -> Arrays:
    """The names are those used here."""
    return arrays


def clip(arrays: Arrays) -> Arrays:
    """To timm's names from OpenAI's, OpenCLIP's or transformers'."""
    found = _fused(_renamed(arrays, _CLIP))
    for name, axes in (("cls_token", 3), ("pos_embed", 3)):
        if name in found:
            array = found[name]
            found[name] = array.reshape((1,) * (axes - array.ndim) + array.shape)
    return found


def dinov2(arrays: Arrays) -> Arrays:
    """To timm's names from transformers' or those of the authors' checkpoints.

    With registers timm adds the class token's position to the token itself.
    """
    found = _fused(_renamed(arrays, _DINOV2))
    if "register_tokens" in found:
        found["reg_token"] = found.pop("register_tokens")
        positions = found["pos_embed"]
        found["cls_token"] = found["cls_token"] + positions[:, :1]
        found["pos_embed"] = positions[:, 1:]
    return found


def eva02(arrays: Arrays) -> Arrays:
    """Timm's names; the last norm's place in timm depends on the pooling."""
    return _renamed(arrays, _EVA02)


def mocov3(arrays: Arrays) -> Arrays:
    """To timm's names from those of the authors' checkpoint."""
    return _renamed(arrays, _MOCOV3)


def mobilenetv2(arrays: Arrays) -> Arrays:
    """To one flat sequence a block from torchvision's, which nests the convolutions.

    Torchvision's `conv.0.0`, `conv.0.1`, `conv.1.0`, … are `conv.0`, `conv.1`,
    `conv.3`, …; behind the nests come the projection and its batch norm. Names that
    are flat already stay.
    """
    matches = {name: _TORCHVISION.fullmatch(name) for name in arrays}
    nests: dict[str, int] = {}
    for match in matches.values():
        if match and match[3] is not None:
            nests[match[1]] = max(nests.get(match[1], 0), int(match[2]) + 1)
    found: Arrays = {}
    for name, array in arrays.items():
        match = matches[name]
        if match and match[1] in nests:
            prefix, outer, inner, last = match.groups()
            # A nest is a convolution, its norm and an activation without weights.
            place = 3 * int(outer) + int(inner or 0)
            if inner is None:
                place = 2 * nests[prefix] + int(outer)
            name = f"{prefix}.{place}.{last}"
        found[name] = array
    return found
