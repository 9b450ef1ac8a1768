"""Distilled sets for other programs: NumPy archives and PyTorch-ready tensors."""

import contextlib
import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from ddjax.data import preprocess
from ddjax.data.preprocess import Preprocessing
from ddjax.data.resolution import coarse_columns
from ddjax.storage import atomic
from ddjax.synthetic import encoding
from ddjax.synthetic.checks import check
from ddjax.synthetic.distilled import (
    DistilledSet,
    decoded,
    natural_inputs,
    natural_regression_targets,
)
from ddjax.synthetic.files import DistilledSetError
from ddjax.synthetic.json_text import dumps, plain
from ddjax.synthetic.learn_with import learn_with

__all__ = [
    "NUMPY_SNIPPET",
    "PYTORCH_SNIPPET",
    "to_csv",
    "to_npz",
    "to_torch_safetensors",
    "write",
]

NUMPY_SNIPPET = """\
import json

import numpy as np

with np.load("distilled.npz") as file:
    distilled = {name: file[name] for name in file.files}
learn_with = json.loads(str(distilled["learn_with"]))
"""
"""What a NumPy user needs to read `to_npz`."""

PYTORCH_SNIPPET = """\
import json

import torch
from safetensors import safe_open

with safe_open("distilled.safetensors", framework="pt") as file:
    distilled = {name: file.get_tensor(name) for name in file.keys()}
    learn_with = json.loads(file.metadata()["ddjax"])["learn_with"]

inputs, targets = distilled["inputs"], distilled["targets"]
test_inputs = ((test_inputs - distilled["mean"]) / distilled["std"]).float()
if "whiten" in distilled:
    test_inputs = (test_inputs.flatten(1) @ distilled["whiten"]).view_as(test_inputs)
"""
"""What a PyTorch user needs to read `to_torch_safetensors`.

`test_inputs` are images `(n, c, h, w)` with pixels in [0, 1], or the rows of a table,
`(n, d)`, in natural units. What `learn_with` says is in
`ddjax.synthetic.learn_with.learn_with`.
"""


def to_npz(path: str | os.PathLike[str], distilled: DistilledSet) -> Path:
    """Writes a NumPy archive that `numpy.load` reads without pickle.

    It holds `inputs` (preprocessed, channels last), `natural_inputs` (in the data's own
    units, not clipped), `targets`, `targets_kind`, `mean`, `std`, and where the set has
    them `labels`, `whiten`, `unwhiten` and `class_names`; of a regression set also
    `natural_targets`, and where it has them `targets_mean`, `targets_std`,
    `input_names` and `target_names`; `learn_with` is the JSON of
    `ddjax.synthetic.learn_with.learn_with`: the loss, the head and the rule of
    prediction that go with the targets; `description` is the JSON that `files.save`
    writes (provenance, certificate, digest).

    Args:
      path: the file, replaced in one step.
      distilled: the set.

    Raises:
      DistilledSetError: the set is not valid, or the file cannot be written.
    """
    path = Path(path)
    with _exporting(path):
        document, _ = encoding.encode(distilled)
    pairs = decoded(distilled)
    content = {
        "inputs": pairs.inputs,
        "natural_inputs": natural_inputs(distilled),
        "targets": pairs.targets,
        "targets_kind": distilled.targets_kind,
        "labels": distilled.labels,
        "class_names": distilled.class_names,
        "learn_with": dumps(plain(learn_with(distilled), "learn_with")),
        "description": dumps(document),
        **distilled.preprocessing._asdict(),
    }
    del content["kind"]
    if distilled.targets_kind == "regression":
        content["natural_targets"] = natural_regression_targets(distilled)
    if distilled.targets_preprocessing is not None:
        content["targets_mean"] = distilled.targets_preprocessing.mean
        content["targets_std"] = distilled.targets_preprocessing.std
    if distilled.columns is not None:
        content["input_names"] = distilled.columns.inputs
        content["target_names"] = distilled.columns.targets
    arrays = {n: np.asarray(value) for n, value in content.items() if value is not None}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return write(path, buffer.getvalue())


def to_torch_safetensors(path: str | os.PathLike[str], distilled: DistilledSet) -> Path:
    """Writes tensors laid out as PyTorch wants them: see `PYTORCH_SNIPPET`.

    `inputs` are preprocessed, float32, images channels first `(m, c, h, w)`; `targets`
    float32, `(m, k)` for a head of k outputs; `labels` int64; `mean` and `std` float32,
    shaped to broadcast to one input, so that natural inputs become `(x - mean) / std`;
    after ZCA `whiten` and `unwhiten` act from the right on inputs flattened channels
    first. Predictions of a regression set become natural by `predictions * targets_std
    + targets_mean`. Where a column lies so far from zero that float32 leaves it few
    digits, these statistics are float64: give such columns as float64, and round behind
    the map. The metadata hold, under `ddjax`, a JSON object with `targets_kind`,
    `learn_with` (the loss, the head and the rule of prediction, see
    `ddjax.synthetic.learn_with.learn_with`), `class_names`, the `digest` of the set
    and, where it has them, `columns`. Arguments, result and errors are those of
    `to_npz`.
    """
    from safetensors.numpy import save

    path = Path(path)
    with _exporting(path):
        check(distilled)
    # One key, because several are written in no fixed order.
    metadata = {
        "targets_kind": distilled.targets_kind,
        "learn_with": plain(learn_with(distilled), "learn_with"),
        "class_names": list(distilled.class_names or ()),
        "digest": encoding.digest(distilled),
    }
    if distilled.columns is not None:
        metadata["columns"] = distilled.columns._asdict()
    text = dumps(metadata)
    return write(path, save(_torch_arrays(distilled), {"ddjax": text}))


def to_csv(path: str | os.PathLike[str], distilled: DistilledSet) -> Path:
    """Writes a regression set as a table in natural units, one row a sample.

    The header has the columns' names (`x0`, `x1`, ..., `y0`, ... where the set has
    none), inputs first. The numbers are the shortest that read back as the same
    float32, or float64 in columns whose offset leaves float32 few digits. One that
    trains on this table has to standardise it as the set was: its own mean and standard
    deviation are not those of the data.

    Args:
      path: the file, replaced in one step.
      distilled: a set whose targets are of kind `regression` and whose inputs are
        features `(m, d)`.

    Raises:
      DistilledSetError: another kind of set, one that is not valid, or the file cannot
        be written.
    """
    path = Path(path)
    with _exporting(path):
        check(distilled)
        targets = natural_regression_targets(distilled)
    inputs = natural_inputs(distilled)
    if inputs.ndim != 2:
        raise DistilledSetError(
            f"{path}: cannot be exported: inputs of shape {inputs.shape[1:]} are no "
            "columns of a table"
        )
    columns, text = distilled.columns, io.StringIO()
    names = (
        [f"x{i}" for i in range(inputs.shape[1])]
        + [f"y{i}" for i in range(targets.shape[1])]
        if columns is None
        else [*columns.inputs, *columns.targets]
    )
    table = csv.writer(text, lineterminator="\n")
    table.writerow(names)
    cells = [
        *_numbers(inputs, distilled.preprocessing),
        *_numbers(targets, distilled.targets_preprocessing or preprocess.identity()),
    ]
    table.writerows(zip(*cells, strict=True))
    return write(path, text.getvalue().encode())


@contextlib.contextmanager
def _exporting(path: Path) -> Iterator[None]:
    """Says of what is not valid that this file is not written."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        raise DistilledSetError(f"{path}: cannot be exported: {error}") from error


def _numbers(
    values: Float[ndarray, "m d"], behind: Preprocessing
) -> Iterator[list[str]]:
    """The columns as text, in as many digits as they have."""
    wide = _outside_float32(behind)
    for column, is_wide in zip(
        values.T, np.broadcast_to(wide, values.shape[1:]), strict=True
    ):
        dtype = np.float64 if is_wide else np.float32
        yield [str(value) for value in column.astype(dtype)]


def _outside_float32(behind: Preprocessing) -> Bool[ndarray, "..."]:
    """Mask of the columns that keep few digits in float32, as time stamps do."""
    mean, std = np.asarray(behind.mean), np.asarray(behind.std)
    return coarse_columns(mean, std, np.dtype(np.float32))


def write(path: Path, data: bytes) -> Path:
    """Writes an exported file in one step, making its folder.

    Raises:
      DistilledSetError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace_file(path, data)
    except OSError as error:
        raise DistilledSetError(f"{path}: cannot be written: {error}") from error
    return path


def _torch_arrays(distilled: DistilledSet) -> dict[str, ndarray]:
    pairs = decoded(distilled)
    inputs = np.asarray(pairs.inputs)
    preprocessing = distilled.preprocessing
    shape = inputs.shape[1:]
    order = np.arange(int(np.prod(shape)))
    arrays = {
        "inputs": inputs,
        "targets": np.asarray(pairs.targets).reshape(len(inputs), -1),
        "mean": _with_rank(preprocessing.mean, len(shape)),
        "std": _with_rank(preprocessing.std, len(shape)),
    }
    if len(shape) == 3:
        arrays["inputs"] = inputs.transpose(0, 3, 1, 2)
        for name in ("mean", "std"):
            arrays[name] = arrays[name].transpose(2, 0, 1)
        # Flattening channels first visits the same coordinates in another order.
        order = order.reshape(shape).transpose(2, 0, 1).reshape(-1)
    if distilled.targets_preprocessing is not None:
        arrays["targets_mean"] = np.asarray(distilled.targets_preprocessing.mean)
        arrays["targets_std"] = np.asarray(distilled.targets_preprocessing.std)
    for name in ("whiten", "unwhiten"):
        matrix = getattr(preprocessing, name)
        if matrix is not None:
            arrays[name] = np.asarray(matrix)[np.ix_(order, order)]
    wide = set()
    if _outside_float32(preprocessing).any():
        wide |= {"mean", "std"}
    of_targets = distilled.targets_preprocessing
    if of_targets is not None and _outside_float32(of_targets).any():
        wide |= {"targets_mean", "targets_std"}
    result: dict[str, ndarray] = {}
    for name, array in arrays.items():
        dtype = np.float64 if name in wide else np.float32
        result[name] = np.asarray(array, dtype, order="C")
    if distilled.labels is not None:
        result["labels"] = np.asarray(distilled.labels, np.int64)
    return result


def _with_rank(array, rank: int) -> ndarray:
    array = np.asarray(array)
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
