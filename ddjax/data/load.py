"""From a data set's name, or the user's arrays, to a `Problem`."""

import difflib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ddjax.data import arrays, cifar, digits, idx, preprocess, splits
from ddjax.data.errors import DataError
from ddjax.data.problem import Problem, Split
from ddjax.data.source import Rows, Source

__all__ = ["DEVICE_BUDGET", "SOURCES", "TEST_FRACTION", "from_arrays", "load"]

# Data sets up to this many bytes (float32, all splits) are put on device by default.
DEVICE_BUDGET = 4 * 2**30

# Where there is no official test data, this part of the data is the test data, and
# which part does not depend on the seed: changing it must not reveal test samples.
TEST_FRACTION = 0.2
_TEST_SEED = 0

# Purposes of the draws that share a seed.
_CUT_TEST, _CUT_VALIDATION, _LIMIT_TRAIN, _LIMIT_VALIDATION, _LIMIT_TEST = range(5)


class Request(NamedTuple):
    """What `load` passes to a source.

    Attributes:
      directory: the data directory.
      explicit: whether the caller gave it.
      argument: what followed the colon in the name, or None.
      image_size: height and width that images are brought to, or None.
      channels: 1 (grey) or 3 (colour), where the source can choose.
    """

    directory: Path
    explicit: bool
    argument: str | None
    image_size: tuple[int, int] | None
    channels: int


class _Options(NamedTuple):
    classes: Sequence[int | str] | None
    validation: float
    seed: int
    preprocessing: str
    zca_ridge: float
    limit: int | None
    on_device: bool | str
    device_budget: int
    scratch: str | os.PathLike | None


class _Part(NamedTuple):
    """Chosen rows of a part, and their targets."""

    rows: Rows
    indices: np.ndarray
    targets: np.ndarray | None

    def at(self, chosen: np.ndarray) -> "_Part":
        targets = None if self.targets is None else self.targets[chosen]
        return _Part(self.rows, self.indices[chosen], targets)


def _named_folder(request: Request, name: str) -> Path:
    """`DIR/name`, or `DIR` where that is the folder itself."""
    folder = request.directory / name
    if not folder.is_dir() and request.directory.name == name:
        return request.directory
    return folder


SOURCES: dict[str, Callable[[Request], Source]] = {
    "digits": lambda request: digits.read(),
    "mnist": lambda request: idx.read_mnist(_named_folder(request, "mnist")),
    "fashion_mnist": lambda request: idx.read_fashion_mnist(
        _named_folder(request, "fashion_mnist")
    ),
    "cifar10": lambda request: cifar.read_cifar10(_named_folder(request, "cifar10")),
    "cifar100": lambda request: cifar.read_cifar100(_named_folder(request, "cifar100")),
}
# Sources that bring images to a size; the others have the one they were made with.
_SIZED: tuple[str, ...] = ()
# Sources whose name is followed by a colon and what they are to read.
_WITH_ARGUMENT: tuple[str, ...] = ()


def load(
    name: str,
    *,
    directory: str | os.PathLike | None = None,
    classes: Sequence[int | str] | None = None,
    validation: float = 0.1,
    seed: int = 0,
    preprocessing: str = "standardize",
    zca_ridge: float = 0.1,
    limit: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    on_device: bool | str = "auto",
    device_budget: int = DEVICE_BUDGET,
    scratch: str | os.PathLike | None = None,
) -> Problem:
    """Loads a data set by name, splits it and preprocesses it.

    Args:
      name: a key of `SOURCES`: `digits` (scikit-learn's, nothing to download), `mnist`,
        `fashion_mnist`, `cifar10`, `cifar100` (fine labels).
      directory: where the files are: `mnist` is looked for in `directory/mnist`, and so
        on. Default: the environment's `DDJAX_DATA_DIR`, then `./local_data`.
      classes: which classes to keep, by label or name; they become 0, 1, ... in the
        order given. Default: all.
      validation: the part of the training data held out for validation, in (0, 1),
        stratified by class. Where the source has validation data, those are used.
      seed: of the draws: validation and `limit`. A test split that is cut because the
        source has none does not depend on it.
      preprocessing: `none`, `standardize` or `zca`; see `preprocess.fit`. Fitted on
        the training split.
      zca_ridge: see `preprocess.fit`.
      limit: the most samples of the training data (validation included) and of the
        test data to use, drawn in the classes' proportions. Default: all.
      image_size: for sources of images of any size: what they are brought to, a side
        or (height, width).
      channels: for sources of images of any kind: 1 (grey) or 3 (colour).
      on_device: whether the splits are JAX arrays on the default device (True) or
        host arrays (False); `auto`: on device up to `device_budget`.
      device_budget: bytes, for `on_device="auto"`.
      scratch: a folder for memory-mapped host arrays, for data larger than memory; the
        caller removes what is written there. Default: arrays in memory.

    Returns:
      The problem; inputs are float32 in preprocessed units.

    Raises:
      DataError: data that cannot be used, or an argument that makes no sense for them.
      MissingDataError: no files, with where to get them.
    """
    options = _Options(
        classes, validation, seed, preprocessing, zca_ridge, limit, on_device,
        device_budget, scratch,
    )  # fmt: skip
    _check_options(options)
    key, _, argument = name.partition(":")
    if key not in SOURCES:
        raise DataError(_unknown_name(name))
    if bool(argument) and key not in _WITH_ARGUMENT:
        raise DataError(f"data set {key!r} takes no argument, got {name!r}")
    if image_size is not None and key not in _SIZED:
        sized = ", ".join(_SIZED)
        raise DataError(f"image_size is only for {sized}; {key!r} has its own size")
    request = Request(
        directory=Path(directory or os.environ.get("DDJAX_DATA_DIR") or "local_data"),
        explicit=directory is not None,
        argument=argument or None,
        image_size=_image_size(image_size),
        channels=channels,
    )
    return _assemble(name, SOURCES[key](request), options)


def from_arrays(
    train: tuple[Any, Any],
    test: tuple[Any, Any] | None = None,
    *,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
    classes: Sequence[int | str] | None = None,
    validation: float | tuple[Any, Any] = 0.1,
    seed: int = 0,
    preprocessing: str = "standardize",
    zca_ridge: float = 0.1,
    limit: int | None = None,
    on_device: bool | str = "auto",
    device_budget: int = DEVICE_BUDGET,
    scratch: str | os.PathLike | None = None,
) -> Problem:
    """Makes a problem of the user's own arrays; see `arrays.read` for what they may be.

    Example:
      >>> import numpy as np
      >>> from ddjax import data
      >>> images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
      >>> problem = data.from_arrays((images, np.arange(60) % 3))
      >>> problem.train.inputs.shape, problem.class_names
      ((44, 8, 8, 1), ('0', '1', '2'))

    Args:
      train: inputs `(n, h, w, c)`, `(n, h, w)` or `(n, d)`, and targets: integers or
        strings `(n,)` for classes, floats `(n,)` or `(n, c)` for regression, or None.
      test: the same; None: a fixed fifth of `train`.
      name: the problem's name.
      class_names: one name per label.
      classes: as for `load`.
      validation: as for `load`, or a pair of inputs and targets.
      seed: as for `load`.
      preprocessing: as for `load`.
      zca_ridge: as for `load`.
      limit: as for `load`.
      on_device: as for `load`.
      device_budget: as for `load`.
      scratch: as for `load`.

    Returns:
      The problem.

    Raises:
      DataError: arrays that do not fit together, or a senseless argument.
    """
    pair = None if isinstance(validation, (int, float)) else validation
    options = _Options(
        classes, 0.1 if pair is not None else validation, seed, preprocessing,
        zca_ridge, limit, on_device, device_budget, scratch,
    )  # fmt: skip
    _check_options(options)
    source = arrays.read(train, test, pair, class_names=class_names, where=name)
    return _assemble(name, source, options)


def _assemble(name: str, source: Source, options: _Options) -> Problem:
    parts, class_names, cut = _split(source, options)
    digest = hashlib.sha256(json.dumps(class_names).encode())
    inputs = {part: _allocate(parts[part], part, options) for part in parts}
    fill = {
        part: _fill(parts[part], inputs[part], source.unit, digest) for part in parts
    }
    # The order of reading is part of the fingerprint.
    fitted, report = preprocess.fit_and_report(
        fill["train"], kind=options.preprocessing, zca_ridge=options.zca_ridge
    )
    for part in ("validation", "test"):
        for _ in fill[part]:
            pass
    for array in inputs.values():
        for block in preprocess.blocks(array):
            block[...] = preprocess.apply(fitted, block)
    split = _place(inputs, parts, options)
    return Problem(
        name=name,
        **split,
        preprocessing=fitted,
        class_names=class_names,
        fingerprint=digest.hexdigest(),
        source={
            **source.origin,
            **cut,
            "seed": options.seed,
            "limit": options.limit,
            "unit": source.unit,
            "counts": {part: len(array) for part, array in inputs.items()},
            "preprocessing": report,
        },
    )


def _split(
    source: Source, options: _Options
) -> tuple[dict[str, _Part], tuple[str, ...] | None, dict[str, Any]]:
    """Train, validation and test parts with their final labels, and how it was done."""
    names = source.class_names
    given = {
        "train": source.train,
        "validation": source.validation,
        "test": source.test,
    }
    parts = {}
    for part, rows in given.items():
        if rows is not None:
            _check_rows(rows, names)
            parts[part] = _Part(rows, np.arange(rows.count), rows.targets)
    cut: dict[str, Any] = {"test": "official", "validation": "official"}
    if "test" not in parts:
        cut["test"] = f"{TEST_FRACTION} of the training data, fixed"
        parts["train"], parts["test"] = _hold_out(
            parts["train"], TEST_FRACTION, names, _TEST_SEED, _CUT_TEST
        )
    if options.classes is not None:
        labels, names = _chosen_classes(options.classes, names, source.train.where)
        cut["classes"] = labels
        parts = {key: _relabel(part, labels) for key, part in parts.items()}
    if options.limit is not None:
        parts = {key: _limited(parts, key, names, options) for key in parts}
    if "validation" not in parts:
        cut["validation"] = f"{options.validation} of the training data"
        parts["train"], parts["validation"] = _hold_out(
            parts["train"], options.validation, names, options.seed, _CUT_VALIDATION
        )
    order = ("train", "validation", "test")
    return {part: parts[part] for part in order}, names, cut


def _check_rows(rows: Rows, class_names: tuple[str, ...] | None) -> None:
    if rows.count == 0:
        raise DataError(f"{rows.where}: empty: no samples")
    if class_names is None:
        return
    if len(class_names) < 2:
        raise DataError(
            f"{rows.where}: a single class, {class_names}; at least 2 are needed"
        )
    sizes = np.bincount(rows.targets, minlength=len(class_names))
    if np.count_nonzero(sizes) == 1:
        only = class_names[int(np.argmax(sizes))]
        raise DataError(f"{rows.where}: a single class: every label is {only!r}")
    if (sizes == 0).any():
        absent = [class_names[i] for i in np.flatnonzero(sizes == 0)]
        raise DataError(f"{rows.where}: no sample of class {absent[0]!r}")


def _hold_out(part: _Part, fraction, names, seed, purpose) -> tuple[_Part, _Part]:
    kept, held = splits.hold_out(
        part.targets if names else None, len(part.indices), fraction,
        seed=seed, purpose=purpose, where=part.rows.where, class_names=names,
    )  # fmt: skip
    return part.at(kept), part.at(held)


def _limited(parts: dict[str, _Part], key: str, names, options: _Options) -> _Part:
    part = parts[key]
    purposes = (_LIMIT_TRAIN, _LIMIT_VALIDATION, _LIMIT_TEST)
    # The training data have to give one sample of each class to validation.
    least = 2 if key == "train" and "validation" not in parts else 1
    return part.at(
        splits.keep_at_most(
            part.targets if names else None,
            len(part.indices),
            options.limit or 0,
            least=least,
            seed=options.seed,
            purpose=dict(zip(("train", "validation", "test"), purposes, strict=True))[
                key
            ],
            where=part.rows.where,
            class_names=names,
        )  # fmt: skip
    )


def _chosen_classes(
    classes: Sequence[int | str], names: tuple[str, ...] | None, where: str
) -> tuple[list[int], tuple[str, ...]]:
    if names is None:
        raise DataError(f"classes={classes!r}, but {where} has no classes")
    labels = []
    for item in classes:
        if isinstance(item, str) and item in names:
            labels.append(names.index(item))
        elif isinstance(item, (int, np.integer)) and 0 <= item < len(names):
            labels.append(int(item))
        else:
            shown = ", ".join(f"{i} ({name})" for i, name in enumerate(names[:20]))
            more = f", ... {len(names) - 1}" if len(names) > 20 else ""
            raise DataError(f"no class {item!r} in {where}; it has {shown}{more}")
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise DataError(f"classes={classes!r}; give at least two different classes")
    return labels, tuple(names[label] for label in labels)


def _relabel(part: _Part, labels: list[int]) -> _Part:
    if part.targets is None:
        raise DataError(f"{part.rows.where}: classes given, but there are no labels")
    chosen = np.flatnonzero(np.isin(part.targets, labels))
    new = np.full(int(part.targets.max()) + 1, -1)
    for position, label in enumerate(labels):
        if label < len(new):
            new[label] = position
    kept = part.at(chosen)
    return kept._replace(targets=new[part.targets[chosen]])


def _allocate(part: _Part, key: str, options: _Options) -> np.ndarray:
    """A float32 array for a part's inputs, in memory or in a file under `scratch`."""
    shape = (len(part.indices), *part.rows.read(part.indices[:1]).shape[1:])
    if options.scratch is None:
        return np.empty(shape, np.float32)
    Path(options.scratch).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="ddjax-", dir=options.scratch))
    return np.lib.format.open_memmap(folder / f"{key}.npy", "w+", np.float32, shape)


def _fill(part: _Part, out: np.ndarray, unit: float, digest: Any) -> Iterator[Any]:
    """Reads natural inputs into `out`, feeds the digest, and yields every block."""
    digest.update(json.dumps([list(out.shape), unit]).encode())
    digest.update(part.indices.astype("<i8").tobytes())
    if part.targets is not None:
        digest.update(part.targets.astype("<f8").tobytes())
    rows = preprocess.rows_per_block(out.shape[1:])
    for start in range(0, len(out), rows):
        indices = part.indices[start : start + rows]
        raw = np.ascontiguousarray(part.rows.read(indices))
        digest.update(raw.dtype.str.encode())
        digest.update(raw)
        block = out[start : start + rows]
        with np.errstate(over="ignore"):
            block[...] = raw
        if unit != 1:
            block /= np.float32(unit)
        finite = np.isfinite(block.reshape(len(block), -1)).all(axis=1)
        if not finite.all():
            row = int(indices[np.argmin(finite)])
            raise DataError(
                f"{part.rows.where}: sample {row} has NaN or infinite values (in "
                "float32)"
            )
        yield block


def _place(
    inputs: dict[str, np.ndarray], parts: dict[str, _Part], options: _Options
) -> dict[str, Split]:
    on_device = options.on_device
    if on_device == "auto":
        on_device = sum(a.nbytes for a in inputs.values()) <= options.device_budget
    put = jnp.asarray if on_device else np.asarray
    split = {}
    for part, array in inputs.items():
        targets = parts[part].targets
        if targets is not None:
            targets = targets.astype(np.float32 if targets.ndim == 2 else np.int32)
        split[part] = Split(
            put(array) if on_device else array,
            None if targets is None else put(targets),
        )
    return split


def _check_options(options: _Options) -> None:
    if not isinstance(options.validation, (int, float)) or not (
        0 < options.validation < 1
    ):
        raise DataError(
            f"validation={options.validation!r}; it is the part of the training data "
            "held out, a number in (0, 1)"
        )
    if isinstance(options.classes, str):
        raise DataError(f"classes={options.classes!r}; give a sequence, not a string")
    if options.limit is not None and (
        not isinstance(options.limit, (int, np.integer)) or options.limit < 1
    ):
        raise DataError(f"limit={options.limit!r}; it is a positive integer or None")
    if not isinstance(options.seed, (int, np.integer)) or options.seed < 0:
        raise DataError(f"seed={options.seed!r}; it is an integer >= 0")
    if options.preprocessing not in preprocess.KINDS:
        known = ", ".join(preprocess.KINDS)
        raise DataError(
            f"unknown preprocessing {options.preprocessing!r}; known: {known}"
        )
    if options.on_device not in (True, False, "auto"):
        raise DataError(f"on_device={options.on_device!r}; it is True, False or 'auto'")


def _image_size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    size = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(size) != 2 or not all(isinstance(s, (int, np.integer)) for s in size):
        raise DataError(f"image_size={value!r}; it is a side or (height, width)")
    if min(size) < 1:
        raise DataError(f"image_size={value!r}; sides are at least 1")
    return int(size[0]), int(size[1])


def _unknown_name(name: str) -> str:
    known = ", ".join(sorted(SOURCES))
    if name == "arrays":
        return "arrays from memory go through from_arrays(train=(inputs, targets))"
    close = difflib.get_close_matches(name.lower().replace("-", "_"), SOURCES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown data set {name!r}{hint} Known: {known}"
