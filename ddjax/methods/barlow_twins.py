r"""Barlow Twins: features that two views of an image share, none of them redundant.

Two augmented views of n images go through the network and a projector. With the
embeddings :math:`Z, Z'`, each column of which is brought to mean 0 and variance 1 over
the batch, and their cross-correlation :math:`C = Z^\top Z' / n`,

.. math::
    L = \sum_i (1 - C_{ii})^2 + \lambda \sum_i \sum_{j \ne i} C_{ij}^2 .

What a run leaves is no distilled set but the network, a
`ddjax.models.trained.TrainedNetwork`: the teacher of self-supervised distillation. No
label is looked at. It is made by this module, and is not among the methods by name.

Source: Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy
Reduction" (ICML 2021), equations 1 and 2, with :math:`\lambda = 0.005`. For small
images the paper gives no settings; the defaults follow those that da Costa et al.
("solo-learn", JMLR 2022) publish for CIFAR: 1000 epochs of batches of 256, LARS 0.3
with trust 0.02, weight decay 1e-4, a loss scaled by 0.1, ten epochs of warm-up, a
projector of width 2048, no blur. LARS sees no scale of a loss: scaling by 0.1 is here a
tenth of the rate of what is not adapted to layers, and ten times the weight decay.
Their LARS never takes more than a plain step of the rate; optax's has no such bound.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax import checks
from ddjax.data import augment
from ddjax.data.augment import Transform
from ddjax.data.feed import batches
from ddjax.data.problem import Problem, Split
from ddjax.kernels.precision import transposed_product
from ddjax.methods import descent as descents
from ddjax.methods.base import Method, Progress, whole_data
from ddjax.methods.descent import Descent
from ddjax.models.encoders.layers import at_least_single
from ddjax.models.networks import check_compute_dtype
from ddjax.models.networks.layers import BatchNorm, uniform
from ddjax.models.trained import TrainedNetwork, make_network, network_setting
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.json_text import plain

__all__ = ["DESCENT", "VIEWS", "barlow_twins", "redundancy_loss"]

DESCENT = Descent(
    "lars",
    0.3,
    schedule="cosine",
    warmup=0.01,
    rates={"vectors": 0.03},
    settings={"trust_coefficient": 0.02, "weight_decay": 1e-3, "momentum": 0.9},
)

VIEWS = (
    {"name": "crop_jitter_solarize", "solarize": 0.0},
    {"name": "crop_jitter_solarize", "solarize": 0.2},
)
"""How the two views are augmented."""

_EPSILON = 1e-5
# Keywords of optax's optimisers that say what is decayed, or adapted to its layer.
_MASKS = ("mask", "weight_decay_mask", "trust_ratio_mask")


class TwinsData(NamedTuple):
    """What steps look at: preprocessed images, and the way back to pixels."""

    real: Any
    mean: Float[Array, " c"]
    std: Float[Array, " c"]


class TwinsState(NamedTuple):
    """What one step changes.

    Attributes:
      learned: group -> path -> parameter: `matrices`, and `vectors` (biases, scales),
        which are neither decayed nor adapted to their layer.
      moments: group -> the optimiser's state.
      statistics: the network's running statistics.
    """

    learned: dict[str, dict[str, Array]]
    moments: dict[str, Any]
    statistics: Any


class _Projector(nn.Module):
    """Dense layers without bias; batch normalisation and ReLU between them."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, features: Float[Array, "n p"]) -> Float[Array, "n q"]:
        hidden = features
        for index, width in enumerate(self.widths):
            if index:
                hidden = nn.relu(BatchNorm()(hidden, True))
            hidden = nn.Dense(
                width,
                use_bias=False,
                kernel_init=uniform(hidden.shape[1]),
                param_dtype=hidden.dtype,
            )(hidden)
        return hidden


def redundancy_loss(
    first: Float[Array, "n q"], second: Float[Array, "n q"], *, redundancy_weight: float
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    r"""The loss of two views' embeddings, see the module's equation.

    Variances are over n, with 1e-5 added. At least in float32.

    Args:
      first: embeddings of one view.
      second: embeddings of the other, the same images in the same rows.
      redundancy_weight: :math:`\lambda`, >= 0.

    Returns:
      L, and its sums `invariance` (the diagonal's) and `redundancy` (the others', not
      weighted).
    """
    correlation = transposed_product(_standardized(first), _standardized(second))
    correlation = correlation / first.shape[0]
    diagonal = jnp.diagonal(correlation)
    invariance = jnp.sum(jnp.square(1 - diagonal))
    others = correlation - jnp.diag(diagonal)
    redundancy = jnp.sum(jnp.square(others))
    loss = invariance + redundancy_weight * redundancy
    return loss, {"invariance": invariance, "redundancy": redundancy}


def _standardized(values: Float[Array, "n q"]) -> Float[Array, "n q"]:
    values = values.astype(at_least_single(values.dtype))
    centred = values - values.mean(axis=0, keepdims=True)
    variance = jnp.square(centred).mean(axis=0, keepdims=True)
    return centred * jax.lax.rsqrt(variance + _EPSILON)


def barlow_twins(
    *,
    network: str | Mapping[str, Any] = "resnet18",
    projector: Sequence[int] = (2048, 2048, 2048),
    redundancy_weight: float = 5e-3,
    views: Sequence[augment.PlainSetting] = VIEWS,
    batch_size: int = 256,
    compute_dtype: str | None = None,
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    r"""Builds it as a `Method`.

    Each view passes through the network on its own, so that batch normalisation is by
    the images of one view; running statistics take both in.

    Args:
      network: a name in `ddjax.models.networks.NETWORKS`, or a mapping with `name` and
        keywords of that factory, such as `{"name": "resnet18", "width": 32}`.
      projector: widths of the projector's layers, the last one that of the embeddings.
      redundancy_weight: :math:`\lambda`, >= 0.
      views: two augmentations of pixels in [0, 1], see `ddjax.data.augment.make`; each
        image has draws of its own in each view.
      batch_size: images a step, >= 2; all of them where there are fewer.
      compute_dtype: what network and projector compute in, of
        `ddjax.models.networks.COMPUTE_DTYPES`; None takes the dtype of the data
        (float32, float64 under x64). Parameters, running statistics, the loss and the
        optimiser have the data's dtype in any case.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`; the
        learning rate is that of matrices and kernels, `rates["vectors"]` that of biases
        and scales, which the optimiser neither decays nor adapts to their layer.

    Raises:
      ValueError: an unknown name, a number out of range; when it prepares, a problem
        whose inputs are no images of 1 or 3 channels, or behind whitening.
    """
    described = network_setting(network)
    model = make_network(described)
    widths = tuple(projector)
    transforms = [augment.make(each) for each in views]
    _check(widths, len(transforms), batch_size)
    checks.check_not_negative(redundancy_weight=redundancy_weight)
    check_compute_dtype(compute_dtype)
    head = _Projector(widths)
    both = descents.describe(descent, DESCENT, groups=("vectors",))
    by_group = {"matrices": both, "vectors": _without_decay(both)}

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> TwinsData:
        del key, cache
        _check_problem(problem)
        images, channels = problem.train.inputs, problem.train.inputs.shape[-1]
        mean, std = (
            jnp.asarray(_per_channel(values, channels), images.dtype)
            for values in (problem.preprocessing.mean, problem.preprocessing.std)
        )
        return TwinsData(batches(Split(images), batch_size), mean, std)

    def init(key: PRNGKeyArray, problem: Problem, data: TwinsData) -> TwinsState:
        images = jnp.zeros((2, *problem.train.inputs.shape[1:]), data.mean.dtype)
        params, statistics = _start(model, head, key, images)
        learned = _grouped(params)
        moments = {
            group: descents.first_moments(by_group[group], group, values)
            for group, values in learned.items()
        }
        return TwinsState(learned, moments, statistics)

    def step(
        state: TwinsState, batch: TwinsData, key: PRNGKeyArray, progress: Progress
    ):
        seen = _views_of(batch, transforms, key)
        dtype = seen[0].dtype if compute_dtype is None else jnp.dtype(compute_dtype)

        def objective(learned: dict[str, dict[str, Array]]):
            params = _ungrouped(jax.tree.map(lambda leaf: leaf.astype(dtype), learned))
            statistics, embeddings = state.statistics, []
            for images in seen:
                embedded, statistics = _embedded(
                    model, head, params, statistics, images.astype(dtype)
                )
                embeddings.append(embedded.astype(images.dtype))
            loss, sums = redundancy_loss(
                *embeddings, redundancy_weight=redundancy_weight
            )
            return loss, (sums, statistics)

        value_and_slopes = jax.value_and_grad(objective, has_aux=True)
        (loss, (sums, statistics)), slopes = value_and_slopes(state.learned)
        learned, moments = {}, {}
        for group, values in state.learned.items():
            learned[group], moments[group] = descents.descend(
                by_group[group],
                group,
                values,
                slopes[group],
                state.moments[group],
                progress,
            )
        return TwinsState(learned, moments, statistics), {"loss": loss, **sums}

    def distilled(
        key: PRNGKeyArray, state: TwinsState, problem: Problem, data: TwinsData
    ) -> TrainedNetwork:
        del key, data
        return _network_of(described, state, problem)

    settings = {
        "network": described,
        "projector": widths,
        "redundancy_weight": redundancy_weight,
        "views": [{"name": each.name, **each.settings} for each in transforms],
        "batch_size": batch_size,
        "compute_dtype": compute_dtype,
        "descent": both,
    }
    return Method(
        "barlow_twins",
        plain(settings, "settings"),
        prepare,
        init,
        whole_data,
        step,
        distilled,
        follows_length=descents.decays(both),
    )


def _start(
    model: nn.Module, head: nn.Module, key: PRNGKeyArray, images: Float[Array, "..."]
) -> tuple[dict[str, Any], Any]:
    """Random parameters of both, and the network's running statistics."""

    @jax.jit
    def start(of_network: PRNGKeyArray, of_projector: PRNGKeyArray) -> Any:
        variables = model.init(of_network, images)
        features: Any = model.apply(variables, images)
        projector = head.init(of_projector, features)["params"]
        params = {"network": variables["params"], "projector": projector}
        return params, variables.get("batch_stats", {})

    return start(*jax.random.split(key))


def _views_of(
    batch: TwinsData, transforms: Sequence[Transform], key: PRNGKeyArray
) -> list[Float[Array, "n h w c"]]:
    """The views of a batch, as the network sees them."""
    mean, std = (each.reshape(1, 1, 1, -1) for each in (batch.mean, batch.std))
    pixels = jnp.clip(batch.real.inputs * std + mean, 0.0, 1.0)
    count, *shape = pixels.shape
    seen = []
    for transform, own in zip(transforms, jax.random.split(key), strict=True):
        drawn = transform.draw(own, count, tuple(shape))
        seen.append((transform.apply(drawn, pixels) - mean) / std)
    return seen


def _embedded(
    model: nn.Module,
    head: nn.Module,
    params: dict[str, Any],
    statistics: Any,
    images: Float[Array, "n h w c"],
) -> tuple[Float[Array, "n q"], Any]:
    """One view's embeddings, and the running statistics after it."""
    features, updated = model.apply(
        {"params": params["network"], "batch_stats": statistics},
        images,
        train=True,
        mutable=["batch_stats"],
    )
    # The projector normalises by the batch alone: its statistics are nobody's.
    embeddings, _ = head.apply(
        {"params": params["projector"]}, features, mutable=["batch_stats"]
    )
    return embeddings, updated.get("batch_stats", statistics)


def _network_of(
    described: dict[str, Any], state: TwinsState, problem: Problem
) -> TrainedNetwork:
    variables = {"params": _ungrouped(state.learned)["network"]}
    if state.statistics:
        variables["batch_stats"] = state.statistics
    shape = tuple(problem.train.inputs.shape[1:])
    mean, std = (
        tuple(map(float, _per_channel(values, shape[-1])))
        for values in (problem.preprocessing.mean, problem.preprocessing.std)
    )
    return TrainedNetwork(described, shape, variables, mean, std, {})


def _check(projector: tuple[int, ...], views: int, batch_size: int) -> None:
    if not projector or min(projector) < 1:
        raise ValueError(
            f"projector is {list(projector)}; it must be the width of each layer, at "
            "least one of them, each at least 1"
        )
    if views != 2:
        raise ValueError(f"views must be two augmentations, got {views}")
    if batch_size < 2:
        raise ValueError(
            f"batch_size must be at least 2 to correlate anything, got {batch_size}"
        )


def _check_problem(problem: Problem) -> None:
    shape = tuple(problem.train.inputs.shape)
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise ValueError(
            f"barlow_twins needs images (n, height, width, 1 or 3), but problem "
            f"{problem.name!r} has inputs of shape {shape}"
        )
    if shape[0] < 2:
        raise ValueError(f"barlow_twins needs at least 2 images, got {shape[0]}")
    kind = problem.preprocessing.kind
    if kind not in ("none", "standardize"):
        raise ValueError(
            f"barlow_twins augments pixels and normalises channels, but problem "
            f"{problem.name!r} has preprocessing {kind!r}; load it with 'standardize' "
            "or 'none'"
        )


def _per_channel(values: Any, channels: int) -> np.ndarray:
    """Statistics of a preprocessing as one number for each channel."""
    return np.broadcast_to(np.asarray(values, np.float64).reshape(-1), (channels,))


def _without_decay(descent: Descent) -> Descent:
    """The descent without weight decay and rates by layer, which only matrices get."""
    takes = inspect.signature(getattr(optax, descent.optimizer)).parameters
    off = {name: False for name in _MASKS if name in takes}
    return descent._replace(settings={**descent.settings, **off})


def _grouped(parts: Any) -> dict[str, dict[str, Array]]:
    flat: dict[str, Any] = flatten_dict(parts, sep="/")
    groups: dict[str, dict[str, Array]] = {"matrices": {}, "vectors": {}}
    for name, values in flat.items():
        groups["matrices" if values.ndim > 1 else "vectors"][name] = values
    return groups


def _ungrouped(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    flat = {name: values for group in groups.values() for name, values in group.items()}
    return unflatten_dict(flat, sep="/")
