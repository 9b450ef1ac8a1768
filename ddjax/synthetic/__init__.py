"""The distilled set: parameterisations, initialisation, targets, files, exports."""

from ddjax.synthetic.distilled import DistilledSet, decoded_inputs, natural_inputs
from ddjax.synthetic.initialization import INITIALIZATIONS, select
from ddjax.synthetic.parameterization import (
    PARAMETERIZATIONS,
    Parameterization,
    make,
    pixels,
)
from ddjax.synthetic.targets import (
    TARGETS_KINDS,
    centred_one_hot,
    one_hot,
    one_vs_rest,
    predicted_labels,
    signs,
)

__all__ = [
    "INITIALIZATIONS",
    "PARAMETERIZATIONS",
    "TARGETS_KINDS",
    "DistilledSet",
    "Parameterization",
    "centred_one_hot",
    "decoded_inputs",
    "make",
    "natural_inputs",
    "one_hot",
    "one_vs_rest",
    "pixels",
    "predicted_labels",
    "select",
    "signs",
]
