r"""RFAD: KIP with the kernel of a few random networks, redrawn at every step.

The Gram of N finite networks' features f stands for the exact kernel,

.. math:: K = w_{std}^2 f f^\top + b_{std}^2

(the dense head on the last features; with the usual constants
:math:`2 f f^\top + 0.01`), with a new draw each step in place of the infinite width.
Losses: half the mean squared error, or Platt scaling: cross-entropy of
:math:`e^{k}\cdot` predictions with a learned k, which starts from 0.

Source: Loo, Hasani, Amini and Rus, "Efficient Dataset Distillation using Random Feature
Approximation" (NeurIPS 2022). Settings there: ridge 5e-3 tr(K)/m with the gradient
through the trace, AdaBelief 1e-3 (eps 1e-16), k at 1e-2, 8 networks, 4 x 1280 real
samples a step.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax import checks
from ddjax.kernels import random_features
from ddjax.methods import ridge_objective
from ddjax.methods.base import Method
from ddjax.methods.descent import Descent
from ddjax.methods.settings import architecture_settings
from ddjax.models import feature_maps
from ddjax.synthetic.decoders.base import Decoder

__all__ = ["DESCENT", "LOSSES", "rfad"]

LOSSES = ("squared", "platt")

DESCENT = Descent("adabelief", 1e-3, rates={"temperature": 1e-2})
"""What RFAD's authors descend with; `temperature` is the logarithm of Platt's scale."""


def rfad(
    *,
    per_class: int = 1,
    architecture: str | Mapping[str, Any] = "convolutional",
    networks: int = 8,
    loss: str = "squared",
    ridge: float = 5e-3,
    batch_size: int = 5120,
    learn_targets: bool = True,
    initialization: str = "balanced",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    """Builds RFAD as a `Method`.

    Args:
      per_class: samples a class (IPC).
      architecture: see `ddjax.models.feature_maps.as_architecture`.
      networks: random networks a step.
      loss: `squared` or `platt`.
      ridge: lambda over the mean diagonal of the Gram (`relative` in
        `ddjax.kernels.ridge`).
      batch_size: real samples a step; all of them where there are fewer.
      learn_targets: learn the targets too.
      initialization: see `ddjax.synthetic.initialization.select`; or `decoder_noise`.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`; its
        groups are `targets` and `temperature`.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    given = dict(locals())
    checks.check_names(loss=(loss, LOSSES))
    hidden = feature_maps.as_architecture(architecture)
    apply = feature_maps.application(
        feature_maps.random(jax.random.key(0), hidden, networks=networks, readout=True)
    )

    def grams(
        key: PRNGKeyArray, params: Any, inputs: Array, real: Array
    ) -> tuple[Array, Array]:
        del params
        drawn = random_features.init_networks(
            key, hidden, input_shape=real.shape[1:], networks=networks
        )
        # The same networks in every precision, as `feature_maps.build` has it.
        dtype = jnp.result_type(float)
        drawn = jax.tree.map(lambda leaf: leaf.astype(dtype), drawn)
        return ridge_objective.grams_of_features(apply, drawn, inputs, real)

    return ridge_objective.build(
        "rfad",
        given,
        default=DESCENT,
        grams=grams,
        recipe=lambda key: {"architecture": dict(hidden._asdict())},
        loss=_platt if loss == "platt" else ridge_objective.half_mean_square,
        extra=lambda: {"temperature": jnp.zeros(())},
        architecture=architecture_settings(hidden),
    )


def _platt(
    learned: dict[str, Any], real_targets: Array, predictions: Array
) -> Float[Array, ""]:
    """Cross-entropy of scaled predictions; centred one-hot targets name the class."""
    labels = jnp.argmax(real_targets, axis=1)
    return optax.softmax_cross_entropy_with_integer_labels(
        jnp.exp(learned["temperature"]) * predictions, labels
    ).mean()
