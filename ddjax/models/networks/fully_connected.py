"""Fully connected ReLU networks."""

import flax.linen as nn
from jaxtyping import Array, Float

from ddjax.kernels._rows import check_floats
from ddjax.models.networks.layers import (
    check_sizes,
    dense,
)

__all__ = ["FullyConnected", "fully_connected"]


class FullyConnected(nn.Module):
    """A ReLU network over flattened inputs: `depth` dense layers, the head included.

    Source: the "MLP" of the dataset-condensation line of work has depth 3 and width
    128, that is two hidden layers of 128 units and a head.

    Attributes:
      outputs: number of output units; None for none: the last hidden layer's.
      depth: number of dense layers, the head included; 1 is a linear model.
      width: units of each hidden layer.
    """

    outputs: int | None
    depth: int = 3
    width: int = 128

    @nn.compact
    def __call__(self, inputs: Array, train: bool = False) -> Float[Array, "n k"]:
        """Outputs for a batch of inputs of any shape, in training or not."""
        del train
        check_floats(inputs)
        hidden = inputs.reshape(inputs.shape[0], -1)
        for _ in range(self.depth - 1):
            hidden = nn.relu(dense(hidden, self.width))
        return hidden if self.outputs is None else dense(hidden, self.outputs)


def fully_connected(
    *, outputs: int | None, depth: int = 3, width: int = 128
) -> FullyConnected:
    """A `FullyConnected` network.

    Raises:
      ValueError: a size below 1.
    """
    check_sizes(outputs, depth=depth, width=width)
    return FullyConnected(outputs, depth, width)
