"""Student networks and feature maps: what learns from a distilled set."""

from ddjax.models.feature_maps import FeatureMap
from ddjax.models.networks import NETWORKS, ConvNet, FullyConnected

__all__ = ["NETWORKS", "ConvNet", "FeatureMap", "FullyConnected"]
