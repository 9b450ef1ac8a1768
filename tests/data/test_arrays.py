import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from ddjax.data import (
    Columns,
    DataError,
    Split,
    arrays,
    from_arrays,
    identity,
    preprocess,
)

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (40, 6, 5, 3), np.uint8)
LABELS = np.arange(40) % 2
FEATURES = GENERATOR.normal(size=(40, 7))
MASKED = np.ma.masked_greater(FEATURES, 1.0)


def natural(problem):
    return preprocess.invert(problem.preprocessing, np.asarray(problem.train.inputs))


def test_bytes_become_pixels_between_0_and_1():
    problem = from_arrays((IMAGES, LABELS))
    assert problem.train.inputs.dtype == jnp.float32
    assert 0 <= natural(problem).min() + 1e-6 and natural(problem).max() <= 1 + 1e-6
    train = arrays.read((IMAGES, LABELS))
    assert train.unit == 255.0
    assert arrays.read((IMAGES.astype(np.uint16), LABELS)).unit == 65535.0


def test_floats_and_features_are_taken_as_they_are():
    assert arrays.read((IMAGES.astype(np.float32), LABELS)).unit == 1.0
    assert arrays.read((FEATURES, LABELS)).unit == 1.0
    assert arrays.read((np.arange(80, dtype=np.uint8).reshape(40, 2), LABELS)).unit == 1
    assert arrays.read((IMAGES > 100, LABELS)).unit == 1.0


def test_images_without_a_channel_axis_get_one():
    assert from_arrays((IMAGES[..., 0], LABELS)).train.inputs.shape[1:] == (6, 5, 1)


def test_parts_given_are_used_as_given():
    problem = from_arrays(
        (IMAGES, LABELS),
        (IMAGES[:10], LABELS[:10]),
        validation=(IMAGES[:6], LABELS[:6]),
    )
    sizes = [len(s.inputs) for s in (problem.train, problem.validation, problem.test)]
    assert sizes == [40, 6, 10]
    assert problem.source["validation"] == problem.source["test"] == "official"


@pytest.mark.parametrize(
    "labels, names",
    [
        (LABELS, ("0", "1")),
        (LABELS * 2 - 1, ("-1", "1")),
        (LABELS.astype(np.uint8)[:, None], ("0", "1")),
        (LABELS.astype(bool), ("False", "True")),
        (np.where(LABELS, "dog", "cat"), ("cat", "dog")),
        (["dog" if y else "cat" for y in LABELS], ("cat", "dog")),
        (np.array(["cat", "dog"], object)[LABELS], ("cat", "dog")),
        (np.array(["kätzchen".encode(), b"z"])[LABELS], ("kätzchen", "z")),
        (np.ma.masked_array(LABELS), ("0", "1")),
    ],
)
def test_labels_become_integers_from_0(labels, names):
    source = arrays.read((IMAGES, labels))
    assert source.class_names == names
    assert np.array_equal(source.train.labels, LABELS)
    assert source.train.targets is None


def test_the_task_says_what_numbers_are():
    floats = LABELS.astype(float)
    classes = arrays.read((FEATURES, floats), task="classification")
    assert classes.class_names == ("0", "1") and classes.train.targets is None
    assert np.array_equal(classes.train.labels, LABELS)
    for numbers in (floats, LABELS, LABELS.astype(bool)):
        source = arrays.read((FEATURES, numbers), task="regression")
        assert source.class_names is None and source.train.labels is None
        np.testing.assert_array_equal(source.train.targets[:, 0], LABELS)
    # Other parts are what the training data are.
    some = np.where(LABELS, 1.5, 0.0)
    source = arrays.read((FEATURES, some), (FEATURES[::2], some[::2]))
    assert source.test.targets.shape == (20, 1)


@pytest.mark.parametrize("value", [None, FEATURES, {"x": FEATURES}, (FEATURES,)])
def test_what_is_no_pair_is_refused(value):
    with pytest.raises(DataError, match="train is a .*; it must be a pair") as caught:
        arrays._arrays(value, None, "train", refuse_ambiguous=True)
    assert "\n" not in str(caught.value)


def test_class_names_order_the_labels():
    text = np.where(LABELS, "dog", "cat")
    source = arrays.read((IMAGES, text), class_names=("dog", "cat"))
    assert np.array_equal(source.train.labels, 1 - LABELS)
    for given in (("a", "b"), [b"a", b"b"]):
        assert arrays.read((IMAGES, LABELS), class_names=given).class_names == (
            ("a", "b")
        )


def test_jax_arrays_and_memory_maps(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    from_memory = from_arrays((jnp.asarray(IMAGES), jnp.asarray(LABELS)))
    assert from_arrays((mapped, LABELS)).fingerprint == from_memory.fingerprint


@pytest.mark.parametrize("width", [None, 1, 3])
def test_float_targets_are_regression(width):
    shape = (40,) if width is None else (40, width)
    targets = GENERATOR.normal(size=shape)
    problem = from_arrays((FEATURES, targets))
    assert problem.class_names is None and problem.classes == 0
    assert problem.train.targets.shape == (len(problem.train.inputs), width or 1)
    assert problem.train.targets.dtype == jnp.float32 and problem.train.labels is None
    assert [len(s.inputs) for s in (problem.train, problem.validation)] == [29, 3]


def test_regression_targets_are_standardised_on_the_training_split():
    targets = 1e6 + 100.0 * GENERATOR.normal(size=(40, 2)) * [1.0, 5.0]
    problem = from_arrays((FEATURES, targets))
    train = np.asarray(problem.train.targets)
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(train.std(axis=0), 1, rtol=1e-6)
    assert problem.source["targets_preprocessing"]["kind"] == "standardize"
    parts = [
        preprocess.invert(
            problem.targets_preprocessing, np.asarray(s.targets, np.float64)
        )
        for s in (problem.train, problem.validation, problem.test)
    ]
    found = np.sort(np.concatenate(parts), axis=0)
    np.testing.assert_allclose(found, np.sort(targets, axis=0), rtol=1e-9)


def test_regression_targets_may_stay_natural():
    targets = GENERATOR.normal(size=40)
    problem = from_arrays((FEATURES, targets), standardize_targets=False)
    assert problem.targets_preprocessing.kind == "none"
    assert set(np.asarray(problem.train.targets)[:, 0]) <= set(
        targets.astype(np.float32)
    )


def test_classes_have_no_targets_preprocessing():
    problem = from_arrays((FEATURES, LABELS))
    assert problem.targets_preprocessing is None and problem.columns is None
    assert problem.train.targets is None and problem.train.labels.dtype == jnp.int32
    assert "targets_preprocessing" not in problem.source


@pytest.mark.parametrize("inputs", [FEATURES, IMAGES])
@pytest.mark.parametrize("kind", preprocess.KINDS)
def test_data_without_labels(inputs, kind):
    problem = from_arrays((inputs, None), limit=20, preprocessing=kind)
    for split in (problem.train, problem.validation, problem.test):
        assert split.labels is None and split.targets is None
    assert len(problem.train.inputs) == 18 and problem.class_names is None
    assert problem.targets_preprocessing is None and problem.classes == 0
    given = from_arrays((inputs, None), (inputs[:9], None), validation=(inputs, None))
    assert len(given.train.inputs) == 40 and len(given.test.inputs) == 9
    assert identity(problem) != identity(given)


def test_labels_and_targets_side_by_side():
    values = 3.0 + 2.0 * GENERATOR.normal(size=(40, 5))
    triple = Split(IMAGES, np.where(LABELS, "dog", "cat"), values)
    problem = from_arrays(triple, classes=("dog", "cat"))
    both = [
        from_arrays((IMAGES, known))
        for known in (np.where(LABELS, "dog", "cat"), values)
    ]
    assert problem.class_names == ("dog", "cat")
    assert problem.train.labels.dtype == jnp.int32
    back = preprocess.invert(
        problem.targets_preprocessing, np.asarray(problem.train.targets, np.float64)
    )
    place = [int(np.argmin(np.abs(values - row).sum(axis=1))) for row in back]
    np.testing.assert_allclose(back, values[place], rtol=1e-5)
    np.testing.assert_array_equal(problem.train.labels, 1 - LABELS[place])
    assert len({problem.fingerprint, *(each.fingerprint for each in both)}) == 3
    whole_numbers = from_arrays((IMAGES, None, LABELS), standardize_targets=False)
    assert whole_numbers.train.labels is None
    assert set(np.asarray(whole_numbers.train.targets)[:, 0].tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("kind", preprocess.KINDS)
@pytest.mark.parametrize("raw", [np.float64, np.float32, np.uint8])
def test_under_x64_data_are_float64(kind, raw, tmp_path):
    images = IMAGES.astype(raw)
    values = 1e3 + GENERATOR.normal(size=(40, 2))
    with jax.enable_x64(True):
        for place in (True, False):
            problem = from_arrays(
                (images, LABELS, values),
                preprocessing=kind,
                on_device=place,
                scratch=None if place else tmp_path,
            )
            for split in problem[1:4]:
                assert split.inputs.dtype == split.targets.dtype == np.float64
                assert split.labels.dtype == np.int32
            natural = preprocess.invert(
                problem.preprocessing, np.asarray(problem.train.inputs)
            )
            expected = IMAGES / 255 if raw == np.uint8 else IMAGES.astype(np.float64)
            distances = np.abs(natural[:, None] - expected[None]).max(axis=(2, 3, 4))
            assert distances.min(axis=1).max() < 1e-12 * expected.max()


@pytest.mark.parametrize("kind", ["none", "standardize", "zca", "zca_uncentred"])
def test_float64_is_rounded_behind_the_preprocessing(kind):
    # In front of it, float32 would keep three digits of what varies.
    varying = GENERATOR.normal(size=(40, 7))
    inputs = varying if kind in ("none", "zca_uncentred") else 1e4 + varying
    problem = from_arrays((inputs, 1e4 + varying[:, :2]), preprocessing=kind)
    with jax.enable_x64(True):
        exact = from_arrays((inputs, 1e4 + varying[:, :2]), preprocessing=kind)
    assert problem.fingerprint == exact.fingerprint
    assert identity(problem) != identity(exact)
    for one, other in zip(problem[1:4], exact[1:4], strict=True):
        assert one.inputs.dtype == one.targets.dtype == np.float32
        assert other.inputs.dtype == other.targets.dtype == np.float64
        np.testing.assert_array_equal(one.inputs, np.float32(other.inputs))
        np.testing.assert_array_equal(one.targets, np.float32(other.targets))


# What is refused: the message, and the inputs, labels or options that it is about.
INPUTS = {
    "expected real numbers": np.array(["x"] * 40),
    r"shape \(40,\); expected images": np.zeros(40),
    "empty": np.zeros((40, 0)),
    "dtype int64": IMAGES.astype(int),
    "channels go last": np.zeros((40, 3, 9, 9)),
    "train inputs: sample 39, feature 1 is 'x'": np.array(
        [[1.0, 2.0]] * 39 + [[3.0, "x"]], object
    ),
    "train inputs: None; an array": None,
    "train inputs: no array: .*inhom": [[1, 2], [3]],
    "toarray": sparse.csr_matrix(FEATURES),
    "train inputs: a masked array": MASKED,
    "a masked array": list(MASKED),
    "train: sample 7 has NaN or infinite": np.where(
        np.arange(40)[:, None] == 7, np.nan, FEATURES
    ),
    "infinite values": FEATURES * 1e60,
}
LABELS_OF_IMAGES = {
    r"\(39,\) for 40 inputs": LABELS[:39],
    "argmax": np.eye(2, dtype=int)[LABELS],
    r"\(40, 2\)": np.ones((40, 2), int),
    r"sample 1 is None \(dtype object\)": np.array(["a", None] * 20),
    "not UTF-8": np.array([b"a", b"\xff"])[LABELS],
    "sample 1 has the label ''": np.array(["a", ""])[LABELS],
    "single class": LABELS * 0,
    "class '2' has 1 sample": np.where(np.arange(40) == 3, 2, LABELS),
}
LABELS_OF_FEATURES = {
    "train labels or targets: a masked array": np.ma.masked_equal(LABELS, 1),
    r"few whole numbers \(0, 1\).*task='classification' or task='regression'": (
        LABELS.astype(float)
    ),
    r"argmax\(axis=1\) for classes, or task='regression'": np.eye(2)[LABELS],
    "40 classes in 40 samples; .*task='regression'": np.arange(40),
    "train targets: sample 1 has a NaN": np.where(LABELS, np.nan, 1.0),
}
OPTIONS_OF_IMAGES = {
    "must be a pair": dict(validation=(IMAGES,)),
    "give a name a class": dict(class_names="ab"),
    r"test inputs: uint8 of shape \(5, 5, 3\)": dict(test=(IMAGES[:, :5], LABELS)),
    "test inputs: float64": dict(test=(IMAGES / 255, LABELS)),
    "test labels: label 2 of sample 1 is out of range; allowed: 0, 1": dict(
        test=(IMAGES, LABELS + 1)
    ),
    "arrays: test: a single class": dict(test=(IMAGES[::2], LABELS[::2])),
    "differ in what kind of targets": dict(test=(IMAGES, None)),
    "label 1 of sample 1 is out of range": dict(class_names=("a",)),
    "duplicates": dict(class_names=("a", "a")),
    "no sample of class 'c'": dict(class_names=("a", "b", "c")),
}
CLASSES, REGRESSION = dict(task="classification"), dict(task="regression")
FEW_COLUMNS = dict(columns=Columns(("a",), ("y",), {}))
OF_FEATURES = [
    ("sample 0 has the label 0.5", LABELS + 0.5, CLASSES),
    ("sample 1 has the label nan", np.where(LABELS, np.nan, 1.0), CLASSES),
    ("known: classification", LABELS, dict(task="classify")),
    ("nothing to", None, REGRESSION),
    ("targets are 7 in every training row", np.full(40, 7.0), REGRESSION),
    (
        "differ in the number of targets",
        FEATURES,
        dict(test=(FEATURES, FEATURES[:, :2])),
    ),
    (r"floats \(regression\)", FEATURES, dict(class_names=("a", "b"))),
    ("columns given, but there are no regression targets", LABELS, FEW_COLUMNS),
    (r"columns name 1 inputs; inputs have shape \(7,\)", FEATURES, FEW_COLUMNS),
    ("too large for float32", FEATURES * 1e60, dict(standardize_targets=False)),
]
OTHERS = [
    ("empty", (np.zeros((0, 3)), np.zeros(0, int)), {}),
    ("is for pairs", (FEATURES, LABELS, FEATURES), REGRESSION),
    ("or a triple", (IMAGES, LABELS, FEATURES, None), {}),
    (
        "train labels: sample 0 has the label 0.5",
        (IMAGES, LABELS + 0.5, FEATURES),
        {},
    ),
    (
        "train targets: dtype <U1; expected real numbers",
        (IMAGES, LABELS, np.array(["x"] * 40)),
        {},
    ),
    (
        "test: the parts differ in what kind of targets",
        (IMAGES, LABELS, FEATURES),
        dict(test=(IMAGES, LABELS)),
    ),
]


@pytest.mark.parametrize(
    ("message", "train", "options"),
    [
        *((message, (inputs, LABELS), {}) for message, inputs in INPUTS.items()),
        *((message, (IMAGES, y), {}) for message, y in LABELS_OF_IMAGES.items()),
        *((message, (FEATURES, y), {}) for message, y in LABELS_OF_FEATURES.items()),
        *((message, (IMAGES, LABELS), o) for message, o in OPTIONS_OF_IMAGES.items()),
        *((message, (FEATURES, y), options) for message, y, options in OF_FEATURES),
        *OTHERS,
    ],
)
def test_errors_name_the_problem(message, train, options):
    with pytest.raises(DataError, match=message):
        from_arrays(train, **options)
