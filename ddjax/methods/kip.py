r"""KIP: kernel inducing points, by kernel ridge regression on an exact kernel.

Samples :math:`X_s` with targets :math:`Y_s` are moved so that kernel ridge regression
on them predicts real targets:

.. math::
    L = \frac{1}{2 n c}\big\|Y_t - K_{ts}(K_{ss} + \lambda I)^{-1} Y_s\big\|_F^2, \qquad
    \lambda = \text{ridge}\cdot\mathrm{tr}(K_{ss})/m .

It is the squared-loss relative of DGKIP. Source: Nguyen, Chen and Lee, "Dataset
Meta-Learning from Kernel Ridge-Regression" (ICLR 2021), equation 7; settings of Nguyen,
Novak, Xiao and Lee (NeurIPS 2021): targets one-hot - 1/c, ridge 1e-6, Adam 4e-2, 5000
real samples a step, float64 (here: the precision jax runs in).
"""

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from ddjax.data.problem import Problem
from ddjax.methods import optimization, ridge_objective
from ddjax.methods.base import Method, Remember, remember_nothing
from ddjax.methods.optimization import State
from ddjax.models import feature_maps
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.targets import centred_one_hot

__all__ = ["kip"]


def kip(
    *,
    per_class: int = 1,
    features: Mapping[str, Any] | None = None,
    ridge: float = 1e-6,
    batch_size: int = 5000,
    learn_targets: bool = True,
    initialization: str = "real",
    parameterization: str | Mapping[str, Any] = "pixels",
    optimizer: str = "adam",
    learning_rate: float = 4e-2,
    targets_learning_rate: float | None = None,
    decay_steps: int | None = None,
    warmup_steps: int = 0,
) -> Method:
    """Builds KIP as a `Method`.

    Args:
      per_class: samples a class (IPC).
      features: the kernel, see `ddjax.models.feature_maps.from_settings`: `ntk` or
        `nngp` (exact), or `random_features` (fixed random networks). The default is the
        NTK of the fully connected architecture.
      ridge: regularisation relative to the mean diagonal of the Gram.
      batch_size: real samples a step; all of them where there are fewer.
      learn_targets: learn the targets too.
      initialization: see `ddjax.synthetic.initialization.select`.
      parameterization: see `ddjax.methods.optimization.learner`.
      optimizer: likewise.
      learning_rate: likewise.
      targets_learning_rate: likewise.
      decay_steps: likewise.
      warmup_steps: likewise.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    settings: dict[str, Any] = {"kind": "ntk"} if features is None else dict(features)
    if settings.get("kind") == "inputs":
        raise ValueError(
            "features of kind 'inputs' give no kernel for KIP; use 'ntk', "
            "'nngp' or 'random_features'"
        )
    if settings.get("kind", "random_features") == "random_features":
        settings.setdefault("readout", True)
    ridge_objective.check_batch_size(batch_size)

    def feature_map(key: PRNGKeyArray) -> feature_maps.FeatureMap:
        return feature_maps.from_settings(key, settings)

    seen = feature_map(jax.random.key(0))
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
    )

    def prepare(
        key: PRNGKeyArray, problem: Problem, remember: Remember = remember_nothing
    ) -> ridge_objective.RealData:
        del remember
        return ridge_objective.real_data(
            problem, feature_map(key), batch_size=batch_size
        )

    def init(
        key: PRNGKeyArray, problem: Problem, data: ridge_objective.RealData
    ) -> State:
        del data
        return parts.start(
            key, problem, lambda labels: centred_one_hot(labels, problem.classes)
        )

    def grams(params, inputs, real):
        if seen.kind == "random_features":
            apply = feature_maps.application(seen)
            rows = apply(params, inputs)
            return rows @ rows.T, apply(params, real) @ rows.T
        kernel = feature_maps.kernel(seen)
        return kernel(inputs, inputs), kernel(real, inputs)

    def step(state: State, batch: ridge_objective.Batch, key: PRNGKeyArray):
        del key

        real_targets = ridge_objective.real_targets(batch, state)

        def objective(learned):
            gram, cross = grams(batch.params, parts.inputs(learned), batch.real.inputs)
            value, jitter = ridge_objective.ridge_loss(
                gram, cross, learned["targets"], real_targets, ridge=ridge
            )
            return value, jitter

        (value, jitter), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.learned
        )
        return parts.update(state, gradients), {"loss": value, "jitter": jitter}

    def distilled(
        state: State, problem: Problem, data: ridge_objective.RealData
    ) -> DistilledSet:
        drawn = feature_map(jax.random.wrap_key_data(data.key_data))
        return optimization.distilled_set(
            state,
            problem,
            parts,
            targets_kind="scores",
            provenance={"features": feature_maps.to_recipe(drawn), "ridge": ridge},
        )

    def sample(
        key: PRNGKeyArray, data: ridge_objective.RealData
    ) -> ridge_objective.Batch:
        return ridge_objective.draw(key, data, batch_size)

    return Method(prepare, init, sample, step, distilled)
