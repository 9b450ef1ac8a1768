"""What a frozen encoder is to the rest of the library."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from ddjax.storage.checksum import checksum

__all__ = ["Encoder", "EncoderError", "MissingWeightsError"]


class EncoderError(ValueError):
    """An encoder that cannot be made: which file or option, and why."""


class MissingWeightsError(EncoderError, FileNotFoundError):
    """Weights that are not there; the message says where to get and put them."""


class Encoder(NamedTuple):
    """A frozen network that turns images into features, as a pure function.

    Attributes:
      name: the registered name, such as `mobilenetv2`.
      params: its weights by name, ready to be used (batch norms folded in).
      apply: `(params, images) -> features`; the images `(b, h, w, 3)` are RGB in
        [0, 1], or uint8, which is divided by 255; the encoder's own normalisation
        happens inside. Pure, differentiable in both arguments, and to be compiled by
        the caller. Other images are an `EncoderError`, see
        `ddjax.models.encoders.images.as_pixels`.
      input_size: height and width that the weights were trained for, in pixels.
      width: number p of features.
      source: where the weights come from: `repository`, `file`, `licence`, `sha256`
        and what else is needed to make the encoder again; JSON-able.
    """

    name: str
    params: dict[str, Array]
    apply: Callable[[dict[str, Array], Float[Array, "b h w 3"]], Float[Array, "b p"]]
    input_size: int
    width: int
    source: dict[str, Any]

    @property
    def setting(self) -> dict[str, Any]:
        """What tells it from others: its name and where its weights come from."""
        known = {"name": self.name, **self.source}
        if known.get("sha256") is None:
            # Of random weights, or somebody's own, there is no file to go by.
            known["sha256"] = checksum(self.params)
        return known
