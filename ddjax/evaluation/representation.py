"""What an evaluation's convex learner sees its inputs through."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from ddjax.checks import check_counts, check_names
from ddjax.kernels.random_features import Architecture
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap
from ddjax.synthetic.distilled import DistilledSet

__all__ = ["FEATURES", "Representation", "representation"]

FEATURES = ("distillation", *feature_maps.KINDS)
"""`distillation`: whatever the set was distilled through, the very same networks."""

Representation = Callable[[PRNGKeyArray, DistilledSet], list[FeatureMap]]


def representation(
    features: str,
    *,
    architecture: Architecture | Mapping[str, Any] | str | None,
    networks: int | None,
    draws: int,
) -> Representation:
    """Builds `(key, distilled) -> feature maps`, one for each draw.

    Args:
      features: one of `FEATURES`.
      architecture: see `feature_maps.as_architecture`; None takes the default.
      networks: random networks a draw; None takes the default.
      draws: how many times random networks are drawn; everything else is looked at
        once, nothing about it being random.

    Raises:
      ValueError: an unknown name, or a setting that it does not have.
    """
    check_names(features=(features, FEATURES))
    check_counts(draws=draws)
    given = {"architecture": architecture, "networks": networks}
    settings = {name: value for name, value in given.items() if value is not None}
    if features == "distillation":
        if settings:
            raise ValueError(
                f"features 'distillation' are the set's own; {sorted(settings)} cannot "
                "be chosen for them"
            )
        return lambda key, distilled: [_of_distillation(distilled)]
    settings["kind"] = features
    feature_maps.from_settings(jax.random.key(0), settings)  # refuses mistakes here

    def of_draws(key: PRNGKeyArray, distilled: DistilledSet) -> list[FeatureMap]:
        del distilled
        times = draws if features in ("random_features", "fourier") else 1
        keys = [jax.random.fold_in(key, draw) for draw in range(times)]
        return [feature_maps.from_settings(one, settings) for one in keys]

    return of_draws


def _of_distillation(distilled: DistilledSet) -> FeatureMap:
    recipe = distilled.recipe.get("features")
    if recipe is None:
        raise ValueError(
            "the set does not say which features it was distilled through; choose "
            f"others: {', '.join(feature_maps.KINDS)}"
        )
    return feature_maps.from_recipe(recipe)
