"""Student networks and feature maps: what learns from a distilled set."""

from ddjax.models.feature_maps import FeatureMap

__all__ = ["FeatureMap"]
