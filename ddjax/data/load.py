"""From a data set's name, or the user's arrays, to a `Problem`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ddjax.data import arrays
from ddjax.data.assemble import assemble
from ddjax.data.columns import Columns
from ddjax.data.options import (
    DEVICE_BUDGET,
    Options,
    check_image_size,
    check_options,
)
from ddjax.data.problem import Problem
from ddjax.data.registry import Request, read_source
from ddjax.storage.places import data_directory

__all__ = ["from_arrays", "load"]


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
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    broken: str = "refuse",
    task: str | None = None,
    table: Mapping[str, Any] | None = None,
    on_device: bool | str = "auto",
    device_budget: int = DEVICE_BUDGET,
    scratch: str | os.PathLike | None = None,
    standardize_targets: bool = True,
) -> Problem:
    """Loads a data set by name, splits it and preprocesses it.

    Nothing is downloaded, nothing is unpickled, and no file of the data is changed.

    Args:
      name: what to load. `digits`: scikit-learn's, always there. `mnist`,
        `fashion_mnist`: the idx files in `directory/mnist` and so on. `cifar10`,
        `cifar100` (fine labels): the binary versions, unpacked in `directory/cifar10`
        and so on. `imagenette`, `cub50` (the first 50 classes of CUB-200-2011): the
        image folders in `directory/imagenette` and so on, at 128 x 128 unless
        `image_size` says otherwise. `folder`: the images in `directory`, a subfolder
        per class, or none for data without labels; `folder:NAME`: those in
        `directory/NAME`. `npz:FILE`: the arrays of
        `directory/FILE`. `tfds:NAME`: a prepared data set of TensorFlow Datasets,
        `directory` being its data directory (default: that of TFDS). For regression:
        `table:FILE`: the CSV or Parquet file `directory/FILE`; `diabetes`:
        scikit-learn's, always there; `california_housing`, `diamonds`: the CSV files in
        `directory/tabular`; `linear` or `linear:SEED`: 800 synthetic rows of a linear
        model with noise.
      directory: the data directory. Default: the environment's `DDJAX_DATA_DIR`, then
        `./local_data`.
      classes: which classes to keep, by label or name; they become 0, 1, ... in the
        order given. Default: all.
      validation: the part of the training data held out for validation, in (0, 1),
        stratified by class. Where the data come with a validation split beside a test
        split, that one is used.
      seed: of the draws, validation and `limit`. A test split that is cut because
        there is no official one (a fifth, stratified) does not depend on it.
      preprocessing: `none`, `standardize`, `zca` or `zca_uncentred`; see
        `preprocess.fit`. Fitted to the training split alone.
      zca_ridge: see `preprocess.fit`.
      limit: the most training samples (validation included) and the most test samples
        to use, drawn in the classes' proportions. Default: all.
      image_size: for image folders and `tfds`: a side or (height, width) that images
        are cropped (about the centre, to its aspect) and resized to.
      channels: for image folders: 1 (grey) or 3 (colour, the default).
      broken: for image folders: `refuse` images that cannot be decoded, with one error
        that names them, or `skip` them, with a warning and a count in `Problem.source`.
      task: for `npz`: `classification` or `regression`; see `from_arrays`.
      table: for tables: keywords of `tabular.read`, such as
        `{"target": "price", "units": {"price": "EUR"}}`.
      on_device: whether the splits are arrays on JAX's default device (True) or host
        arrays (False); `auto`: on the device up to `device_budget`; `files`: inputs
        stay in their files (image folders, TFDS in ArrayRecord) and are read whenever
        rows are asked for (`stored.StoredInputs`), so that memory does not depend on
        their number; without preprocessing. The fingerprint is then of the files'
        names, sizes and times of change, not of what they hold.
      device_budget: bytes (all splits, as floats), for `on_device="auto"`.
      scratch: a folder for memory-mapped host arrays, for data larger than memory; the
        caller removes what is written there. Default: arrays in memory.
      standardize_targets: whether regression targets are brought to mean 0 and standard
        deviation 1 (each, over the training split); `Problem.targets_preprocessing`
        brings predictions back to natural units.

    Returns:
      The problem; inputs and targets are in preprocessed units and of jax's default
      float, which is float32, and float64 under `jax_enable_x64`. Natural units are
      pixels in [0, 1] for images of integer pixels, and those of the file for the rest.

    Raises:
      DataError: data that cannot be used, naming the file and the problem, or an
        argument that makes no sense for them.
      MissingDataError: no files, with where to get them and where to put them.
    """
    options = _options(locals())
    request = Request(
        directory=data_directory(directory),
        explicit=directory is not None,
        image_size=check_image_size(image_size),
        channels=channels,
        table=table,
        broken=broken,
        task=task,
    )
    source = read_source(name, request)
    return assemble(name, source, options)


def from_arrays(
    train: Sequence[Any],
    test: Sequence[Any] | None = None,
    *,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
    columns: Columns | None = None,
    task: str | None = None,
    classes: Sequence[int | str] | None = None,
    validation: float | Sequence[Any] = 0.1,
    seed: int = 0,
    preprocessing: str = "standardize",
    zca_ridge: float = 0.1,
    limit: int | None = None,
    on_device: bool | str = "auto",
    device_budget: int = DEVICE_BUDGET,
    scratch: str | os.PathLike | None = None,
    standardize_targets: bool = True,
) -> Problem:
    """Makes a problem of the user's own arrays; see `arrays.read` for what they may be.

    Example:
      >>> import numpy as np
      >>> from ddjax import data
      >>> images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
      >>> problem = data.from_arrays((images, np.arange(60) % 3))
      >>> problem.train.inputs.shape, problem.class_names
      ((43, 8, 8, 1), ('0', '1', '2'))

    Args:
      train: inputs `(n, h, w, c)`, `(n, h, w)` or `(n, d)`, and what is known about
        them: integers or strings `(n,)` are labels, floats `(n,)` or `(n, c)` are
        targets, None is nothing; or a triple of inputs, labels and targets. Floats that
        could be classes, such as 0.0 and 1.0, need `task`.
      test: the same; None: a fixed fifth of `train`.
      name: the problem's name.
      class_names: one name per label.
      columns: names and units of features and targets.
      task: `classification` or `regression`: what the second of a pair is, whatever its
        type. Default: read off its type.
      classes: as for `load`, as all that follows.
      validation: or validation data in the form of `train`.
      seed: of the draws.
      preprocessing: of the inputs.
      zca_ridge: of ZCA.
      limit: the most samples.
      on_device: where the splits lie.
      device_budget: bytes.
      scratch: a folder.
      standardize_targets: of regression.

    Raises:
      DataError: arrays that do not fit together, or an argument that makes no sense.
    """
    keywords, given = dict(locals()), None
    if isinstance(validation, (tuple, list)):
        given, keywords["validation"] = validation, 0.5
    options = _options(keywords)
    source = arrays.read(
        train,
        test,
        given,
        class_names=class_names,
        columns=columns,
        task=task,
        where=name,
    )
    return assemble(name, source, options)


def _options(keywords: Mapping[str, Any]) -> Options:
    """Those of the keywords that say how a source becomes a problem, checked."""
    return check_options(Options(**{key: keywords[key] for key in Options._fields}))
