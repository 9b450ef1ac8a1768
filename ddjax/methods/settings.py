"""What makes a feature map, as a method's settings say it."""

import inspect
from typing import Any

from ddjax.kernels import random_features
from ddjax.kernels.random_features import Architecture
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap

__all__ = ["architecture_settings", "feature_settings"]


def feature_settings(feature_map: FeatureMap) -> dict[str, Any]:
    """What `ddjax.models.feature_maps.from_settings` takes beside a key."""
    recipe = feature_maps.to_recipe(feature_map)
    settings = {k: v for k, v in recipe.items() if k not in ("key_data", "key_impl")}
    if feature_map.architecture is not None:
        settings["architecture"] = architecture_settings(feature_map.architecture)
    return settings


def architecture_settings(architecture: Architecture) -> dict[str, Any]:
    """What `ddjax.models.feature_maps.as_architecture` takes for its kind."""
    factory = getattr(random_features, architecture.kind)
    known = ("kind", *inspect.signature(factory).parameters)
    return {k: v for k, v in architecture._asdict().items() if k in known}
