r"""Selection baselines for regression: real rows, or k-means centres, as they are.

Nothing is learned: a step changes nothing. They are what a distilled set of the same
size has to beat. Beside random rows and k-means there is sampling by ridge leverage
scores, the influence of each row on its own prediction,

.. math::
    l_i(\lambda) = \tfrac1n \phi_i^\top \Big(\tfrac1n \Phi^\top\Phi + \lambda I
      \Big)^{-1} \phi_i, \qquad \sum_i l_i = d_{\text{eff}}(\lambda).

Source: Alaoui and Mahoney, "Fast randomized kernel ridge regression with statistical
guarantees" (NeurIPS 2015), definition 1; their lambda is per sample, as here.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy.linalg import solve_triangular

from ddjax import checks
from ddjax.data.problem import Problem
from ddjax.data.stored import on_host
from ddjax.kernels.blocks import map_in_blocks
from ddjax.methods import least_squares
from ddjax.methods.base import Method, without_steps
from ddjax.methods.learned_set import regression_targets
from ddjax.methods.settings import feature_settings
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic import decoders
from ddjax.synthetic.decoders.base import Decoder, Pairs, Stored
from ddjax.synthetic.distilled import DistilledSet, distilled_set
from ddjax.synthetic.initialization import select_rows

__all__ = [
    "HOW",
    "ChosenRows",
    "check_settings",
    "choose",
    "exact_decoder",
    "leverage_scores",
    "regression_set",
    "row_selection",
]

HOW = (
    *("uniform", "kmeans_centres", "kmeans_nearest", "herding", "k_center"),
    "leverage",
)
"""How rows may be chosen."""


class ChosenRows(NamedTuple):
    """Chosen rows, as the decoder stores them."""

    stored: Stored


def row_selection(
    *,
    count: int = 10,
    how: str = "uniform",
    ridge: float = 1e-3,
    weighted: bool = False,
    features: Mapping[str, Any] | None = None,
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    block: int = 4096,
) -> Method:
    r"""Builds a selection baseline for regression as a `Method`.

    Args:
      count: rows m.
      how: `uniform`, `kmeans_centres`, `kmeans_nearest`, `herding` or `k_center`, see
        `ddjax.synthetic.initialization.select_rows`; or `leverage`: real rows drawn
        with probabilities :math:`p_i = l_i / \sum_j l_j`, each used once.
      ridge: per sample (`per_sample` in `ddjax.kernels.ridge`), >= 0 (> 0 for
        `leverage`): of the leverage scores, and what the set is to be trained with.
      weighted: with `leverage`, draw with replacement and importance weights
        :math:`w_i = 1/(n p_i)`, so that the weighted loss of the rows is unbiased for
        that of all. Stored are :math:`\sqrt{w_i} x_i` and :math:`\sqrt{w_i} y_i` (both
        preprocessed), on which ridge regression is the weighted one; of linear models
        only, so that `features` must be `inputs`.
      features: what the scores see inputs through, and the set is to be trained
        through; see `ddjax.models.feature_maps.from_settings`, `inputs` by default.
      decoder: see `ddjax.synthetic.decoders.from_setting`; one that stores any pairs
        exactly.
      block: real rows at once.

    Raises:
      ValueError: an unknown name, a number out of range or options that do not go
        together; when a run starts, a problem without regression targets or with fewer
        than `count` rows.
    """
    given = dict(locals())
    keywords = check_settings(count=count, how=how, ridges=(ridge,), features=features)
    if weighted and (how != "leverage" or keywords["kind"] != "inputs"):
        raise ValueError(
            "weighted=True needs how='leverage' and features of kind 'inputs', got "
            f"{how!r} and {keywords['kind']!r}"
        )
    if how == "leverage" and ridge == 0:
        raise ValueError("how='leverage' needs ridge > 0, got 0")
    made = exact_decoder(decoder, "row_selection")

    def feature_map(key: PRNGKeyArray) -> FeatureMap:
        return feature_maps.from_settings(key, keywords)

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> dict[str, Float[np.ndarray, " n"]]:
        """The leverage scores of the training rows, where they are used."""
        regression_targets(problem.train)
        if how != "leverage":
            return {}
        drawn = feature_map(key)
        found = least_squares.moments(problem, drawn, block=block, cache=cache)
        scores = leverage_scores(problem, drawn, found, ridge=ridge, block=block)
        return {"scores": scores}

    def init(key: PRNGKeyArray, problem: Problem, data: Any) -> ChosenRows:
        scores = data.get("scores")
        if not weighted:
            pairs = choose(key, problem, scores, count=count, how=how)
        else:
            shares = scores / scores.sum()
            chosen = np.asarray(
                jax.random.choice(key, len(shares), (count,), p=jnp.asarray(shares))
            )
            roots = np.sqrt(1.0 / (len(shares) * shares[chosen]))[:, None]
            inputs, targets = (np.asarray(each) for each in _rows(problem, chosen))
            flat = inputs.reshape(count, -1) * roots
            pairs = Pairs(
                jnp.asarray(flat.reshape(inputs.shape)), jnp.asarray(targets * roots)
            )
        return ChosenRows(made.init(pairs, made.fit(problem.train)))

    def distilled(
        key: PRNGKeyArray, state: ChosenRows, problem: Problem, data: Any
    ) -> DistilledSet:
        del data
        return regression_set(
            problem, made, state.stored, ridge=ridge, features=feature_map(key)
        )

    resolved = {
        "features": feature_settings(feature_map(jax.random.key(0))),
        "decoder": made,
    }
    return without_steps(
        "row_selection",
        given | resolved,
        prepare=prepare,
        init=init,
        distilled=distilled,
    )


def exact_decoder(decoder: str | Mapping[str, Any] | Decoder, method: str) -> Decoder:
    """A decoder for pairs that are solved for or taken as they are.

    Raises:
      ValueError: one that cannot store any pairs exactly: what is decoded would not be
        what the method chose.
    """
    made = decoders.from_setting(decoder)
    if not made.exact:
        raise ValueError(
            f"method {method!r} does not go with decoder {made.name!r}, which changes "
            "the pairs that it is given; use one that stores any pairs exactly, such "
            "as 'pixels'"
        )
    return made


def check_settings(
    *,
    count: int,
    how: str,
    ridges: tuple[float, ...],
    features: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Refuses what makes no sense; returns the settings of the feature map.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    checks.check_counts(count=count)
    checks.check_names(how=(how, HOW))
    for ridge in ridges:
        checks.check_not_negative(ridge=ridge)
    settings = dict(features or {"kind": "inputs"})
    # Refuses exact kernels, which have no features.
    feature_maps.application(feature_maps.from_settings(jax.random.key(0), settings))
    return {"kind": "random_features", **settings}


def leverage_scores(
    problem: Problem,
    feature_map: FeatureMap,
    found: least_squares.Moments,
    *,
    ridge: float,
    block: int = 4096,
) -> Float[np.ndarray, " n"]:
    """Ridge leverage scores of the training rows (the equation is the module's).

    Args:
      problem: the real data.
      feature_map: what they are seen through; not an exact kernel.
      found: the moments of the same rows through the same features.
      ridge: lambda per sample, > 0.
      block: rows at once.
    """
    strengthened = found.gram + ridge * np.eye(len(found.gram))
    factor = np.linalg.cholesky(strengthened)
    params, apply = feature_maps.build(feature_map, problem.train.inputs.shape[1:])
    # On the host: a slice of a device array at a new place would be compiled anew.
    inputs, scores = on_host(problem.train.inputs), []
    for start in range(0, found.count, block):
        rows = inputs[start : start + block]
        features = map_in_blocks(apply, rows, block=block, arguments=(params,))
        whitened = solve_triangular(factor, features.T.astype(np.float64), lower=True)
        scores.append(np.square(whitened).sum(axis=0) / found.count)
    return np.concatenate(scores)


def choose(
    key: PRNGKeyArray,
    problem: Problem,
    scores: Float[np.ndarray, " n"] | None,
    *,
    count: int,
    how: str,
) -> Pairs:
    """Rows by one of `HOW`, each used once.

    Raises:
      ValueError: fewer real rows than `count`.
    """
    if how != "leverage":
        inputs, targets = select_rows(key, problem, count=count, how=how)
        return Pairs(inputs, jnp.asarray(targets))
    assert scores is not None  # made for leverage
    if len(scores) < count:
        raise ValueError(
            f"{count} samples were asked for, but problem {problem.name!r} has "
            f"{len(scores)} to choose from"
        )
    shares = jnp.asarray(scores / scores.sum())
    chosen = jax.random.choice(key, len(scores), (count,), replace=False, p=shares)
    return _rows(problem, np.asarray(chosen))


def _rows(problem: Problem, chosen: np.ndarray) -> Pairs:
    inputs = np.asarray(problem.train.inputs[chosen])
    targets = np.asarray(regression_targets(problem.train))[chosen]
    return Pairs(jnp.asarray(inputs), jnp.asarray(targets))


def regression_set(
    problem: Problem,
    decoder: Decoder,
    stored: Stored,
    *,
    ridge: float,
    features: FeatureMap,
    **recipe: Any,
) -> DistilledSet:
    """A set for regression, to be trained on with a ridge per sample.

    Args:
      problem: the real data.
      decoder: how the stored numbers become pairs.
      stored: these.
      ridge: lambda per sample.
      features: what the learner sees inputs through.
      **recipe: what else the recipe says.
    """
    return distilled_set(
        stored,
        decoder,
        problem,
        recipe={
            "targets_kind": "regression",
            "features": feature_maps.to_recipe(features),
            "ridge": {"strength": ridge, "convention": "per_sample"},
            **recipe,
        },
    )
