"""What KIP and RFAD share: kernel ridge regression on the samples."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ddjax import checks
from ddjax.data.feed import Batches, batches
from ddjax.data.problem import Problem, Split
from ddjax.kernels import precision
from ddjax.kernels import ridge as ridge_regression
from ddjax.methods import learned_set
from ddjax.methods.base import Method, Progress
from ddjax.methods.descent import Descent
from ddjax.methods.learned_set import DescentState
from ddjax.models.feature_maps import Features
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Fitted
from ddjax.synthetic.targets import centred_one_hot

__all__ = ["KernelData", "build", "grams_of_features", "half_mean_square"]


class KernelData(NamedTuple):
    """What steps look at.

    Attributes:
      real: real inputs and labels; `Batches` of them until rows are drawn.
      params: parameters of random networks ({} for an exact kernel, or where they are
        drawn anew in every step).
      fitted: what the decoder took from the real data.
    """

    real: Split | Batches
    params: Any
    fitted: Fitted


def grams_of_features(
    apply: Features, params: Any, inputs: Array, real: Array
) -> tuple[Array, Array]:
    """:math:`K_{ss}` and :math:`K_{ts}` of the features of samples and real inputs."""
    rows = apply(params, inputs)
    return precision.gram(rows), precision.gram(apply(params, real), rows)


def half_mean_square(learned: Any, real_targets: Array, predictions: Array) -> Array:
    """The loss over samples and classes that learns nothing of its own."""
    del learned
    return 0.5 * jnp.mean(jnp.square(real_targets - predictions))


def build(
    name: str,
    given: Mapping[str, Any],
    *,
    default: Descent,
    grams: Callable[[PRNGKeyArray, Any, Array, Array], tuple[Array, Array]],
    recipe: Callable[[PRNGKeyArray], dict[str, Any]],
    params: Callable[[PRNGKeyArray, Problem], Any] = lambda key, problem: {},
    loss: Callable[[dict[str, Any], Array, Array], Array] = half_mean_square,
    extra: Callable[[], dict[str, Any]] = dict,
    **resolved: Any,
) -> Method:
    """A method from what tells the two apart.

    Args:
      name: the registered name.
      given: the keywords of its factory; those that both have are read here, see
        `ddjax.methods.kip.kip`.
      default: the method's own descent.
      grams: `(key of the step, params, inputs, real inputs) -> K_ss, K_ts`.
      recipe: `(key) -> dict`, what the recipe of the set says of the kernel.
      params: `(key, problem) -> params`, made once a run.
      loss: `(learned, real targets, predictions) -> scalar`.
      extra: makes the first values of the method's own groups.
      **resolved: other keywords in full.
    """
    ridge, batch_size = given["ridge"], given["batch_size"]
    checks.check_counts(batch_size=batch_size)
    parts = learned_set.of_keywords(given, default, groups=tuple(extra()))

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> KernelData:
        learned_set.class_labels(problem.train)
        made = params(key, problem)
        real = batches(problem.train, batch_size)
        return KernelData(real, made, parts.fit(problem, cache))

    def step(
        state: DescentState, batch: KernelData, key: PRNGKeyArray, progress: Progress
    ):
        assert isinstance(batch.real, Split)  # the loop has drawn the rows of `Batches`
        inputs = jnp.asarray(batch.real.inputs)
        labels = learned_set.class_labels(batch.real)

        def objective(learned: dict[str, Any]) -> tuple[Array, Array]:
            pairs = parts.pairs(learned)
            gram, cross = grams(key, batch.params, pairs.inputs, inputs)
            solution = ridge_regression.kernel_solve(
                gram, pairs.targets, ridge=ridge, convention="relative"
            )
            predictions = ridge_regression.kernel_predict(cross, solution)
            wanted = centred_one_hot(labels, pairs.targets.shape[1])
            return loss(learned, wanted, predictions), solution.jitter

        (value, jitter), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.learned
        )
        metrics = {"loss": value, "jitter": jitter}
        return parts.update(state, gradients, progress), metrics

    return learned_set.gradient_method(
        name,
        given,
        parts,
        prepare=prepare,
        init=learned_set.class_init(
            parts,
            centred_one_hot,
            per_class=given["per_class"],
            initialization=given["initialization"],
            extra=extra,
        ),
        step=step,
        distilled=learned_set.distilled_from(
            parts,
            lambda key, *_: {
                "targets_kind": "scores",
                "loss": {"name": "squared"},
                "ridge": {"strength": ridge, "convention": "relative"},
                **recipe(key),
            },
        ),
        **resolved,
    )
