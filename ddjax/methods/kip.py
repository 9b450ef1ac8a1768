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
from jaxtyping import Array, PRNGKeyArray

from ddjax.data.problem import Problem
from ddjax.methods import ridge_objective
from ddjax.methods.base import Method
from ddjax.methods.descent import Descent
from ddjax.methods.settings import feature_settings
from ddjax.models import feature_maps
from ddjax.synthetic.decoders.base import Decoder

__all__ = ["DESCENT", "kip"]

DESCENT = Descent("adam", 4e-2)
"""What KIP's authors descend with."""


def kip(
    *,
    per_class: int = 1,
    features: Mapping[str, Any] | None = None,
    ridge: float = 1e-6,
    batch_size: int = 5000,
    learn_targets: bool = True,
    initialization: str = "balanced",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    """Builds KIP as a `Method`.

    Args:
      per_class: samples a class (IPC).
      features: the kernel, see `ddjax.models.feature_maps.from_settings`: `ntk` or
        `nngp` (exact), or `random_features` (fixed random networks). The default is the
        NTK of the fully connected architecture.
      ridge: lambda over the mean diagonal of the Gram (`relative` in
        `ddjax.kernels.ridge`).
      batch_size: real samples a step; all of them where there are fewer.
      learn_targets: learn the targets too.
      initialization: see `ddjax.synthetic.initialization.select`; or `decoder_noise`.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    given = dict(locals())
    kernel_settings = dict(features or {"kind": "ntk"})
    if kernel_settings.get("kind") in ("inputs", "fourier"):
        raise ValueError(
            f"features of kind {kernel_settings['kind']!r} give no kernel for KIP; use "
            "'ntk', 'nngp' or 'random_features'"
        )
    if kernel_settings.get("kind", "random_features") == "random_features":
        kernel_settings.setdefault("readout", True)

    def feature_map(key: PRNGKeyArray) -> feature_maps.FeatureMap:
        return feature_maps.from_settings(key, kernel_settings)

    # What is applied to the networks is fixed by the settings, whatever their key.
    example = feature_map(jax.random.key(0))
    random = example.kind == "random_features"

    def params(key: PRNGKeyArray, problem: Problem) -> Any:
        if not random:
            return {}
        return feature_maps.build(feature_map(key), problem.train.inputs.shape[1:])[0]

    def grams(
        key: PRNGKeyArray, params: Any, inputs: Array, real: Array
    ) -> tuple[Array, Array]:
        del key
        if random:
            apply = feature_maps.application(example)
            return ridge_objective.grams_of_features(apply, params, inputs, real)
        kernel = feature_maps.kernel(example)
        return kernel(inputs, inputs), kernel(real, inputs)

    return ridge_objective.build(
        "kip",
        given,
        default=DESCENT,
        grams=grams,
        recipe=lambda key: {"features": feature_maps.to_recipe(feature_map(key))},
        params=params,
        features=feature_settings(example),
    )
