r"""Images and targets as combinations of shared bases, with predefined views.

With U image bases :math:`B^x` of `1/s` of the height and width, V target bases
:math:`B^y`, and coefficients of m samples,

.. math::
    X = D_s(\bar x + C^x B^x), \qquad Y = \bar y + C^y B^y,

:math:`D_s` enlarging bilinearly (pixel centres at half-integers, clamped at the
border). Each image comes with A predefined views :math:`\tau_a` of it
(`ddjax.data.views`), whose targets have coefficients :math:`C_a^y` of their own, or
shifted ones (`shift`):

- `stored`: :math:`C_a^y`, as they are;
- `same`: :math:`C^y`;
- `bias`: :math:`C^y + b_a`;
- `network`: :math:`C^y + Q_a(C^y)`,
  :math:`Q_a(c) = W_a' \max(0, W_a c + b_a) + b_a'`.

Stored numbers: `image_mean`, `image_bases`, `image_coefficients`, `target_mean`,
`target_bases`, `target_coefficients`, and `view_coefficients`, `view_shifts` or
`view_networks`. Without target bases targets are stored as they are, in `targets`.

Source: Yu, Yao and Chiu, "Boost Self-Supervised Dataset Distillation via
Parameterization, Predefined Augmentation, and Approximation" (ICLR 2025), section 3.2
and Algorithm 2. The means are not in the paper, which takes principal components (of
centred data) and projects what is not centred: a representation behind a ReLU would
lose most of its mean. They are part of the storage.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.checks import check_counts, check_names
from ddjax.data import preprocess
from ddjax.data.principal_components import principal_components
from ddjax.data.problem import Split
from ddjax.data.views import VIEWS, check_views, with_views
from ddjax.kernels.precision import product
from ddjax.synthetic.decoders.base import Decoder, Fitted, Pairs, Stored

__all__ = ["SHIFTS", "STARTS", "approximate", "bases", "floats_of"]

SHIFTS = ("stored", "same", "bias", "network")
"""Where the targets of views come from."""

STARTS = ("principal_components", "real", "random")
"""What bases start from: principal components; real samples, spread evenly over the
training data; numbers drawn from N(0, 1)."""

_CONSTANTS = ("image_mean", "target_mean")


def bases(
    *,
    image_bases: int = 16,
    target_bases: int | None = None,
    downscale: int = 2,
    views: str = "none",
    shift: str = "stored",
    hidden: int = 4,
    start: str = "principal_components",
) -> Decoder:
    """Bases with coefficients, see the module.

    Args:
      image_bases: U >= 1; of principal components no more than there are.
      target_bases: V >= 1; None stores targets as they are.
      downscale: s >= 1, which divides the height and width.
      views: one of `ddjax.data.views.VIEWS`; all but `none` need target bases, and a
        method that knows the targets of views.
      shift: one of `SHIFTS`; all but `stored` are made by `approximate`, after a run.
      hidden: units of an approximation network, >= 1.
      start: one of `STARTS`. A random start (`noise`) draws all coefficients from
        N(0, 1), whatever the bases start from.

    Raises:
      ValueError: an unknown name or a number out of range; when the real data are
        looked at, inputs that are no images, or that do not go with a setting.
    """
    settings = dict(locals())
    _check(settings)
    count = 1 + len(VIEWS[views])

    def fit(real: Split) -> Fitted:
        shape = tuple(real.inputs.shape[1:])
        _check_shape(shape, downscale, views)
        small = (shape[0] // downscale, shape[1] // downscale, shape[2])
        of_all: Any = {"start": start, "rows": len(real.inputs)}

        def reduced() -> Iterator[Any]:
            for block in preprocess.blocks(real.inputs):
                yield _reduced(block, factor=downscale)

        found = _basis(reduced, image_bases, small, what="image", **of_all)
        if target_bases is not None:
            targets = real.targets
            if targets is None:
                raise ValueError(
                    f"target_bases={target_bases} needs real targets, and the problem "
                    "has none"
                )
            blocks = functools.partial(preprocess.blocks, targets)
            shape = tuple(targets.shape[1:])
            found |= _basis(blocks, target_bases, shape, what="target", **of_all)
        dtype = real.inputs.dtype
        return {name: jnp.asarray(array, dtype) for name, array in found.items()}

    def init(pairs: Pairs, fitted: Fitted) -> Stored:
        _check_shape(tuple(pairs.inputs.shape[1:]), downscale, views)
        samples = _samples(len(pairs.inputs), count, views)
        small = _reduced(jnp.asarray(pairs.inputs)[:samples], factor=downscale)
        stored = {
            **fitted,
            "image_coefficients": _coefficients(small, fitted, "image"),
        }
        targets = jnp.asarray(pairs.targets, small.dtype)
        if target_bases is None:
            return {**stored, "targets": targets}
        found = _coefficients(targets, fitted, "target")
        found = found.reshape(count, samples, target_bases)
        stored["target_coefficients"] = found[0]
        return {**stored, "view_coefficients": found[1:]} if count > 1 else stored

    def noise(
        key: PRNGKeyArray, shape: tuple[int, ...], targets: Array, fitted: Fitted
    ) -> Stored:
        _check_shape(shape[1:], downscale, views)
        samples = _samples(shape[0], count, views)
        dtype, keys = targets.dtype, jax.random.split(key, 5)
        stored = dict(fitted)
        if start == "random":
            for own, name in zip(
                keys[:2], ("image_bases", "target_bases"), strict=True
            ):
                if name in stored:
                    stored[name] = jax.random.normal(own, stored[name].shape, dtype)
        sizes: dict[str, tuple[int, ...]] = {}
        sizes["image_coefficients"] = (samples, image_bases)
        if target_bases is None:
            stored["targets"] = targets
        else:
            sizes["target_coefficients"] = (samples, target_bases)
        if count > 1:
            assert target_bases is not None
            sizes["view_coefficients"] = (count - 1, samples, target_bases)
        for own, (name, size) in zip(keys[2:], sizes.items(), strict=False):
            stored[name] = jax.random.normal(own, size, dtype)
        return stored

    def decode(stored: Stored) -> Pairs:
        small = _combined(stored["image_coefficients"], stored, "image")
        size = (small.shape[1] * downscale, small.shape[2] * downscale)
        shape = (small.shape[0], *size, small.shape[3])
        images = with_views(jax.image.resize(small, shape, "linear"), views)
        if target_bases is None:
            return Pairs(images, stored["targets"])
        found = _view_coefficients(stored, shift, count - 1)
        return Pairs(images, _combined(found, stored, "target"))

    return Decoder(
        name="bases",
        settings=settings,
        fit=fit,
        init=init,
        decode=decode,
        noise=noise,
        constants=_CONSTANTS if target_bases is not None else _CONSTANTS[:1],
        targets=_target_names(target_bases, shift, count),
        pairs_per_sample=count,
    )


def approximate(
    key: PRNGKeyArray,
    decoder: Decoder,
    stored: Stored,
    *,
    shift: str,
    steps: int = 2000,
    learning_rate: float = 1e-2,
) -> tuple[Decoder, Stored, Float[Array, ""]]:
    r"""A set whose views' coefficients are stored, with shifts in their place.

    `bias` is the mean of :math:`C_a^y - C^y` over the samples, its minimiser. `network`
    minimises, by Adam on all samples at once,

    .. math:: \tfrac{1}{A m V} \sum_a \lVert C^y + Q_a(C^y) - C_a^y \rVert_F^2 .

    Source: Algorithm 1 of the paper, lines 21 to 23; `same` and `bias` are of its Table
    11, where `stored` is called "Ideal". It names neither optimiser nor length.

    Args:
      key: of the networks' first weights.
      decoder: `bases` with `shift='stored'` and views.
      stored: its numbers.
      shift: one of `SHIFTS`.
      steps: of Adam, >= 1.
      learning_rate: of Adam, falling to zero along a cosine.

    Returns:
      The decoder and the numbers with shifts, and the mean squared error above, in the
      units of the targets' coefficients.

    Raises:
      ValueError: another decoder.
    """
    given = decoder.settings
    if (
        decoder.name != "bases"
        or given["shift"] != "stored"
        or given["views"] == "none"
    ):
        raise ValueError(
            "views are approximated of decoder 'bases' with views and shift='stored', "
            f"got {decoder.setting}"
        )
    made = bases(**{**given, "shift": shift})
    kept = {k: v for k, v in stored.items() if k != "view_coefficients"}
    base, wanted = stored["target_coefficients"], stored["view_coefficients"]
    views = wanted.shape[0]
    if shift == "stored":
        kept = dict(stored)
    elif shift == "bias":
        kept["view_shifts"] = (wanted - base[None]).mean(axis=1)
    elif shift == "network":
        kept["view_networks"] = _trained_networks(
            key,
            base,
            wanted,
            hidden=given["hidden"],
            steps=steps,
            learning_rate=learning_rate,
        )
    found = _view_coefficients(kept, shift, views).reshape(1 + views, *base.shape)[1:]
    return made, kept, jnp.mean(jnp.square(found - wanted))


def floats_of(
    samples: int,
    *,
    image_shape: tuple[int, int, int],
    target_width: int,
    image_bases: int,
    target_bases: int,
    downscale: int,
    views: str,
    shift: str,
    hidden: int,
) -> int:
    r"""How many numbers a set of so many samples stores, exactly.

    .. math::
        (U + 1) d_b + (V + 1) d_y + m (U + V) + A m V \;|\; 0 \;|\; A V \;|\;
        A (2 V w + w + V)

    the last term being that of `stored`, `same`, `bias` or `network`, and
    :math:`d_b = c\, h w / s^2`: `samples` is m, `image_shape` is `(h, w, c)`,
    `target_width` is :math:`d_y`, and the rest are settings of `bases`.
    """
    height, width, channels = image_shape
    small = (height // downscale) * (width // downscale) * channels
    count = len(VIEWS[views])
    shifts = {
        "stored": samples * target_bases,
        "same": 0,
        "bias": target_bases,
        "network": 2 * target_bases * hidden + hidden + target_bases,
    }
    return (
        (image_bases + 1) * small
        + (target_bases + 1) * target_width
        + samples * (image_bases + target_bases)
        + count * shifts[shift]
    )


def _check(settings: dict[str, Any]) -> None:
    sizes = ("image_bases", "target_bases", "downscale", "hidden")
    check_counts(**{name: settings[name] for name in sizes})
    check_names(shift=(settings["shift"], SHIFTS), start=(settings["start"], STARTS))
    check_views(settings["views"])
    if settings["views"] != "none" and settings["target_bases"] is None:
        raise ValueError(
            f"views={settings['views']!r} needs target_bases, which the targets of "
            "views share"
        )


def _check_shape(shape: tuple[int, ...], downscale: int, views: str) -> None:
    if len(shape) != 3:
        raise ValueError(
            f"inputs of shape {shape} are no images (height, width, channels), which "
            "decoder 'bases' makes"
        )
    if shape[0] % downscale or shape[1] % downscale:
        raise ValueError(
            f"downscale={downscale} does not divide images of {shape[0]} x {shape[1]}"
        )
    check_views(views, shape)


def _samples(pairs: int, count: int, views: str) -> int:
    if pairs % count:
        raise ValueError(
            f"{pairs} pairs are not {count} for each sample, as views={views!r} makes "
            "them"
        )
    return pairs // count


def _target_names(target_bases: int | None, shift: str, count: int) -> tuple[str, ...]:
    if target_bases is None:
        return ("targets",)
    of_views = {"stored": "view_coefficients", "bias": "view_shifts"}
    of_views |= {"network": "view_networks"}
    own = [of_views[shift]] if count > 1 and shift in of_views else []
    return ("target_mean", "target_bases", "target_coefficients", *own)


def _reduced(images: Any, *, factor: int) -> Any:
    """Means over squares of `factor` x `factor` pixels."""
    number, height, width, channels = images.shape
    cut = (number, height // factor, factor, width // factor, factor, channels)
    return images.reshape(cut).mean(axis=(2, 4))


def _basis(
    blocks: Any, count: int, shape: tuple[int, ...], *, start: str, rows: int, what: str
) -> dict[str, Any]:
    """Mean and bases of `shape` from blocks of rows, by their names in storage."""
    width = math.prod(shape)
    most = {"principal_components": min(rows - 1, width), "real": rows}.get(start)
    if most is not None and count > most:
        raise ValueError(
            f"{what}_bases={count}, but {rows} real {what}s of {width} numbers have at "
            f"most {most}"
        )
    if start == "principal_components":
        found = principal_components((np.asarray(each) for each in blocks()), count)
        mean, vectors = found.mean, found.components
    else:
        mean, vectors = np.zeros(width), np.zeros((count, width))
    if start == "real":
        wanted = np.linspace(0, rows - 1, count).round().astype(int)
        done, at = 0, 0
        for block in blocks():
            inside = [i for i in wanted if at <= i < at + len(block)]
            picked = np.asarray(block)[[i - at for i in inside]]
            vectors[done : done + len(inside)] = picked.reshape(len(inside), -1)
            done, at = done + len(inside), at + len(block)
    return {
        f"{what}_mean": mean.reshape(shape),
        f"{what}_bases": vectors.reshape(count, *shape),
    }


def _coefficients(
    values: Float[Array, "n *shape"], fitted: Fitted, what: str
) -> Float[Array, "n k"]:
    """Projections of values on orthonormal bases."""
    mean, vectors = fitted[f"{what}_mean"], fitted[f"{what}_bases"]
    rows = (values - mean[None]).reshape(values.shape[0], -1)
    return product(rows, vectors.reshape(vectors.shape[0], -1).T)


def _combined(
    coefficients: Float[Array, "n k"], stored: Stored, what: str
) -> Float[Array, "n *shape"]:
    mean, vectors = stored[f"{what}_mean"], stored[f"{what}_bases"]
    rows = product(coefficients, vectors.reshape(vectors.shape[0], -1))
    return rows.reshape(-1, *mean.shape) + mean[None]


def _view_coefficients(stored: Stored, shift: str, views: int) -> Float[Array, "_ v"]:
    """Of the samples, then of each view of theirs."""
    base = stored["target_coefficients"]
    if views == 0:
        return base
    everywhere = jnp.broadcast_to(base[None], (views, *base.shape))
    if shift == "stored":
        of_views = stored["view_coefficients"]
    elif shift == "same":
        of_views = everywhere
    elif shift == "bias":
        of_views = everywhere + stored["view_shifts"][:, None, :]
    else:
        of_views = everywhere + _predicted_shifts(stored["view_networks"], base)
    return jnp.concatenate([base[None], of_views]).reshape(-1, base.shape[1])


def _predicted_shifts(
    networks: dict[str, Array], coefficients: Float[Array, "m v"]
) -> Float[Array, "a m v"]:
    first = jnp.einsum("mv,avw->amw", coefficients, networks["hidden_weights"])
    hidden = jax.nn.relu(first + networks["hidden_biases"][:, None, :])
    last = jnp.einsum("amw,awv->amv", hidden, networks["output_weights"])
    return last + networks["output_biases"][:, None, :]


@functools.partial(jax.jit, static_argnames=("hidden", "steps", "learning_rate"))
def _trained_networks(
    key: PRNGKeyArray,
    base: Float[Array, "m v"],
    wanted: Float[Array, "a m v"],
    *,
    hidden: int,
    steps: int,
    learning_rate: float,
) -> dict[str, Array]:
    import optax

    views, _, width = wanted.shape
    keys = jax.random.split(key)

    def drawn(own: PRNGKeyArray, *shape: int) -> Array:
        bound = 1 / math.sqrt(shape[1])
        return jax.random.uniform(own, shape, base.dtype, -bound, bound)

    networks = {
        "hidden_weights": drawn(keys[0], views, width, hidden),
        "hidden_biases": jnp.zeros((views, hidden), base.dtype),
        "output_weights": drawn(keys[1], views, hidden, width),
        "output_biases": jnp.zeros((views, width), base.dtype),
    }
    # Coefficients of principal components differ by orders of magnitude: the networks
    # see them in units of the largest, and are rescaled when they are done.
    scale = jnp.sqrt(jnp.mean(jnp.square(base))) + jnp.finfo(base.dtype).tiny
    shifts = (wanted - base[None]) / scale
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def error(networks: dict[str, Array]) -> Array:
        found = _predicted_shifts(networks, base / scale)
        return jnp.mean(jnp.square(found - shifts))

    def step(_: Any, carry: Any) -> Any:
        networks, moments = carry
        with jax.numpy_dtype_promotion("standard"):
            changes, moments = optimizer.update(jax.grad(error)(networks), moments)
        return optax.apply_updates(networks, changes), moments

    carry = (networks, optimizer.init(networks))
    trained, _ = jax.lax.fori_loop(0, steps, step, carry)
    return {
        **trained,
        "hidden_weights": trained["hidden_weights"] / scale,
        "output_weights": trained["output_weights"] * scale,
        "output_biases": trained["output_biases"] * scale,
    }
