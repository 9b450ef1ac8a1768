"""The distilled set: parameterisations, initialisation, targets, files, exports."""

from ddjax.synthetic.budget import floats, images_equivalent, target_floats
from ddjax.synthetic.distilled import (
    DistilledSet,
    decoded_inputs,
    natural_inputs,
    natural_regression_targets,
)
from ddjax.synthetic.encoding import SCHEMA_VERSION, digest
from ddjax.synthetic.export import (
    PYTORCH_SNIPPET,
    to_csv,
    to_npz,
    to_torch_safetensors,
)
from ddjax.synthetic.files import DistilledSetError, load, save
from ddjax.synthetic.grid import draw, to_png
from ddjax.synthetic.initialization import (
    INITIALIZATIONS,
    ROW_INITIALIZATIONS,
    select,
    select_rows,
)
from ddjax.synthetic.origin import provenance
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
    "PYTORCH_SNIPPET",
    "ROW_INITIALIZATIONS",
    "SCHEMA_VERSION",
    "TARGETS_KINDS",
    "DistilledSet",
    "DistilledSetError",
    "Parameterization",
    "centred_one_hot",
    "decoded_inputs",
    "digest",
    "draw",
    "floats",
    "images_equivalent",
    "load",
    "make",
    "natural_inputs",
    "natural_regression_targets",
    "one_hot",
    "one_vs_rest",
    "pixels",
    "predicted_labels",
    "provenance",
    "save",
    "select",
    "select_rows",
    "signs",
    "target_floats",
    "to_csv",
    "to_npz",
    "to_png",
    "to_torch_safetensors",
]
