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
from ddjax.kernels import random_features
from ddjax.methods import optimization, ridge_objective
from ddjax.methods.base import Method, Remember, remember_nothing
from ddjax.methods.optimization import State
from ddjax.models import feature_maps
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.targets import centred_one_hot

__all__ = ["LOSSES", "rfad"]

LOSSES = ("squared", "platt")


def rfad(
    *,
    per_class: int = 1,
    architecture: str | Mapping[str, Any] = "convolutional",
    networks: int = 8,
    loss: str = "squared",
    ridge: float = 5e-3,
    batch_size: int = 5120,
    learn_targets: bool = True,
    initialization: str = "real",
    parameterization: str | Mapping[str, Any] = "pixels",
    optimizer: str = "adabelief",
    learning_rate: float = 1e-3,
    targets_learning_rate: float | None = None,
    temperature_learning_rate: float = 1e-2,
    decay_steps: int | None = None,
    warmup_steps: int = 0,
) -> Method:
    """Builds RFAD as a `Method`.

    Args:
      per_class: samples a class (IPC).
      architecture: see `ddjax.models.feature_maps.as_architecture`.
      networks: random networks a step.
      loss: `squared` or `platt`.
      ridge: regularisation relative to the mean diagonal of the Gram.
      batch_size: real samples a step; all of them where there are fewer.
      learn_targets: learn the targets too.
      initialization: see `ddjax.synthetic.initialization.select`.
      parameterization: see `ddjax.methods.optimization.learner`.
      optimizer: likewise.
      learning_rate: likewise.
      targets_learning_rate: likewise.
      temperature_learning_rate: of Platt's k.
      decay_steps: likewise.
      warmup_steps: likewise.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {LOSSES}, got {loss!r}")
    ridge_objective.check_batch_size(batch_size)
    hidden = feature_maps.as_architecture(architecture)
    apply = feature_maps.application(
        feature_maps.random(jax.random.key(0), hidden, networks=networks, readout=True)
    )
    parts = optimization.learner(
        per_class=per_class,
        initialization=initialization,
        parameterization=parameterization,
        optimizer=optimizer,
        learning_rate=learning_rate,
        learn_targets=learn_targets,
        targets_learning_rate=targets_learning_rate,
        decay_steps=decay_steps,
        warmup_steps=warmup_steps,
        extra_learning_rates={"temperature": temperature_learning_rate},
    )

    def prepare(
        key: PRNGKeyArray, problem: Problem, remember: Remember = remember_nothing
    ) -> ridge_objective.RealData:
        del key, remember
        return ridge_objective.real_data(
            problem, feature_maps.inputs(), batch_size=batch_size
        )

    def init(
        key: PRNGKeyArray, problem: Problem, data: ridge_objective.RealData
    ) -> State:
        del data
        return parts.start(
            key,
            problem,
            lambda labels: centred_one_hot(labels, problem.classes),
            {"temperature": jnp.zeros(())},
        )

    def step(state: State, batch: ridge_objective.Batch, key: PRNGKeyArray):
        params = random_features.init_networks(
            key,
            hidden,
            input_shape=batch.real.inputs.shape[1:],
            networks=networks,
        )

        real_targets = ridge_objective.real_targets(batch, state)

        def objective(learned):
            rows = apply(params, parts.inputs(learned))
            return ridge_objective.ridge_loss(
                rows @ rows.T,
                apply(params, jnp.asarray(batch.real.inputs)) @ rows.T,
                learned["targets"],
                real_targets,
                ridge=ridge,
                loss=_platt(learned["temperature"]) if loss == "platt" else None,
            )

        (value, jitter), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.learned
        )
        return parts.update(state, gradients), {"loss": value, "jitter": jitter}

    def distilled(
        state: State, problem: Problem, data: ridge_objective.RealData
    ) -> DistilledSet:
        del data
        return optimization.distilled_set(
            state,
            problem,
            parts,
            targets_kind="scores",
            provenance={
                "ridge": ridge,
                "loss": {"name": loss},
                "architecture": dict(
                    feature_maps.as_architecture(architecture)._asdict()
                ),
            },
        )

    def sample(
        key: PRNGKeyArray, data: ridge_objective.RealData
    ) -> ridge_objective.Batch:
        return ridge_objective.draw(key, data, batch_size)

    return Method(prepare, init, sample, step, distilled)


def _platt(log_scale: Float[Array, ""]):
    """Cross-entropy of scaled predictions; centred one-hot targets name the class."""

    def loss(real_targets: Array, predictions: Array) -> Array:
        labels = jnp.argmax(real_targets, axis=1)
        return optax.softmax_cross_entropy_with_integer_labels(
            jnp.exp(log_scale) * predictions, labels
        ).mean()

    return loss
