"""Frozen pretrained encoders as pure functions over a flat dict of weights."""

from ddjax.models.encoders.base import Encoder, EncoderError, MissingWeightsError

__all__ = ["Encoder", "EncoderError", "MissingWeightsError"]
