import json
import sys

import numpy as np
import pytest

from ddjax.data import DataError, MissingDataError, from_arrays, load

pytestmark = pytest.mark.tfds


def builder_class(tfds, shape=(8, 8, 3), sizes=None, known="label", withheld=()):
    sizes = sizes or {"train": 30, "test": 12}

    class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            kinds = {
                "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
                "value": tfds.features.Scalar(np.float32),
            }
            features = {"image": tfds.features.Image(shape=shape)}
            features |= {name: kinds[name] for name in (known,) if known}
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", known) if known == "value" else None,
            )

        def _split_generators(self, dl_manager):
            return {part: self._generate_examples(part) for part in sizes}

        def _generate_examples(self, part):
            generator = np.random.default_rng(len(part))
            height, width, channels = shape
            for i in range(sizes[part]):
                size = (height or 6 + i % 3, width or 9, channels)
                image = generator.integers(0, 256, size, np.uint8)
                label = -1 if part in withheld else i % 3
                yield i, {"image": image} | ({known: label} if known else {})

    return Toy


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("tensorflow")  # TFDS prepares images with it
    tfds.disable_progress_bar()

    def prepare(file_format="array_record", **settings):
        directory = tmp_path_factory.mktemp("tfds")
        builder = builder_class(tfds, **settings)
        builder(data_dir=directory, file_format=file_format).download_and_prepare()
        return directory

    return prepare


@pytest.fixture(scope="module")
def toy(prepared):
    return prepared()


def test_a_prepared_data_set_is_loaded(toy):
    import tensorflow_datasets as tfds

    problem = load("tfds:toy", directory=toy)
    assert problem.class_names == ("a", "b", "c")
    assert problem.train.inputs.shape == (27, 8, 8, 3)
    builder = tfds.builder_from_directory(toy / "toy" / "1.0.0")
    parts = []
    for part in ("train", "test"):
        rows = list(builder.as_data_source(split=part))
        images = np.stack([row["image"] for row in rows])
        parts.append((images, np.array([row["label"] for row in rows])))
    expected = from_arrays(*parts, class_names=("a", "b", "c"))
    assert problem.fingerprint == expected.fingerprint


def test_both_file_formats_give_the_same_problem(toy, prepared):
    records = prepared("tfrecord")
    first, second = load("tfds:toy", directory=toy), load("tfds:toy", directory=records)
    assert first.fingerprint == second.fingerprint


def test_images_stay_in_their_files(toy, prepared):
    keywords = dict(preprocessing="none", image_size=6)
    here = load("tfds:toy", directory=toy, **keywords)
    there = load("tfds:toy", directory=toy, on_device="files", **keywords)
    again = load("tfds:toy", directory=toy, on_device="files", **keywords)
    assert there.train.inputs.shape == (27, 6, 6, 3)
    np.testing.assert_array_equal(here.train.inputs, np.asarray(there.train.inputs))
    assert there.fingerprint == again.fingerprint != here.fingerprint
    with pytest.raises(DataError, match="ArrayRecord"):
        load(
            "tfds:toy",
            directory=prepared("tfrecord"),
            on_device="files",
            **keywords,
        )


def test_the_directory_of_tfds_itself_is_the_default(toy, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(toy))
    monkeypatch.setenv("DDJAX_DATA_DIR", "/nowhere")
    assert load("tfds:toy").classes == 3
    assert load("tfds:toy:1.0.0").classes == 3


def test_images_of_several_sizes(prepared):
    directory = prepared(shape=(None, None, 3))
    with pytest.raises(DataError, match="pass image_size"):
        load("tfds:toy", directory=directory)
    problem = load("tfds:toy", directory=directory, image_size=(5, 4))
    assert problem.train.inputs.shape == (27, 5, 4, 3)


def test_regression_targets(prepared):
    problem = load("tfds:toy", directory=prepared(known="value"))
    assert problem.class_names is None and problem.train.labels is None
    assert problem.train.targets.shape == (27, 1)


def test_withheld_test_labels_make_validation_the_test(prepared):
    sizes = {"train": 30, "validation": 9, "test": 12}
    directory = prepared(sizes=sizes, withheld=("test",))
    problem = load("tfds:toy", directory=directory)
    assert len(problem.test.inputs) == 9 and len(problem.train.inputs) == 27


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
@pytest.mark.parametrize("how", [{"known": None}, {"withheld": ("train", "test")}])
def test_data_without_labels(file_format, how, prepared):
    problem = load("tfds:toy", directory=prepared(file_format, **how))
    assert problem.class_names is None
    assert len(problem.train.inputs) == 27 and len(problem.test.inputs) == 12
    for split in problem[1:4]:
        assert split.labels is None and split.targets is None


def test_validation_beside_test_is_used(prepared):
    directory = prepared(sizes={"train": 30, "validation": 9, "test": 12})
    problem = load("tfds:toy", directory=directory)
    counts = problem.source["counts"]
    assert counts == {"train": 30, "validation": 9, "test": 12}


def test_what_is_not_prepared_is_not_downloaded(toy):
    with pytest.raises(MissingDataError, match="no prepared TFDS data set.*array_rec"):
        load("tfds:mnist", directory=toy)
    with pytest.raises(MissingDataError, match="no prepared TFDS data set 2.0.0"):
        load("tfds:toy:2.0.0", directory=toy)


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_broken_files_are_named(file_format, prepared):
    directory = prepared(file_format)
    (path,) = directory.glob(f"toy/1.0.0/*train.{file_format}*")
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : -len(content) // 3] = b""
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="1.0.0: split train: broken or truncated"):
        load("tfds:toy", directory=directory)


def test_a_broken_description_is_named(prepared):
    directory = prepared()
    (directory / "toy" / "1.0.0" / "features.json").write_text("{")
    with pytest.raises(DataError, match="toy/1.0.0: broken or truncated"):
        load("tfds:toy", directory=directory)


def test_configurations_are_listed(tmp_path):
    version = tmp_path / "resized" / "64x64" / "3.1.0"
    version.mkdir(parents=True)
    (version / "dataset_info.json").write_text("{}")
    with pytest.raises(MissingDataError, match="has configurations: resized/64x64"):
        load("tfds:resized", directory=tmp_path)


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    version = tmp_path / "toy" / "1.0.0"
    version.mkdir(parents=True)
    (version / "dataset_info.json").write_text(json.dumps({}))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match=r"pip install 'ddjax\[tfds\]'"):
        load("tfds:toy", directory=tmp_path)
