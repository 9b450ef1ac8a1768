r"""A step of DM and of DSA, here and in PyTorch, from the same numbers.

    python -m experiments.benchmarks.condensation_step --form=ddjax --method=dm \
        --sizes=narrow

prints the peak memory of a few steps as one line of JSON and writes nothing;
`experiments.benchmarks.against_torch` calls it and times the same steps.

A step draws a ConvNet-3, transforms real and distilled images of each class alike (by
a random scale, one of DSA's transforms), and follows the gradient of the distance of
mean features (DM) or of the parameters' gradients (DSA) with momentum SGD. In the first
step PyTorch's network and scales are those that the other form draws; later ones are
its own. DSA's network is drawn for every step, so that matching alone is timed.
"""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import data, methods
from ddjax.data import augment
from ddjax.models import networks
from ddjax.storage.cache import no_cache
from experiments.benchmarks import paired_steps
from experiments.benchmarks.paired_steps import Run

__all__ = ["METHODS", "SIZES", "STEPS", "TOY", "Sizes", "run"]

METHODS = ("dm", "dsa")
CLASSES = 10
_TRANSFORM = {"name": "dsa", "strategy": "scale"}
_SEED, _RATE, _MOMENTUM = 2, 0.1, 0.5


class Sizes(NamedTuple):
    """How large everything is.

    Attributes:
      per_class: distilled images a class.
      width: channels of the ConvNet-3.
      real: real images a class and step.
      side: pixels.
    """

    per_class: int
    width: int
    real: int
    side: int = 32


SIZES = {"published": Sizes(10, 128, 256), "narrow": Sizes(10, 32, 64)}
"""`published` are the papers' sizes for CIFAR-10 with ten images a class."""

TOY = {"toy": Sizes(2, 4, 3, side=8)}


def run(form: str, method: str, sizes: Sizes) -> Run:
    """A run of one of `METHODS` in one of `paired_steps.FORMS`.

    Raises:
      ModuleNotFoundError: PyTorch's form without PyTorch.
    """
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), sizes.real)
    shape = (len(labels), sizes.side, sizes.side, 3)
    images = draw.standard_normal(shape).astype(np.float32)
    few = (images, labels)
    problem = data.from_arrays(few, few, validation=few, preprocessing="none")
    own = {"outer_steps": 1} if method == "dsa" else {}
    made = methods.make(
        method,
        per_class=sizes.per_class,
        settings={"width": sizes.width},
        real_per_class=sizes.real,
        augment=_TRANSFORM,
        descent={"learning_rate": _RATE, "settings": {"momentum": _MOMENTUM}},
        **own,
    )
    prepared = made.prepare(jax.random.key(0), problem, no_cache)
    state = made.init(jax.random.key(1), problem, prepared)
    # A step sees all of them, in the order of their classes.
    batch = prepared._replace(real=problem.train)
    if form == "ddjax":
        settings: Any = {"seed": _SEED, "length": 20_000, "learned": _learned}
        return paired_steps.our_steps(made, state, batch, **settings)
    return _torch_steps(method, sizes, _learned(state)["inputs"], images)


def _learned(state: Any) -> dict[str, Any]:
    descent = getattr(state, "descent", state)
    return {"inputs": np.asarray(descent.learned["stored"]["inputs"])}


def _drawn(method: str, sizes: Sizes) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The network's parameters and the scales of each class of the first step."""
    key = paired_steps.key_of_step(_SEED, 0)
    network_key, *rest = jax.random.split(key, 3 if method == "dsa" else 2)
    keys = jax.random.split(rest[0], CLASSES)
    shape = (sizes.side, sizes.side, 3)
    network = networks.make_for(
        "convnet", {"width": sizes.width}, outputs=CLASSES, shape=shape
    )
    params = network.init(network_key, jnp.zeros((1, *shape)))["params"]
    transform = augment.make(_TRANSFORM)
    scales = []
    for key in keys:
        _, (drawn,) = transform.draw(key, 1, shape)
        scales.append([float(drawn[axis][0]) for axis in ("rows", "columns")])
    return paired_steps.with_torchs_names(params), np.asarray(scales, np.float32)


def _torch_steps(
    method: str, sizes: Sizes, start: np.ndarray, images: np.ndarray
) -> Run:
    torch: Any = importlib.import_module("torch")
    functional = torch.nn.functional

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            before, width = 3, sizes.width
            for place in range(3):
                convolution = torch.nn.Conv2d(before, width, 3, padding=1)
                setattr(self, f"Convolution{place}", convolution)
                setattr(self, f"GroupNorm{place}", torch.nn.GroupNorm(width, width))
                before = width
            self.Dense0 = torch.nn.Linear(width * (sizes.side // 8) ** 2, CLASSES)

        def features(self, shown: Any) -> Any:
            for place in range(3):
                shown = getattr(self, f"Convolution{place}")(shown)
                shown = torch.relu(getattr(self, f"GroupNorm{place}")(shown))
                shown = functional.avg_pool2d(shown, 2)
            return shown.permute(0, 2, 3, 1).flatten(1)

    weights, scales = _drawn(method, sizes)
    inputs = torch.tensor(start).permute(0, 3, 1, 2).contiguous().requires_grad_(True)
    real = torch.tensor(images).permute(0, 3, 1, 2).contiguous()
    outer = torch.optim.SGD([inputs], lr=_RATE, momentum=_MOMENTUM)
    held = {"step": 0}

    def scaled(shown: Any, factors: Any) -> Any:
        rows, columns = (float(each) for each in factors)
        matrix = torch.tensor([[columns, 0.0, 0.0], [0.0, rows, 0.0]])
        grid = functional.affine_grid(
            matrix.expand(len(shown), 2, 3), shown.shape, align_corners=False
        )
        return functional.grid_sample(shown, grid, align_corners=False)

    def of_class(batch: Any, number: int, label: int) -> Any:
        return batch[number * label : number * (label + 1)]

    def gradients(network: Any, shown: Any, label: int, *, keep: bool) -> Any:
        outputs = network.Dense0(network.features(shown))
        wanted = torch.full((len(shown),), label)
        error = functional.cross_entropy(outputs, wanted)
        return torch.autograd.grad(error, list(network.parameters()), create_graph=keep)

    def distance(network: Any, label: int, factors: Any) -> Any:
        one = scaled(of_class(real, sizes.real, label), factors)
        other = scaled(of_class(inputs, sizes.per_class, label), factors)
        if method == "dm":
            with torch.no_grad():
                mean = network.features(one).mean(0)
            return ((mean - network.features(other).mean(0)) ** 2).sum()
        total = 0.0
        for wanted, found in zip(
            gradients(network, one, label, keep=False),
            gradients(network, other, label, keep=True),
            strict=True,
        ):
            if wanted.ndim > 1:
                first, second = wanted.flatten(1), found.flatten(1)
                lengths = first.norm(dim=1) * second.norm(dim=1) + 1e-6
                total = total + (1 - (first * second).sum(1) / lengths).sum()
        return total

    def one() -> Any:
        network = Network()
        factors = torch.empty(CLASSES, 2).uniform_(1 / 1.2, 1.2).numpy()
        if held["step"] == 0:
            factors = scales
            network.load_state_dict({k: torch.tensor(v) for k, v in weights.items()})
        if method == "dm":
            network.requires_grad_(False)
        held["step"] += 1
        outer.zero_grad()
        total = 0.0
        for label in range(CLASSES):
            loss = distance(network, label, factors[label])
            # Class by class, so that the graph of one is held at a time.
            loss.backward()
            total += loss.item()
        outer.step()
        return total

    def learned() -> dict[str, np.ndarray]:
        return {"inputs": inputs.detach().permute(0, 2, 3, 1).numpy()}

    return Run(one, learned, list)


def _scale(sizes: Mapping[str, Sizes]) -> str:
    batches = ", ".join(str(each.real) for each in sizes.values())
    return f"real images a class and step: {batches}; float32"


STEPS = paired_steps.Steps(
    "experiments.benchmarks.condensation_step", METHODS, SIZES, TOY, run, _scale
)

if __name__ == "__main__":
    paired_steps.print_peak(STEPS)
