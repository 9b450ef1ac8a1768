"""Arrays of an `.npz` file."""

from pathlib import Path

import numpy as np

from ddjax.data import arrays
from ddjax.data.errors import DataError, MissingDataError, one_line
from ddjax.data.source import Source

__all__ = ["read"]

_PAIRS = {
    "train": ("x_train", "y_train"),
    "validation": ("x_validation", "y_validation"),
    "test": ("x_test", "y_test"),
}
_KEYS = (*(key for pair in _PAIRS.values() for key in pair), "class_names")


def read(path: Path, *, task: str | None = None) -> Source:
    """Reads `x_train` and `y_train`, and where they are there, the others.

    Args:
      path: an `.npz` file with `x_train`, and optionally `y_train`, `x_test`, `y_test`,
        `x_validation`, `y_validation` and `class_names`; what they may hold is said at
        `arrays.read`.
      task: as in `arrays.read`.

    Raises:
      DataError: not such a file, or one that holds Python objects.
      MissingDataError: no such file.
    """
    content = _read_arrays(path)
    if "x_train" not in content:
        raise DataError(f"{path}: no array 'x_train'; it may hold {', '.join(_KEYS)}")
    unknown = sorted(set(content) - set(_KEYS))
    if unknown:
        raise DataError(
            f"{path}: unknown array {unknown[0]!r}; it may hold {', '.join(_KEYS)}"
        )
    pairs = {}
    for part, (inputs, known) in _PAIRS.items():
        if known in content and inputs not in content:
            raise DataError(f"{path}: {known!r} without {inputs!r}")
        if inputs in content:
            pairs[part] = (content[inputs], content.get(known))
    names = content.get("class_names")
    source = arrays.read(
        **pairs,
        class_names=None if names is None else names.tolist(),
        task=task,
        where=str(path),
    )
    return source._replace(origin={"reader": "npz", "file": path.name})


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file")
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise DataError(f"{path}: a single array; an .npz file is expected")
        with file:
            return {key: file[key] for key in file.files}
    except DataError:
        raise
    # A broken archive can make NumPy and zipfile raise nearly anything.
    except Exception as error:
        problem = "not an .npz file, or a broken one"
        if "Object arrays" in str(error):
            problem = "it holds Python objects (pickles), which are never loaded"
        raise DataError(f"{path}: {problem} ({one_line(error)})") from error
