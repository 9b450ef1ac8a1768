"""DSA: gradient matching behind differentiable siamese augmentation.

As `ddjax.methods.dc`, with real and distilled samples of a class seen through the same
random transform, and the network between two steps trained on transformed samples; the
loss and the loops are in `ddjax.methods.gradient_matching`. Judged by
`network_training.PROTOCOLS["dc_long"]` with the same augmentation.

Source: Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation"
(ICML 2021). Settings as DC's, from real images.
"""

from collections.abc import Mapping
from typing import Any

from ddjax.data import augment as augmentations
from ddjax.methods import gradient_matching
from ddjax.methods.base import Method
from ddjax.methods.descent import Descent
from ddjax.methods.gradient_matching import DESCENT
from ddjax.synthetic.decoders.base import Decoder

__all__ = ["dsa"]


def dsa(
    *,
    per_class: int = 1,
    architecture: str = "convnet",
    settings: Mapping[str, Any] | None = None,
    real_per_class: int = 256,
    outer_steps: int | None = None,
    network_steps: int | None = None,
    augment: augmentations.PlainSetting = "dsa",
    initialization: str = "balanced",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    """Builds DSA as a `Method`.

    Args:
      per_class: samples a class (IPC).
      architecture: of the networks, a name in `ddjax.models.networks.NETWORKS`.
      settings: its own.
      real_per_class: real samples of each class a step; as many as the smallest class
        has, where that is fewer.
      outer_steps: steps that a network is used for; None for the published number for
        so many samples a class, see `gradient_matching.loops`.
      network_steps: of SGD on the set between two of them; None for the published
        number of epochs.
      augment: drawn once for each class, see `ddjax.data.augment.make`.
      initialization: one of `ddjax.methods.class_samples.BALANCED`; or `decoder_noise`.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, a problem
        without classes.
    """
    return gradient_matching.build("dsa", dict(locals()), augment=augment)
