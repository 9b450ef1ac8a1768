"""Key names of other libraries, brought to those that the networks here use."""

import re

import numpy as np

__all__ = ["mobilenetv2", "unchanged"]

Arrays = dict[str, np.ndarray]

_TORCHVISION = re.compile(r"(features\.\d+\.conv)\.(\d)(?:\.(\d))?\.(\w+)")


def unchanged(arrays: Arrays) -> Arrays:
    """The names are those used here."""
    return arrays


def mobilenetv2(arrays: Arrays) -> Arrays:
    """From torchvision's names, which nest each convolution with its activation.

    `conv.0.0`, `conv.0.1`, `conv.1.0`, … become places in one flat sequence, `conv.0`,
    `conv.1`, `conv.3`, …; names that are flat already stay.
    """
    nested = any(re.search(r"\.conv\.0\.0\.", name) for name in arrays)
    if not nested:
        return arrays
    blocks = {}
    for name in arrays:
        if found := _TORCHVISION.fullmatch(name):
            nests = blocks.setdefault(found[1], 0)
            if found[3] is not None:
                blocks[found[1]] = max(nests, int(found[2]) + 1)

    def flat(name: str) -> str:
        found = _TORCHVISION.fullmatch(name)
        if not found:
            return name
        prefix, outer, inner, last = found.groups()
        nests = blocks[prefix]
        place = 3 * int(outer) + int(inner or 0)
        if inner is None:
            # Behind the nests: the projection, and its batch norm.
            place = 3 * nests + int(outer) - nests
        return f"{prefix}.{place}.{last}"

    return {flat(name): array for name, array in arrays.items()}
