"""The distilled set: decoders, initialisation, targets, files, exports."""

from ddjax.synthetic.budget import floats, images_equivalent
from ddjax.synthetic.checks import RECIPE
from ddjax.synthetic.decoders import (
    DECODERS,
    Decoder,
    Pairs,
    from_setting,
    make,
    pixels,
)
from ddjax.synthetic.distilled import (
    DistilledSet,
    decoded,
    distilled_set,
    natural_inputs,
    natural_regression_targets,
)
from ddjax.synthetic.encoding import digest
from ddjax.synthetic.export import (
    NUMPY_SNIPPET,
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
    chosen_by_class,
    chosen_rows,
    select,
    select_rows,
)
from ddjax.synthetic.origin import provenance
from ddjax.synthetic.schema import SCHEMA_VERSION
from ddjax.synthetic.targets import (
    TARGETS_KINDS,
    centred_one_hot,
    one_hot,
    one_vs_rest,
    predicted_labels,
    signs,
)

__all__ = [
    "DECODERS",
    "INITIALIZATIONS",
    "NUMPY_SNIPPET",
    "PYTORCH_SNIPPET",
    "RECIPE",
    "ROW_INITIALIZATIONS",
    "SCHEMA_VERSION",
    "TARGETS_KINDS",
    "Decoder",
    "DistilledSet",
    "DistilledSetError",
    "Pairs",
    "centred_one_hot",
    "chosen_by_class",
    "chosen_rows",
    "decoded",
    "digest",
    "distilled_set",
    "draw",
    "floats",
    "from_setting",
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
    "to_csv",
    "to_npz",
    "to_png",
    "to_torch_safetensors",
]
