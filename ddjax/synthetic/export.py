"""Distilled sets for other programs: NumPy archives and PyTorch-ready tensors."""

import csv
import io
import os
from pathlib import Path

import numpy as np
from numpy import ndarray

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
from ddjax.synthetic.json_text import dumps

__all__ = [
    "PYTORCH_SNIPPET",
    "to_csv",
    "to_npz",
    "to_torch_safetensors",
    "write",
]

PYTORCH_SNIPPET = """\
import torch
from safetensors.torch import load_file

distilled = load_file("distilled.safetensors")
train = torch.utils.data.TensorDataset(distilled["inputs"], distilled["targets"])
test_images = (test_images - distilled["mean"]) / distilled["std"]
"""
"""What a PyTorch user needs to read `to_torch_safetensors`.

`test_images` are float images `(n, c, h, w)` in natural units (pixels in [0, 1]). After
ZCA preprocessing one line follows:
`test_images = (test_images.flatten(1) @ distilled["whiten"]).view_as(test_images)`.
"""


def to_npz(path: str | os.PathLike[str], distilled: DistilledSet) -> Path:
    """Writes a NumPy archive that `numpy.load` reads without pickle.

    It holds `inputs` (preprocessed, channels last), `natural_inputs` (in the data's own
    units, not clipped), `targets`, `targets_kind`, `mean`, `std`, and where the set has
    them `labels`, `whiten`, `unwhiten` and `class_names`; of a regression set also
    `natural_targets`, and where it has them `targets_mean`, `targets_std`,
    `input_names` and `target_names`; `description` is the JSON that `files.save`
    writes (provenance, certificate, digest).

    Args:
      path: the file, replaced in one step.
      distilled: the set.

    Returns:
      The path.

    Raises:
      DistilledSetError: the set is not valid, or the file cannot be written.
    """
    path = Path(path)
    try:
        document, _ = encoding.encode(distilled)
    except (ValueError, RecursionError) as error:
        raise DistilledSetError(f"{path}: cannot be exported: {error}") from error
    pairs = decoded(distilled)
    content = {
        "inputs": pairs.inputs,
        "natural_inputs": natural_inputs(distilled),
        "targets": pairs.targets,
        "targets_kind": distilled.targets_kind,
        "labels": distilled.labels,
        "class_names": distilled.class_names,
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
    float32; `labels` int64; `mean` and `std` float32, shaped to broadcast to one input,
    so that natural inputs become `(x - mean) / std`; after ZCA `whiten` and `unwhiten`
    act from the right on inputs flattened channels first. Predictions of a regression
    set become natural by `predictions * targets_std + targets_mean`. The metadata
    hold, under `ddjax`, a JSON object with `targets_kind`, `class_names`, the `digest`
    of the set and, where it has them, `columns`.

    Args:
      path: the file, replaced in one step.
      distilled: the set.

    Returns:
      The path.

    Raises:
      DistilledSetError: the set is not valid, or the file cannot be written.
    """
    from safetensors.numpy import save

    path = Path(path)
    try:
        check(distilled)
    except ValueError as error:
        raise DistilledSetError(f"{path}: cannot be exported: {error}") from error
    # One key, because several are written in no fixed order.
    metadata = {
        "targets_kind": distilled.targets_kind,
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
    float32. One that trains on this table has to standardise it as the set was: its
    own mean and standard deviation are not those of the data.

    Args:
      path: the file, replaced in one step.
      distilled: a set whose targets are of kind `regression` and whose inputs are
        features `(m, d)`.

    Returns:
      The path.

    Raises:
      DistilledSetError: another kind of set, one that is not valid, or the file cannot
        be written.
    """
    path = Path(path)
    try:
        check(distilled)
        targets = np.asarray(natural_regression_targets(distilled), np.float32)
    except ValueError as error:
        raise DistilledSetError(f"{path}: cannot be exported: {error}") from error
    inputs = np.asarray(natural_inputs(distilled), np.float32)
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
    for row in np.concatenate([inputs, targets], axis=1):
        table.writerow([str(value) for value in row])
    return write(path, text.getvalue().encode())


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
        "targets": np.asarray(pairs.targets),
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
    result: dict[str, ndarray] = {
        name: np.asarray(array, np.float32, order="C") for name, array in arrays.items()
    }
    if distilled.labels is not None:
        result["labels"] = np.asarray(distilled.labels, np.int64)
    return result


def _with_rank(array, rank: int) -> ndarray:
    array = np.asarray(array)
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
