"""The real features that a probe is judged on, as it sees them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddjax.data.feed import Batches
from ddjax.data.problem import Split
from ddjax.kernels import linear_probe
from ddjax.kernels import ridge as ridge_regression
from ddjax.kernels.statistics import SufficientStatistics
from ddjax.methods import frozen_features
from ddjax.synthetic.decoders.base import Fitted
from ddjax.synthetic.targets import centred_one_hot

__all__ = [
    "CENTRINGS",
    "ProbeData",
    "ProbeView",
    "embed",
    "embedded_rows",
    "probe_data",
    "split_of",
]

CENTRINGS = ("none", "real", "intercept")


class ProbeView(NamedTuple):
    """What is done to features before a probe.

    Attributes:
      normalize: scale every vector to norm 1.
      centring: `none`; `real`: the mean of the real features is subtracted from all; or
        `intercept`: the probe has an unpenalised intercept.
    """

    normalize: bool
    centring: str


class ProbeData(NamedTuple):
    """What steps look at; tuples have one entry an encoder.

    Attributes:
      params: weights of the encoders.
      centres: means of the real features, `(p,)`, zero unless they are subtracted.
      real: real features as the probe sees them, and labels, on the device; empty where
        they stay on the host or the statistics say it all.
      raw: real features as the encoder gives them, and labels, where they stay on the
        host; the probe's view of a batch is made in each step.
      statistics: of all real features, for the squared loss on all of them; else empty.
      fitted: what the decoder took from the real data.
    """

    params: tuple[dict[str, Array], ...]
    centres: tuple[Float[Array, " p"], ...]
    real: tuple[Split | Batches, ...]
    raw: tuple[Split | Batches, ...]
    statistics: tuple[SufficientStatistics, ...]
    fitted: Fitted


def embed(view: ProbeView, features: Any, centre: Float[Array, " p"]) -> Array:
    """Features as the probe sees them."""
    return linear_probe.embed(
        features,
        centre=centre if view.centring == "real" else None,
        normalize=view.normalize,
    )


def probe_data(
    view: ProbeView,
    features: Sequence[Float[Array | np.ndarray, "n _"]],
    labels: Any,
    *,
    classes: int,
    batch_size: int | None,
    by_statistics: bool,
    params: tuple[dict[str, Array], ...],
    fitted: Fitted,
) -> ProbeData:
    """Puts real features where steps find them.

    Args:
      view: what is done to them.
      features: one array an encoder.
      labels: of the images, `(n,)`.
      classes: how many.
      batch_size: rows a step; None for all.
      by_statistics: whether the sufficient statistics of all rows are enough.
      params: see `ProbeData`.
      fitted: see `ProbeData`.
    """
    centres = tuple(
        _centre(each, subtracted=view.centring == "real") for each in features
    )
    data = ProbeData(params, centres, (), (), (), fitted)
    if by_statistics:

        def parts(rows: Any, centre: Array) -> Iterator[tuple[Array, Array]]:
            for some, some_labels in frozen_features.blocks(rows, labels):
                seen = embed(view, some, centre)
                if view.centring == "intercept":
                    seen = jnp.concatenate([seen, jnp.ones_like(seen[:, :1])], axis=1)
                yield seen, centred_one_hot(some_labels, classes)

        statistics = (
            ridge_regression.streamed_statistics(parts(each, centre))
            for each, centre in zip(features, centres, strict=True)
        )
        return data._replace(statistics=tuple(statistics))
    rows = frozen_features.rows_to_draw_from(features, labels, batch_size=batch_size)
    if not all(isinstance(split_of(each).inputs, jax.Array) for each in rows):
        return data._replace(raw=rows)
    once = (
        each._replace(split=_embedded(view, each.split, centre))
        if isinstance(each, Batches)
        else _embedded(view, each, centre)
        for each, centre in zip(rows, centres, strict=True)
    )
    return data._replace(real=tuple(once))


def embedded_rows(view: ProbeView, data: ProbeData) -> ProbeData:
    """With the probe's view of a step's rows in place of raw ones from the host."""
    if not data.raw:
        return data
    real = (
        _embedded(view, split_of(each), centre)
        for each, centre in zip(data.raw, data.centres, strict=True)
    )
    return data._replace(real=tuple(real), raw=())


def split_of(rows: Split | Batches) -> Split:
    """All rows, whether a step takes some of them or all."""
    return rows.split if isinstance(rows, Batches) else rows


def _embedded(view: ProbeView, split: Split, centre: Array) -> Split:
    return split._replace(inputs=embed(view, split.inputs, centre))


def _centre(features: Any, *, subtracted: bool) -> Float[Array, " p"]:
    if not subtracted:
        return jnp.zeros(features.shape[1])
    return jnp.asarray(np.mean(features, axis=0, dtype=np.float64))
