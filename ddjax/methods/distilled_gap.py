"""The duality gap of a distilled set at the solution on all the real data."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ddjax.kernels import duality, precision
from ddjax.kernels.losses import Loss
from ddjax.methods.reference import ReferenceSolution
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap

__all__ = [
    "Form",
    "SampleFeatures",
    "first_outputs",
    "free_duals",
    "gap_of",
    "sample_features",
]

Form = Literal["auto", "full", "gradient_norm"]


class SampleFeatures(NamedTuple):
    """What the gap looks at of the samples: their features, or kernel values alone.

    Attributes:
      rows: features `(m, p)`, or None.
      gram: the samples' kernel `(m, m)`, or None with `rows`.
      predictions: of the reference solution on the samples `(m, *c)`, or None with
        `rows`.
    """

    rows: Array | None
    gram: Array | None
    predictions: Array | None


def sample_features(
    reference: ReferenceSolution,
    feature_map: FeatureMap,
    inputs: Float[Array, "m *shape"],
    *,
    in_kernel: bool = False,
    sample_block: int | None = None,
) -> SampleFeatures:
    """Samples as the reference solution's model sees them.

    Args:
      reference: the solution on the real data.
      feature_map: what it sees inputs through; only the architecture is used, the
        networks' parameters being those of `reference`.
      inputs: the decoded samples.
      in_kernel: kernel values although there are features.
      sample_block: samples at once; None takes all.
    """
    if reference.support is not None:
        kernel = feature_maps.kernel(feature_map)
        cross = kernel(inputs, reference.support)
        predictions = precision.product(cross, reference.weights)
        return SampleFeatures(None, kernel(inputs, inputs), predictions)
    apply = feature_maps.in_blocks(feature_maps.application(feature_map), sample_block)
    rows = apply(reference.params, inputs)
    if in_kernel:
        predictions = precision.product(rows, reference.weights)
        return SampleFeatures(None, precision.gram(rows), predictions)
    return SampleFeatures(rows, None, None)


def gap_of(
    reference: ReferenceSolution,
    samples: SampleFeatures,
    targets: Float[Array, "m *c"],
    *,
    ridge: Any,
    **settings: Any,
) -> Float[Array, ""]:
    """The gap from features or from kernel values, see `ddjax.kernels.duality`.

    Kernel values cancel near a good set. There the gap is at least a rounding error of
    its first term, so that its logarithm and the bound that it gives stay finite.
    """
    if samples.rows is not None:
        return duality.gap(
            reference.weights, samples.rows, targets, ridge=ridge, **settings
        )
    assert samples.gram is not None and samples.predictions is not None
    value = duality.kernel_gap(
        samples.predictions,
        reference.squared_norm,
        samples.gram,
        targets,
        ridge=ridge,
        **settings,
    )
    first = 0.5 * ridge * reference.squared_norm
    return jnp.maximum(value, float(jnp.finfo(value.dtype).eps) * first)


def free_duals(
    outputs: Float[Array, "m *c"], targets: Float[Array, "m *c"], loss: Loss
) -> Float[Array, "m *c"]:
    """Feasible duals from free numbers: margins for margin losses, outputs for others.

    A margin does not change its dual when the label beside it is learned.
    """
    if loss.kind == "margin":
        return targets * loss.surrogate(jnp.ones_like(targets), outputs)
    return loss.surrogate(targets, outputs)


def first_outputs(
    objective: Any, targets: Float[Array, "m *c"], loss: Loss
) -> Float[Array, "m *c"]:
    """One margin for all samples: that of the least `objective(outputs)` on a grid."""
    pattern = jnp.ones_like(targets) if loss.kind == "margin" else targets
    scales = jnp.linspace(0.0, 20.0, 81)
    values = jax.lax.map(lambda scale: objective(scale * pattern), scales)
    return scales[jnp.argmin(values)] * pattern
