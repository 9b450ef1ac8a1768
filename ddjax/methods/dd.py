r"""DD: samples on which a few steps of SGD train a fresh network, step sizes learned.

A network with random parameters :math:`\theta_0` takes T full-batch steps on the set,
and is then judged on a batch B of real samples:

.. math::
    \theta_{t+1} = \theta_t - \eta_t \nabla_\theta
        \frac1m \sum_j \mathrm{CE}\big(f_{\theta_t}(\tilde x_j), \tilde y_j\big),
    \qquad
    L = \mathbb{E}_{\theta_0} \frac{1}{|B|} \sum_{i \in B}
        \mathrm{CE}\big(f_{\theta_T}(x_i), y_i\big) .

The gradient by the samples and by :math:`\log \eta_t` goes back through all steps,
whose activations are computed again on the way: memory grows with T only by the
network's parameters. The recipe's `inner` holds :math:`\eta`, so that
whoever trains on the set can take the steps that it was made for
(`ddjax.evaluation.network`, protocol `inner`).

Source: Wang, Zhu, Torralba and Efros, "Dataset Distillation" (arXiv 1811.10959, 2018),
Algorithm 1. There every step may have samples of its own, and the set is gone through
several times; here each step sees the whole set.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ddjax import checks
from ddjax.methods import class_samples, learned_set
from ddjax.methods.base import Method, Progress
from ddjax.methods.class_samples import ClassData
from ddjax.methods.descent import Descent
from ddjax.methods.learned_set import DescentState, Samples
from ddjax.models import networks
from ddjax.synthetic.decoders.base import Decoder
from ddjax.synthetic.targets import one_hot

__all__ = ["DESCENT", "dd"]

DESCENT = Descent("adam", 1e-2, rates={"log_step_sizes": 1e-2})
"""Adam at the authors' rate, of samples and step sizes alike."""


def dd(
    *,
    per_class: int = 1,
    architecture: str = "convnet",
    settings: Mapping[str, Any] | None = None,
    inner_steps: int = 10,
    step_size: float = 0.02,
    networks_per_step: int = 1,
    batch_size: int = 1024,
    learn_targets: bool = False,
    initialization: str = "balanced",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    r"""Builds DD as a `Method`.

    Args:
      per_class: samples a class (IPC).
      architecture: of the networks, a name in `ddjax.models.networks.NETWORKS`.
      settings: its own.
      inner_steps: T >= 1.
      step_size: every :math:`\eta_t` at the start, > 0.
      networks_per_step: initialisations that a step averages over, one after the other.
      batch_size: |B|, real samples a step; all of them where there are fewer.
      learn_targets: learn the targets too, which start one-hot and stay probabilities
        (each row is projected onto the simplex after a step).
      initialization: one of `ddjax.methods.class_samples.BALANCED`; or `decoder_noise`.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`; its
        groups are `targets` and `log_step_sizes`.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, a problem
        without classes.
    """
    given = dict(locals())
    checks.check_counts(
        inner_steps=inner_steps,
        networks_per_step=networks_per_step,
        batch_size=batch_size,
    )
    checks.check_positive(step_size=step_size)
    class_samples.check_network(architecture, settings)
    parts, init = class_samples.balanced_set(
        given,
        default=DESCENT,
        extra=lambda: {"log_step_sizes": jnp.full(inner_steps, math.log(step_size))},
        groups=("log_step_sizes",),
        project_targets=learned_set.onto_simplex,
    )

    def step(
        state: DescentState, batch: ClassData, key: PRNGKeyArray, progress: Progress
    ):
        pairs, pull_back = jax.vjp(parts.pairs, state.learned)
        sizes = state.learned["log_step_sizes"]
        classes = pairs.targets.shape[1]
        real, labels = class_samples.drawn(batch.real)
        wanted = one_hot(labels, classes).astype(pairs.targets.dtype)
        network = networks.make_for(
            architecture, settings, outputs=classes, shape=pairs.inputs.shape[1:]
        )

        def objective(pairs: Samples, sizes: Array, key: PRNGKeyArray) -> Array:
            def inner(params: Any, statistics: dict[str, Any], _: None):
                return class_samples.trained_on(network, params, statistics, *pairs)

            start = networks.started(key, network, pairs.inputs)
            trained = class_samples.after_steps(inner, *start, jnp.exp(sizes), None)
            return class_samples.trained_on(network, *trained, real, wanted)[0]

        def of_network(key: PRNGKeyArray) -> Any:
            return jax.value_and_grad(objective, (0, 1))(pairs, sizes, key)

        found = jax.lax.map(of_network, jax.random.split(key, networks_per_step))
        value, (slopes, of_sizes) = jax.tree.map(lambda x: x.mean(axis=0), found)
        (gradients,) = pull_back(slopes)
        gradients = {**gradients, "log_step_sizes": of_sizes}
        metrics = {"loss": value, "step_size": jnp.mean(jnp.exp(sizes))}
        return parts.update(state, gradients, progress), metrics

    def inner(state: DescentState) -> dict[str, Any]:
        sizes = np.exp(np.asarray(state.learned["log_step_sizes"], np.float64))
        return {"optimizer": "sgd", "step_sizes": sizes.tolist()}

    return learned_set.gradient_method(
        "dd",
        given,
        parts,
        prepare=class_samples.prepare_classes(parts, batch_size=batch_size),
        init=init,
        step=step,
        distilled=class_samples.distilled_samples(parts, inner=inner),
    )
