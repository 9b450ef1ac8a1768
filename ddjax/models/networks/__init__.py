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

from collections.abc import Callable

import flax.linen as nn

from ddjax.models.networks.alexnet import AlexNet, alexnet
from ddjax.models.networks.convnet import ConvNet, convnet
from ddjax.models.networks.fully_connected import FullyConnected, fully_connected
from ddjax.models.networks.layers import NORMS, SIZES
from ddjax.models.networks.mobilenet import MobileNetV2, mobilenetv2
from ddjax.models.networks.resnet import ResNet, resnet18
from ddjax.models.networks.vgg import VGG, vgg11
from ddjax.models.networks.vit import VisionTransformer, vit_small

__all__ = [
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
    "convnet",
    "fully_connected",
    "mobilenetv2",
    "resnet18",
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
