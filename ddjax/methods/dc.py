"""DC: dataset condensation by gradient matching.

Samples whose gradients, class by class, are those of real samples, for networks along
their training on the samples; the loss and the loops are in
`ddjax.methods.gradient_matching`. Judged by `network_training.PROTOCOLS["dc"]`.

Source: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching" (ICLR
2021). Settings there, and defaults here: 256 real samples of each class a step, images
by SGD with rate 0.1 and momentum 0.5 from Gaussian noise, 1000 networks of 1, 10 or 50
steps each; the network by SGD with rate 0.01 in between. Batches of the network's
training are drawn anew for every step here, and epochs there.
"""

from collections.abc import Mapping
from typing import Any

from ddjax.methods import gradient_matching
from ddjax.methods.base import Method
from ddjax.methods.descent import Descent
from ddjax.methods.gradient_matching import DESCENT
from ddjax.synthetic.decoders.base import Decoder

__all__ = ["dc"]


def dc(
    *,
    per_class: int = 1,
    architecture: str = "convnet",
    settings: Mapping[str, Any] | None = None,
    real_per_class: int = 256,
    outer_steps: int | None = None,
    network_steps: int | None = None,
    initialization: str = "noise",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    """Builds DC as a `Method`; the arguments are those of `ddjax.methods.dsa.dsa`.

    Raises:
      ValueError: see there.
    """
    return gradient_matching.build("dc", dict(locals()), augment=None)
