"""What several evaluations take."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["AugmentationSetting"]

AugmentationSetting = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
"""An augmentation in plain values, see `ddjax.data.augment.make`."""
