"""Networks that are trained here: students, and teachers of their own (flax linen).

A network is applied as `network.apply(variables, inputs)`. Its variables are
`variables["params"]`, which an optimiser changes, and, where it has batch
normalisation, `variables["batch_stats"]`: running statistics, which are neither
differentiated nor decayed. In training, `network.apply(variables, inputs, train=True,
mutable=["batch_stats"])` normalises by the batch and returns the outputs and the new
statistics. Weights have the dtype of the inputs that the network was made for. To
compute in bfloat16, cast the params and the inputs; statistics may stay in float32, and
are computed in it.

With `outputs=None` a network ends before its head and returns features `(n, p)`. The
variables of a network with a head serve as well: `network.clone(outputs=None).apply(
variables, inputs)` are the features that its head sees.

Families of image networks come in two `size`s (see `SIZES`), and none has dropout:
distillation trains without, in the papers that use these networks.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.checks import check_names
from ddjax.models.networks.alexnet import AlexNet, alexnet
from ddjax.models.networks.convnet import ConvNet, convnet
from ddjax.models.networks.fully_connected import FullyConnected, fully_connected
from ddjax.models.networks.layers import NORMS, SIZES
from ddjax.models.networks.mobilenet import MobileNetV2, mobilenetv2
from ddjax.models.networks.resnet import ResNet, resnet18
from ddjax.models.networks.vgg import VGG, vgg11
from ddjax.models.networks.vit import VisionTransformer, vit_small

__all__ = [
    "COMPUTE_DTYPES",
    "NETWORKS",
    "NORMS",
    "SIZES",
    "VGG",
    "AlexNet",
    "ConvNet",
    "FullyConnected",
    "MobileNetV2",
    "ResNet",
    "VisionTransformer",
    "alexnet",
    "check_compute_dtype",
    "check_name",
    "convnet",
    "fully_connected",
    "make",
    "make_for",
    "mobilenetv2",
    "outputs_in_training",
    "resnet18",
    "started",
    "vgg11",
    "vit_small",
]

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "convnet": convnet,
    "fully_connected": fully_connected,
    "vgg11": vgg11,
    "resnet18": resnet18,
    "alexnet": alexnet,
    "mobilenetv2": mobilenetv2,
    "vit_small": vit_small,
}
"""Networks by name; each factory takes `outputs` and its own sizes."""


def check_name(name: Any) -> None:
    """Refuses a name that no network has.

    Raises:
      ValueError: with the known ones.
    """
    check_names(network=(name, NETWORKS))


COMPUTE_DTYPES = ("float32", "bfloat16")
"""What networks may compute in while they are trained."""


def check_compute_dtype(compute_dtype: Any) -> None:
    """Refuses what is neither None, for the dtype of the data, nor known.

    Raises:
      ValueError: with the known ones.
    """
    check_names(compute_dtype=(compute_dtype, (*COMPUTE_DTYPES, None)))


def make(name: str, *, outputs: int | None, **settings: Any) -> nn.Module:
    """A network by name.

    Args:
      name: one of `NETWORKS`.
      outputs: number of output units; None for none: features.
      **settings: the network's own.

    Raises:
      ValueError: an unknown name, or a setting that it does not have or refuses.
    """
    check_name(name)
    try:
        return NETWORKS[name](outputs=outputs, **settings)
    except TypeError as error:
        raise ValueError(f"network {name!r}: {error}") from error


def make_for(
    name: str,
    settings: Mapping[str, Any] | None,
    *,
    outputs: int,
    shape: tuple[int, ...],
    gray_padding: int = 3,
) -> nn.Module:
    """A network by name for inputs of a shape.

    Args:
      name: one of `NETWORKS`.
      settings: its own.
      outputs: number of output units.
      shape: of one input.
      gray_padding: zero padding of a ConvNet's first convolution for one-channel
        images (28 x 28 -> 32 x 32 with 3, as in the dataset-condensation line of work;
        1 keeps the size), where `settings` do not say it.

    Raises:
      ValueError: a setting that the network does not have or refuses.
    """
    sizes = dict(settings or {})
    if name == "convnet" and len(shape) == 3 and shape[-1] == 1:
        sizes.setdefault("first_padding", gray_padding)
    return make(name, outputs=outputs, **sizes)


def started(
    key: PRNGKeyArray,
    network: nn.Module,
    inputs: Float[Array | np.ndarray, "n *shape"],
) -> tuple[Any, dict[str, Any]]:
    """Parameters of a fresh network, and its other collections by name.

    Args:
      key: of the initialisation.
      network: a flax module.
      inputs: of whose shape and dtype its inputs are.
    """
    variables = dict(network.init(key, inputs[:1]))
    return variables.pop("params", {}), variables


def outputs_in_training(
    network: nn.Module,
    params: Any,
    statistics: dict[str, Any],
    inputs: Float[Array | np.ndarray, "n *shape"],
) -> tuple[Float[Array, "n k"], dict[str, Any]]:
    """Outputs on a training batch, and the statistics that it leaves.

    Args:
      network: whose variables these are.
      params: of the network.
      statistics: its other collections by name, empty for a network without.
      inputs: the batch.
    """
    variables = {"params": params, **statistics}
    if not statistics:
        return jnp.asarray(network.apply(variables, inputs)), {}
    names = list(statistics)
    outputs, changed = network.apply(variables, inputs, train=True, mutable=names)
    return jnp.asarray(outputs), {name: changed[name] for name in names}
