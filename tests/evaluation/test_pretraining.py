"""Networks pretrained on pairs, frozen and probed: the learner, transfer, ceilings."""

from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.data import preprocess
from ddjax.data.problem import Split
from ddjax.data.stored import StoredInputs
from ddjax.evaluation import (
    frozen,
    network,
    network_training,
    pretraining,
    real_pretraining,
)
from ddjax.evaluation.wording import meaning
from ddjax.models.encoders.base import Encoder
from ddjax.models.networks import convnet, fully_connected
from ddjax.storage.cache import in_memory
from ddjax.synthetic.decoders import pixels
from ddjax.synthetic.distilled import distilled_set
from tests.counting import counting
from tests.evaluation.problems import (
    blobs,
    descended,
    measured,
    of_regression,
    problem_of,
    regression,
    variables_at_start,
)

KEY = jax.random.key(0)
WIDTH = 6
SMALL = {"settings": {"depth": 1, "width": 3, "norm": "batch"}}
DENSE = {"architecture": "fully_connected", "settings": {"depth": 2, "width": 4}}
QUICK = {"kinds": ["nearest"], "neighbours": 3}


def coloured(size=(4, 4), *, classes=2, each=12, channels=3, seed=0, dtype=np.float32):
    """Noisy images in [0, 1]; a class is where the upper half is bright."""
    rng = np.random.default_rng(seed)

    def split() -> Split:
        labels = rng.permutation(np.repeat(np.arange(classes, dtype=np.int32), each))
        images = rng.uniform(0, 0.5, (len(labels), *size, channels))
        levels = labels.reshape(-1, 1, 1, 1) / (2 * classes - 2)
        images[:, : size[0] // 2] += levels
        return Split(images.astype(dtype), labels)

    names = tuple(f"class {i}" for i in range(classes))
    return problem_of("coloured", (split(), split(), split()), names)


def teacher() -> Encoder:
    """Mean and spread of each channel."""

    def apply(params, images):
        parts = images.mean(axis=(1, 2)), images.std(axis=(1, 2))
        return jnp.concatenate(parts, axis=1) * params["scale"]

    return Encoder("moments", {"scale": jnp.ones(())}, apply, 4, WIDTH, {"made": "up"})


def of_teacher(problem, count=None, *, kind="representation", **replacements):
    """The first training images with the teacher's representations."""
    inputs = np.asarray(problem.train.inputs[:count])
    natural = np.asarray(preprocess.invert(problem.preprocessing, inputs))
    targets = teacher().apply(teacher().params, natural.astype(jnp.result_type(float)))
    stored = {"inputs": jnp.asarray(inputs), "targets": targets}
    recipe = {"targets_kind": kind}
    return distilled_set(stored, pixels(), problem, recipe=recipe)._replace(
        **replacements
    )


def seen_features(monkeypatch):
    """The calls of `frozen.scores`."""
    scores = Mock(wraps=frozen.scores)
    monkeypatch.setattr(frozen, "scores", scores)
    return scores.call_args_list


def test_without_training_the_features_are_those_of_the_start(monkeypatch):
    problem, calls = coloured(), seen_features(monkeypatch)
    evaluation = pretraining(**SMALL, epochs=0, networks=2, probes=QUICK, block=7)
    found = evaluation.evaluate(KEY, of_teacher(problem, 5), problem, "test")
    student = convnet(outputs=WIDTH, **SMALL["settings"])
    features = jax.jit(student.clone(outputs=None).apply)
    for each, call in zip(jax.random.split(KEY, 2), calls, strict=True):
        learning, _ = jax.random.split(each)
        variables = variables_at_start(student, learning, problem.train.inputs)
        for place, rows in (("train", call.args[1]), ("test", call.args[3])):
            inputs = jnp.asarray(getattr(problem, place).inputs)
            wanted = features(variables, inputs)
            np.testing.assert_allclose(rows, wanted, rtol=1e-5, atol=1e-6)
    assert set(found) == {"pretraining_convnet/nearest_accuracy"}
    assert found["pretraining_convnet/nearest_accuracy"].draws == 2


def test_the_pretraining_fits_the_pairs(monkeypatch):
    """One network, trained on all of a few pairs, by the protocol word by word."""
    problem, calls = coloured(), seen_features(monkeypatch)
    distilled = of_teacher(problem, 6)
    evaluation = pretraining(
        **DENSE, epochs=3, weight_decay=0.1, networks=1, probes=QUICK
    )
    evaluation.evaluate(KEY, distilled, problem, "test")
    student = fully_connected(outputs=WIDTH, **DENSE["settings"])
    inputs, targets = distilled.stored["inputs"], distilled.stored["targets"]

    def objective(params):
        wrong = student.apply({"params": params}, inputs) - targets
        return jnp.sum(jnp.square(wrong)) / (6 * WIDTH)

    learning, _ = jax.random.split(jax.random.split(KEY, 1)[0])
    start = variables_at_start(student, learning, inputs)["params"]
    params = descended(start, 3 * [jax.jit(jax.grad(objective))], 3 * [0.1], decay=0.1)
    wanted = jax.jit(student.clone(outputs=None).apply)(
        {"params": params}, jnp.asarray(problem.test.inputs)
    )
    np.testing.assert_allclose(calls[0].args[3], wanted, rtol=1e-3, atol=1e-5)


def test_pretraining_is_better_than_no_training():
    problem = coloured(classes=4, each=30)
    distilled = of_teacher(problem)
    # A teacher who knows the classes.
    known = jnp.eye(4)[jnp.asarray(problem.train.labels)]
    distilled = distilled._replace(stored={**distilled.stored, "targets": known})
    rules = {"architecture": "fully_connected", "settings": {"depth": 2, "width": 8}}
    rules |= {"weight_decay": 0.0, "networks": 4, "probes": {"kinds": ["closed_form"]}}
    floor, trained = (
        measured(pretraining(**rules, steps=steps), distilled, problem)
        for steps in (0, 600)
    )
    assert trained["closed_form_accuracy"] > floor["closed_form_accuracy"] + 0.1


@pytest.mark.parametrize("kind", ["probabilities", "scores"])
def test_sets_of_classes_train_by_cross_entropy(kind, monkeypatch):
    """And on a problem with other classes."""
    problem, other = coloured(), coloured(classes=3, seed=1)
    train = Mock(wraps=network_training.train)
    monkeypatch.setattr(network_training, "train", train)
    coded = jnp.eye(2) - (0.5 if kind == "scores" else 0.0)
    distilled = of_teacher(problem, 2, kind=kind)
    distilled = distilled._replace(stored={**distilled.stored, "targets": coded})
    evaluation = pretraining(**DENSE, epochs=2, networks=1, probes=QUICK)
    found = evaluation.evaluate(KEY, distilled, other, "validation")
    train.assert_called_once()
    assert train.call_args.kwargs["loss"] == "soft_cross_entropy"
    assert 0 <= found["pretraining_fully_connected/nearest_accuracy"].mean <= 1


def test_other_images_are_brought_to_the_set(monkeypatch):
    """Of another size, behind another preprocessing, with other classes, in files."""
    source, other = coloured(), coloured((7, 6), classes=3, seed=1)
    scale = preprocess.fit(source.train.inputs)
    distilled = of_teacher(
        source._replace(
            train=Split(preprocess.apply(scale, source.train.inputs)),
            preprocessing=scale,
        ),
        8,
    )
    evaluation = pretraining(**SMALL, epochs=0, networks=1, probes=QUICK, limit=30)

    def brought(split):
        smaller = jax.image.resize(split.inputs, (len(split.inputs), 4, 4, 3), "linear")
        return split._replace(inputs=preprocess.apply(scale, np.asarray(smaller)))

    by_hand = other._replace(
        train=brought(other.train), test=brought(other.test), preprocessing=scale
    )
    calls = seen_features(monkeypatch)
    wanted = evaluation.evaluate(KEY, distilled, by_hand, "test")
    assert evaluation.evaluate(KEY, distilled, other, "test") == wanted
    np.testing.assert_allclose(calls[1].args[1], calls[0].args[1], rtol=1e-3, atol=1e-5)
    assert len(calls[0].args[1]) == len(calls[0].args[2]) == 30
    stored = other._replace(
        train=other.train._replace(inputs=in_files(other.train.inputs)),
        test=other.test._replace(inputs=in_files(other.test.inputs)),
    )
    assert evaluation.evaluate(KEY, distilled, stored, "test") == wanted
    # The same rows for every key; more than there are is all.
    evaluation.evaluate(jax.random.key(5), distilled, other, "test")
    np.testing.assert_array_equal(calls[-1].args[2], calls[0].args[2])
    every = pretraining(**SMALL, epochs=0, networks=1, probes=QUICK, limit=10**6)
    every.evaluate(KEY, distilled, other, "test")
    np.testing.assert_array_equal(calls[-1].args[2], other.train.labels)


def in_files(inputs) -> StoredInputs:
    return StoredInputs(
        lambda places: inputs[places],
        np.arange(len(inputs)),
        shape=inputs.shape[1:],
        unit=1.0,
    )


def test_real_images_go_through_the_same_learner():
    problem = coloured()
    rules = {**DENSE, "epochs": 3, "networks": 2, "probes": QUICK}
    ceiling = real_pretraining(teacher=teacher(), **rules)
    found = ceiling.evaluate(KEY, of_teacher(problem, 3), problem, "test")
    # As if the set were all the real images.
    wanted = pretraining(**rules).evaluate(KEY, of_teacher(problem), problem, "test")
    assert {name.removeprefix("full_data_"): each for name, each in found.items()} == (
        wanted
    )
    assert meaning(next(iter(found)), of_teacher(problem, 3)).trained_on == "full_data"


def test_the_teacher_sees_real_images_in_its_own_size(monkeypatch):
    problem, train = coloured(), Mock(wraps=network_training.train)
    monkeypatch.setattr(network_training, "train", train)
    evaluation = real_pretraining(
        teacher=teacher(), teacher_size=2, networks=2, epochs=1, **DENSE, probes=QUICK
    )
    computed = []
    cache = counting(in_memory(), computed)
    distilled = of_teacher(problem, 3)
    found = evaluation.evaluate(KEY, distilled, problem, "test", cache)
    assert len(computed) == 3  # the representations, and two networks
    assert evaluation.evaluate(KEY, distilled, problem, "test", cache) == found
    assert len(computed) == 3
    _, inputs, targets = train.call_args_list[0].args
    smaller = jax.image.resize(inputs, (len(inputs), 2, 2, 3), "linear")
    wanted = teacher().apply(teacher().params, smaller)
    np.testing.assert_allclose(targets, wanted, rtol=1e-5, atol=1e-6)
    assert evaluation.settings["teacher"] == teacher().setting
    assert evaluation.settings["teacher_size"] == 2


def test_networks_are_pretrained_once_for_all_splits_and_problems():
    problem, other = coloured(), coloured((6, 6))
    computed = []
    cache = counting(in_memory(), computed)
    rules = {**DENSE, "epochs": 2, "networks": 2, "probes": QUICK}
    evaluation, distilled = pretraining(**rules), of_teacher(problem, 3)
    for each, split in ((problem, "test"), (problem, "validation"), (other, "test")):
        found = evaluation.evaluate(KEY, distilled, each, split, cache)
    assert found == evaluation.evaluate(KEY, distilled, other, "test")
    assert len(computed) == 2
    # What else a network depends on makes others.
    for count, settings in ((3, {**rules, "epochs": 3}), (4, rules)):
        before, of = len(computed), of_teacher(problem, count)
        pretraining(**settings).evaluate(KEY, of, problem, "test", cache)
        assert len(computed) == before + 2


def test_one_compilation_for_all_networks_and_keys():
    problem = coloured()
    settings = {"depth": 2, "width": 5}
    evaluation = pretraining(
        architecture="fully_connected",
        settings=settings,
        epochs=1,
        networks=3,
        probes=QUICK,
    )
    before = network_training.train._cache_size()
    for key in jax.random.split(KEY):
        evaluation.evaluate(key, of_teacher(problem, 5), problem, "test")
    assert network_training.train._cache_size() == before + 1


def test_float64_from_end_to_end(monkeypatch):
    calls = seen_features(monkeypatch)
    with jax.enable_x64(True):
        problem = coloured((6, 6), dtype=np.float64)
        distilled = of_teacher(coloured(dtype=np.float64), 5)
        assert distilled.stored["inputs"].dtype == jnp.float64
        evaluation = pretraining(**DENSE, epochs=1, networks=1, probes=QUICK)
        evaluation.evaluate(KEY, distilled, problem, "test")
    assert calls[0].args[1].dtype == calls[0].args[3].dtype == np.float64


def test_what_does_not_fit_is_named():
    problem, evaluation = coloured(), pretraining(**SMALL, probes=QUICK)
    distilled = of_teacher(problem, 3)

    table, grey = regression(), coloured(channels=1)
    unlabelled = problem._replace(train=problem.train._replace(labels=None))
    for one, real, split, message in (
        (distilled, grey, "test", r"3 channel\(s\), .* have 1: images are resi"),
        (distilled, blobs(), "test", "have shape .4,.; only images are resized"),
        (distilled, unlabelled, "test", "train split .* has no class labels"),
        (distilled, problem, "train", "split is 'train'"),
        (of_regression(table), table, "test", "targets of kind 'regression'"),
    ):
        with pytest.raises(ValueError, match=message):
            measured(evaluation, one, real, split)
    # A classifier learns nothing from representations.
    with pytest.raises(ValueError, match="'representation' name no class"):
        measured(network(epochs=1, networks=1), distilled, problem)


def test_names_of_scalars_in_words():
    distilled = of_teacher(coloured(), 2)
    found = meaning("pretraining_vgg11_wide/gradient_accuracy", distilled)
    assert found.trained_on == "distilled"
    assert found.words == (
        "accuracy of probe of the pretrained network (vgg11_wide) by gradient"
    )
    found = meaning("full_data_pretraining_convnet/nearest_accuracy", distilled)
    assert found.trained_on == "full_data"
    assert found.words.endswith("(convnet) by nearest neighbours")
