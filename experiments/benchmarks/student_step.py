r"""A step with a pool of students, here and in PyTorch, from the same numbers.

    python -m experiments.benchmarks.student_step --form=ddjax --method=krr_st \
        --sizes=narrow

prints the peak memory of a few steps as one line of JSON and writes nothing;
`experiments.benchmarks.against_torch` calls it and times the same steps.

A step of KRR-ST and of its boosted form decodes the pairs, asks one student of the pool
how well ridge regression on them predicts the teacher on a batch of real images,
follows the gradient with AdamW, and trains that student one step on the pairs (SGD with
momentum and weight decay). FRePo's predicts labels, has the mirror images beside the
pairs, and keeps targets apart; it has the same optimisers here. The PyTorch form was
written for this comparison, from the equations, in PyTorch's ordinary manner: modules,
autograd of what is learned only, its optimisers and solvers.
"""

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from numpy import ndarray

from ddjax import data, methods
from ddjax.data import Split
from ddjax.methods import representation_regression
from ddjax.methods.base import Method
from ddjax.models.encoders.base import Encoder
from ddjax.storage.cache import no_cache
from ddjax.synthetic.targets import centred_one_hot
from experiments.benchmarks import paired_steps
from experiments.benchmarks.paired_steps import Run

__all__ = ["METHODS", "SIZES", "STEPS", "TOY", "Sizes", "run"]

METHODS = ("krr_st", "ssl_dd", "frepo")
CLASSES = 10
_RIDGE = 1e-6
# Students' step sizes: with few outputs, a mean squared error has steeper slopes.
_RATES = {"krr_st": 0.1, "ssl_dd": 0.1, "frepo": 1e-3}
_AGE = 10
_SEED = 1


class Sizes(NamedTuple):
    """How large everything is.

    Attributes:
      images: the budget N.
      widths: channels of the students' blocks.
      batch: real images a step.
      outputs: of the teacher; labels have `CLASSES`.
      image_bases: U.
      target_bases: V.
      side: pixels.
    """

    images: int
    widths: tuple[int, ...]
    batch: int
    outputs: int
    image_bases: int
    target_bases: int
    side: int = 32


SIZES = {
    "published": Sizes(100, (128, 256, 512), 1024, 512, 200, 200),
    "narrow": Sizes(100, (16, 32, 64), 256, 512, 200, 200),
}
"""`published` are the papers' sizes for CIFAR-100."""

TOY = {"toy": Sizes(10, (8, 32), 20, 6, 4, 3, side=8)}


class _Start(NamedTuple):
    """What both forms start from.

    Attributes:
      method: ours.
      state: its state before the first step.
      real: what a step sees.
      wanted: what regression predicts for it.
      which: number of a step -> its student.
    """

    method: Method
    state: Any
    real: Split
    wanted: ndarray
    which: Callable[[int], int]


def run(form: str, method: str, sizes: Sizes) -> Run:
    """A run of a method in one of `paired_steps.FORMS`, of some `_AGE` steps at most.

    Students, their order and the real images are the same in both forms.

    Raises:
      ModuleNotFoundError: PyTorch's form without PyTorch.
    """
    start = _started(method, sizes)
    if form != "ddjax":
        return _torch_steps(start, sizes)
    return paired_steps.our_steps(
        *(start.method, start.state, start.real),
        seed=_SEED,
        length=30_000,
        learned=lambda state: _numbers(state.descent.learned["stored"]),
        students=lambda state: _students(state.pool.params),
    )


def _started(name: str, sizes: Sizes) -> _Start:
    draw = np.random.default_rng(0)
    shape = (sizes.batch, sizes.side, sizes.side, 3)
    images = draw.integers(0, 256, shape, np.uint8)
    weights = draw.normal(size=(math.prod(shape[1:]), sizes.outputs)) / 10

    def apply(params: dict[str, Array], images: Array) -> Array:
        return jnp.tanh(images.reshape(len(images), -1) @ params["weights"])

    params = {"weights": jnp.asarray(weights, jnp.float32)}
    teacher = Encoder(
        "drawn", params, apply, sizes.side, sizes.outputs, {"file": "none"}
    )
    labels = None
    own: dict[str, Any] = {"teacher": teacher, "count": sizes.images}
    if name == "ssl_dd":
        own = {
            "teacher": teacher,
            "images": sizes.images,
            "image_bases": sizes.image_bases,
            "target_bases": sizes.target_bases,
        }
    elif name == "frepo":
        labels = np.arange(sizes.batch, dtype=np.int32) % CLASSES
        own = {
            "per_class": sizes.images // CLASSES,
            "descent": representation_regression.DESCENT,
        }
    pool = representation_regression.POOL._asdict() | {
        "settings": {
            "widths": sizes.widths,
            "depth": len(sizes.widths),
            "norm": "batch",
        },
        "students": 2,
        "steps": _AGE,
        "learning_rate": _RATES[name],
    }
    method = methods.make(name, pool=pool, batch_size=sizes.batch, ridge=_RIDGE, **own)
    key = jax.random.key(0)
    few = (images[:CLASSES], None if labels is None else labels[:CLASSES])
    problem = data.from_arrays((images, labels), few, validation=few)
    prepared = method.prepare(key, problem, no_cache)
    state = method.init(key, problem, prepared)
    # None of them is drawn anew while it is looked at.
    state = state._replace(pool=state.pool._replace(ages=0 * state.pool.ages))

    def which(step: int) -> int:
        key = paired_steps.key_of_step(_SEED, step)
        return int(jax.random.randint(jax.random.split(key)[0], (), 0, 2))

    real = prepared.real
    wanted = real.targets
    if labels is not None:
        wanted = np.asarray(centred_one_hot(labels, CLASSES))
    return _Start(method, state, real, np.asarray(wanted), which)


def _numbers(arrays: Mapping[str, Any]) -> dict[str, ndarray]:
    return {name: np.asarray(each) for name, each in arrays.items()}


def _students(params: Mapping[str, Any]) -> list[dict[str, ndarray]]:
    """Stacked flax parameters of ConvNets, as `_Student` names them."""

    def student(place: int) -> dict[str, ndarray]:
        own = jax.tree.map(lambda leaf: leaf[place], params)
        return paired_steps.with_torchs_names(own)

    return [student(place) for place in range(len(jax.tree.leaves(params)[0]))]


def _torch_steps(start: _Start, sizes: Sizes) -> Run:
    torch: Any = importlib.import_module("torch")
    functional = torch.nn.functional
    stored = _numbers(start.state.descent.learned["stored"])
    boosted, labelled = "image_bases" in stored, start.method.name == "frepo"
    outputs, rate = start.wanted.shape[1], _RATES[start.method.name]
    fixed = {"image_mean", "target_mean"}
    tensors = {name: torch.tensor(each) for name, each in stored.items()}
    learned = {name: each for name, each in tensors.items() if name not in fixed}
    for each in learned.values():
        each.requires_grad_(True)
    outer = torch.optim.AdamW(learned.values(), lr=1e-3, weight_decay=1e-4)

    class Student(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            before = 3
            for place, width in enumerate(sizes.widths):
                convolution = torch.nn.Conv2d(before, width, 3, padding=1)
                setattr(self, f"Convolution{place}", convolution)
                setattr(self, f"BatchNorm{place}", torch.nn.BatchNorm2d(width))
                before = width
            side = sizes.side // 2 ** len(sizes.widths)
            self.Dense0 = torch.nn.Linear(before * side**2, outputs)

        def features(self, images: Any) -> Any:
            for place in range(len(sizes.widths)):
                images = getattr(self, f"Convolution{place}")(images)
                images = torch.relu(getattr(self, f"BatchNorm{place}")(images))
                images = functional.avg_pool2d(images, 2)
            return images.permute(0, 2, 3, 1).flatten(1)

    def decoded() -> tuple[Any, Any]:
        if not boosted:
            return tensors["inputs"].permute(0, 3, 1, 2), tensors["targets"]
        small = tensors["image_mean"] + torch.einsum(
            "mu,uhwc->mhwc", tensors["image_coefficients"], tensors["image_bases"]
        )
        images = functional.interpolate(
            small.permute(0, 3, 1, 2), scale_factor=2, mode="bilinear"
        )
        turned = [torch.rot90(images, quarters, (2, 3)) for quarters in range(4)]
        coefficients = torch.cat(
            [tensors["target_coefficients"], tensors["view_coefficients"].flatten(0, 1)]
        )
        targets = tensors["target_mean"] + coefficients @ tensors["target_bases"]
        return torch.cat(turned), targets

    def extended(features: Any) -> Any:
        return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)

    pool, statistics = start.state.pool, start.state.pool.statistics["batch_stats"]
    students, optimizers = [], []
    for place, weights in enumerate(_students(pool.params)):
        student = Student()
        for layer, values in statistics.items():
            of_layer = "BatchNorm" + layer.rsplit("_", 1)[1]
            weights[f"{of_layer}.running_mean"] = np.asarray(values["mean"])[place]
            weights[f"{of_layer}.running_var"] = np.asarray(values["var"])[place]
            weights[f"{of_layer}.num_batches_tracked"] = np.asarray(1)
        student.load_state_dict(
            {name: torch.tensor(each) for name, each in weights.items()}
        )
        students.append(student)
        optimizer = torch.optim.SGD(
            student.parameters(), lr=rate, momentum=0.9, weight_decay=1e-3
        )
        speeds = _students(optax.tree.get(pool.moments, "trace"))[place]
        for name, parameter in student.named_parameters():
            optimizer.state[parameter]["momentum_buffer"] = torch.tensor(speeds[name])
        optimizers.append(optimizer)

    real = torch.tensor(np.asarray(start.real.inputs)).permute(0, 3, 1, 2)
    wanted = torch.tensor(start.wanted)
    held = {"step": 0}

    def one() -> Any:
        place = start.which(held["step"])
        held["step"] += 1
        student = students[place]
        student.eval().requires_grad_(False)
        images, targets = decoded()
        # The student sees them as they were before the outer step, which is in place.
        held_images, held_targets = images.detach().clone(), targets.detach().clone()
        shown, said = images, targets
        if labelled:
            shown = torch.cat([images, images.flip(3)])
            said = torch.cat([targets, targets])
        rows = extended(student.features(shown))
        with torch.no_grad():
            seen = extended(student.features(real))
        gram = rows @ rows.T
        trace = torch.trace(gram)
        ridge = _RIDGE * (trace / len(gram) if labelled else trace.detach())
        factor = torch.linalg.cholesky(gram + ridge * torch.eye(len(gram)))
        found = seen @ (rows.T @ torch.cholesky_solve(said, factor))
        loss = functional.mse_loss(found, wanted)
        if labelled:
            largest, second = torch.topk(targets, 2).values.T
            gaps = torch.clamp(largest - second, max=1 / outputs)
            loss = 0.5 * outputs * loss - gaps.mean()
        outer.zero_grad()
        loss.backward()
        outer.step()
        student.train().requires_grad_(True)
        optimizers[place].zero_grad()
        answers = student.Dense0(student.features(held_images))
        functional.mse_loss(answers, held_targets).backward()
        optimizers[place].step()
        return loss.item()

    return Run(
        one,
        lambda: {name: each.detach().numpy() for name, each in tensors.items()},
        lambda: [
            {name: each.detach().numpy() for name, each in student.named_parameters()}
            for student in students
        ],
    )


def _scale(sizes: Mapping[str, Sizes]) -> str:
    batches = ", ".join(str(each.batch) for each in sizes.values())
    return f"real images a step: {batches}; float32"


STEPS = paired_steps.Steps(
    "experiments.benchmarks.student_step", METHODS, SIZES, TOY, run, _scale
)

if __name__ == "__main__":
    paired_steps.print_peak(STEPS)
