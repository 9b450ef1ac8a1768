r"""An encoder's passes, and a step of CLP-DD and of LGM, here and in PyTorch.

    python -m experiments.benchmarks.encoder_step --form=ddjax --method=lgm \
        --sizes="mobilenetv2, 64px"

prints the peak memory of a few steps as one line of JSON and writes nothing;
`experiments.benchmarks.against_torch` calls it and times the same steps.

The encoders have random weights; PyTorch's are those of `torch_encoders`. `forward` and
`to_pixels` encode ten images a class and take the gradient with respect to them. `clp`
and `lgm` have the settings of their papers but for the decoder: they learn the pixels
of one image a class. In the first step PyTorch's heads and augmentations are those that
the other form draws; later ones are its own.
"""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import data, methods
from ddjax.data import augment
from ddjax.methods import frozen_features
from ddjax.methods.lgm import HEAD_STD, REAL_PER_CLASS
from ddjax.models import encoders
from ddjax.storage.cache import no_cache
from experiments.benchmarks import paired_steps, torch_encoders
from experiments.benchmarks.paired_steps import Run

__all__ = ["METHODS", "SIZES", "STEPS", "TOY", "Sizes", "run"]

METHODS = ("forward", "to_pixels", "clp", "lgm")
_SEED = 2
_COPIES, _RATES, _RIDGE, _TAU = 10, {"clp": 1e-2, "lgm": 2e-3}, 1e-2, 0.1


class Sizes(NamedTuple):
    """How large everything is.

    Attributes:
      side: pixels.
      classes: number of them.
      encoder: one of `torch_encoders.ENCODERS`.
    """

    side: int
    classes: int = 10
    encoder: str = "mobilenetv2"

    @property
    def features(self) -> int:
        """How many the encoder has."""
        return encoders.ENTRIES[self.encoder].width


SIZES = {
    f"{encoder}, 64px": Sizes(64, encoder=encoder)
    for encoder in torch_encoders.ENCODERS
}
TOY = {"toy": Sizes(16, classes=2)}


def run(form: str, method: str, sizes: Sizes) -> Run:
    """A run of one of `METHODS` in one of `paired_steps.FORMS`.

    Raises:
      ModuleNotFoundError: PyTorch's form without PyTorch.
    """
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(sizes.classes, dtype=np.int32), REAL_PER_CLASS)
    shape = (len(labels), sizes.side, sizes.side, 3)
    images = draw.random(shape, np.float32)
    along = draw.standard_normal((len(labels), sizes.features)).astype(np.float32)
    encoder = encoders.random(sizes.encoder, jax.random.key(0))
    if method in ("forward", "to_pixels"):
        if form == "ddjax":
            return _our_passes(encoder, method, images, along)
        return _torch_passes(method, sizes, images, along)
    few = (images, labels)
    problem = data.from_arrays(few, few, validation=few, preprocessing="none")
    made = methods.make(
        method, encoder=encoder, decoder="pixels", initialization="balanced"
    )
    prepared = made.prepare(jax.random.key(0), problem, no_cache)
    state = made.init(jax.random.key(1), problem, prepared)
    # A step sees all of them, in the order of their classes.
    batch = prepared._replace(real=(problem.train,)) if method == "lgm" else prepared
    if form == "ddjax":
        settings: Any = {"seed": _SEED, "length": 5_000, "learned": _learned}
        return paired_steps.our_steps(made, state, batch, **settings)
    real = tuple(np.asarray(each) for each in batch.real[0][:2])
    return _torch_steps(method, sizes, _learned(state)["inputs"], real)


def _learned(state: Any) -> dict[str, np.ndarray]:
    return {"inputs": np.asarray(state.learned["stored"]["inputs"])}


def _our_passes(
    encoder: encoders.Encoder, method: str, images: np.ndarray, along: np.ndarray
) -> Run:
    def loss(shown: Any, params: Any) -> tuple[Any, Any]:
        features = encoder.apply(params, shown)
        return jnp.sum(features * along), features

    def gradient(shown: Any, params: Any) -> tuple[Any, Any]:
        (value, _), slope = jax.value_and_grad(loss, has_aux=True)(shown, params)
        return value, slope

    passes = jax.jit(loss if method == "forward" else gradient)
    held: dict[str, Any] = {}

    def one() -> Any:
        value, held["found"] = passes(jnp.asarray(images), encoder.params)
        return value

    return Run(one, lambda: {"found": np.asarray(held["found"])}, list)


def _channels_last(images: Any) -> Any:
    torch: Any = importlib.import_module("torch")
    # As a view: the numbers lie as they did.
    return torch.tensor(np.array(images)).permute(0, 3, 1, 2)


def _torch_passes(
    method: str, sizes: Sizes, images: np.ndarray, along: np.ndarray
) -> Run:
    torch: Any = importlib.import_module("torch")
    encode, shown = torch_encoders.encoder(sizes.encoder), _channels_last(images)
    direction = torch.tensor(along)
    held: dict[str, Any] = {}

    def one() -> Any:
        if method == "forward":
            with torch.no_grad():
                held["found"] = encode(shown)
                return (held["found"] * direction).sum()
        pixels = shown.detach().requires_grad_(True)
        value = (encode(pixels) * direction).sum()
        (slope,) = torch.autograd.grad(value, pixels)
        held["found"] = slope.permute(0, 2, 3, 1)
        return value.detach()

    return Run(one, lambda: {"found": held["found"].numpy()}, list)


def _drawn(sizes: Sizes) -> tuple[np.ndarray, Any]:
    """The head of LGM's first step, and what its images are augmented by."""
    keys = jax.random.split(paired_steps.key_of_step(_SEED, 0), 3)
    made, real = _COPIES * sizes.classes, REAL_PER_CLASS * sizes.classes
    own, others = (
        jax.random.split(key, number)
        for key, number in zip(keys[1:], (made, real), strict=True)
    )
    drawn = frozen_features.draws(
        augment.make("flip_crop_noise"),
        jnp.concatenate([own, others]),
        (sizes.side, sizes.side, 3),
        micro_batch=None,
    )
    head_key = jax.random.fold_in(keys[0], 0)
    head = HEAD_STD * jax.random.normal(head_key, (sizes.features, sizes.classes))
    return np.array(head), jax.tree.map(np.array, drawn)


def _torch_steps(
    method: str, sizes: Sizes, start: Any, real: tuple[np.ndarray, ...]
) -> Run:
    torch: Any = importlib.import_module("torch")
    functional = torch.nn.functional
    encode = torch_encoders.encoder(sizes.encoder)
    inputs = _channels_last(start).requires_grad_(True)
    outer = torch.optim.Adam([inputs], lr=_RATES[method])
    seen = _channels_last(real[0]) if method == "lgm" else torch.tensor(real[0])
    labels = torch.tensor(real[1].astype(np.int64))
    own_labels = torch.arange(sizes.classes)
    held = {"step": 0}

    def draw(number: int) -> tuple[Any, ...]:
        area = torch.empty(number).uniform_(0.08, 1.0)
        aspect = torch.exp(torch.empty(number).uniform_(np.log(3 / 4), np.log(4 / 3)))
        height, width = (area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt()
        width = width.clamp(max=1)
        top, left = torch.rand(number) * (1 - height), torch.rand(number) * (1 - width)
        noise = 0.2 * torch.randn(number, sizes.side, sizes.side, 3)
        noise = noise * (torch.rand(number) < 0.5).view(-1, 1, 1, 1)
        return torch.rand(number) < 0.5, (top, left, height, width), noise

    def first_draw(drawn: Any) -> tuple[Any, ...]:
        flipped, places, noise = drawn
        names = ("top", "left", "height", "width")
        parts = tuple(torch.tensor(places[name][:, 0]) for name in names)
        return torch.tensor(flipped[:, 0]), parts, torch.tensor(noise[:, 0])

    def augmented(shown: Any, drawn: tuple[Any, ...]) -> Any:
        flipped, (top, left, height, width), noise = drawn
        shown = torch.where(flipped.view(-1, 1, 1, 1), shown.flip(3), shown)

        def places(start: Any, part: Any) -> Any:
            length = (part * sizes.side).unsqueeze(1)
            at = (torch.arange(sizes.side) + 0.5) / sizes.side * length
            most = (length - 0.5).clamp(min=0.5)
            inside = torch.minimum(at.clamp(min=0.5), most) - 0.5
            pixels = start.unsqueeze(1) * sizes.side + inside
            return (2 * pixels.clamp(0, sizes.side - 1) + 1) / sizes.side - 1

        rows, columns = places(top, height), places(left, width)
        full = (len(shown), sizes.side, sizes.side)
        grid = (columns[:, None].expand(full), rows[:, :, None].expand(full))
        cropped = functional.grid_sample(
            shown, torch.stack(grid, dim=-1), align_corners=False
        )
        return cropped + noise.permute(0, 3, 1, 2)

    def head_gradient(features: Any, wanted: Any, head: Any, *, keep: bool) -> Any:
        error = functional.cross_entropy(features @ head[0] + head[1], wanted)
        found = torch.autograd.grad(error, head, create_graph=keep)
        return torch.cat([each.flatten() for each in found])

    def gradient_distance() -> Any:
        made = _COPIES * sizes.classes
        if held["step"] == 0:
            weights, drawn = _drawn(sizes)
            start = torch.tensor(weights)
            own = first_draw(jax.tree.map(lambda leaf: leaf[:made], drawn))
            others = first_draw(jax.tree.map(lambda leaf: leaf[made:], drawn))
        else:
            start = HEAD_STD * torch.randn(sizes.features, sizes.classes)
            own, others = draw(made), draw(len(labels))
        head = start.requires_grad_(True), torch.zeros(sizes.classes).requires_grad_()
        with torch.no_grad():
            features = encode(augmented(seen, others))
        wanted = head_gradient(features, labels, head, keep=False)
        copies = augmented(inputs.repeat(_COPIES, 1, 1, 1), own)
        found = head_gradient(
            encode(copies), own_labels.repeat(_COPIES), head, keep=True
        )
        return 1 - functional.cosine_similarity(wanted, found, dim=0)

    def probe_loss() -> Any:
        features = functional.normalize(encode(inputs))
        gram = features @ features.T
        strength = _RIDGE * gram.diagonal().mean().detach()
        targets = torch.eye(sizes.classes) - 1 / sizes.classes
        system = gram + strength * torch.eye(sizes.classes)
        head = features.T @ torch.linalg.solve(system, targets)
        return functional.cross_entropy(seen @ head / _TAU, labels)

    def one() -> Any:
        outer.zero_grad()
        loss = probe_loss() if method == "clp" else gradient_distance()
        loss.backward()
        outer.step()
        held["step"] += 1
        return loss.item()

    def learned() -> dict[str, np.ndarray]:
        return {"inputs": inputs.detach().permute(0, 2, 3, 1).numpy()}

    return Run(one, learned, list)


def _scale(sizes: Mapping[str, Sizes]) -> str:
    return "10 classes, 10 copies and 10 real images a class; float32"


STEPS = paired_steps.Steps(
    "experiments.benchmarks.encoder_step", METHODS, SIZES, TOY, run, _scale
)

if __name__ == "__main__":
    paired_steps.print_peak(STEPS)
