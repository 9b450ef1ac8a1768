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

from ddjax.data.problem import Problem
from ddjax.kernels import precision, random_features
from ddjax.methods import checks, learned_set, ridge_objective
from ddjax.methods.base import Method, Progress
from ddjax.methods.descent import Descent
from ddjax.methods.learned_set import DescentState
from ddjax.methods.ridge_objective import KernelData
from ddjax.methods.settings import architecture_settings
from ddjax.models import feature_maps
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Decoder
from ddjax.synthetic.distilled import DistilledSet, distilled_set
from ddjax.synthetic.targets import centred_one_hot

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
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {LOSSES}, got {loss!r}")
    checks.check_counts(batch_size=batch_size)
    hidden = feature_maps.as_architecture(architecture)
    apply = feature_maps.application(
        feature_maps.random(jax.random.key(0), hidden, networks=networks, readout=True)
    )
    parts = learned_set.learned_set(
        decoder=decoder,
        descent=descent,
        default=DESCENT,
        learn_targets=learn_targets,
        groups=("temperature",),
    )
    learned_set.check_initialization(parts.decoder, initialization)

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> KernelData:
        del key
        real = ridge_objective.real_rows(problem, batch_size)
        return KernelData(real, {}, parts.fit(problem, cache))

    init = learned_set.class_init(
        parts,
        centred_one_hot,
        per_class=per_class,
        initialization=initialization,
        extra=lambda: {"temperature": jnp.zeros(())},
    )

    def step(
        state: DescentState, batch: KernelData, key: PRNGKeyArray, progress: Progress
    ):
        real = ridge_objective.real_of_step(batch)
        params = random_features.init_networks(
            key, hidden, input_shape=real.inputs.shape[1:], networks=networks
        )
        # The same networks in every precision, as `feature_maps.build` has it.
        dtype = jnp.result_type(float)
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)

        def objective(learned):
            pairs = parts.pairs(learned)
            rows = apply(params, pairs.inputs)
            return ridge_objective.ridge_loss(
                precision.gram(rows),
                precision.gram(apply(params, jnp.asarray(real.inputs)), rows),
                pairs.targets,
                ridge_objective.real_targets(real, pairs.targets.shape[1]),
                ridge=ridge,
                loss=_platt(learned["temperature"]) if loss == "platt" else None,
            )

        (value, jitter), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.learned
        )
        metrics = {"loss": value, "jitter": jitter}
        return parts.update(state, gradients, progress), metrics

    def distilled(
        key: PRNGKeyArray, state: DescentState, problem: Problem, data: KernelData
    ) -> DistilledSet:
        del key, data
        return distilled_set(
            state.learned["stored"],
            parts.decoder,
            problem,
            recipe={
                "targets_kind": "scores",
                "loss": {"name": "squared"},
                "ridge": {"strength": ridge, "convention": "relative"},
                "architecture": dict(hidden._asdict()),
            },
            labels=state.labels,
        )

    return learned_set.gradient_method(
        "rfad",
        given,
        parts,
        prepare=prepare,
        init=init,
        step=step,
        distilled=distilled,
        architecture=architecture_settings(hidden),
    )


def _platt(log_scale: Float[Array, ""]):
    """Cross-entropy of scaled predictions; centred one-hot targets name the class."""

    def loss(real_targets: Array, predictions: Array) -> Array:
        labels = jnp.argmax(real_targets, axis=1)
        return optax.softmax_cross_entropy_with_integer_labels(
            jnp.exp(log_scale) * predictions, labels
        ).mean()

    return loss
