"""Finite networks: the protocol's steps, one compilation, and learning digits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.evaluation import network, network_training
from ddjax.evaluation.network_training import PROTOCOLS, Protocol
from ddjax.models.networks import fully_connected
from ddjax.storage.cache import in_memory
from tests.evaluation.problems import (
    class_means,
    digits,
    of_regression,
    regression,
    some_real,
)

KEY = jax.random.key(0)


def data(samples: int = 7):
    inputs = jax.random.normal(jax.random.key(1), (samples, 3))
    return inputs, jax.nn.one_hot(jnp.arange(samples) % 2, 2)


def by_hand(variables, inputs, targets, student, rules):
    """Full-batch momentum SGD as the protocol words it."""
    loss = network_training.LOSSES["cross_entropy"]

    def objective(variables):
        return jnp.mean(loss(targets, student.apply(variables, inputs)))

    velocity = jax.tree.map(jnp.zeros_like, variables)
    for epoch in range(rules.epochs):
        rate = rules.learning_rate
        if epoch >= rules.drop_after * rules.epochs:
            rate = rate * rules.drop_factor
        velocity = jax.tree.map(
            lambda v, g, p: rules.momentum * v + g + rules.weight_decay * p,
            velocity,
            jax.grad(objective)(variables),
            variables,
        )
        variables = jax.tree.map(lambda p, v, r=rate: p - r * v, variables, velocity)
    return variables


def test_training_follows_the_protocol_step_by_step():
    inputs, targets = data()
    student = fully_connected(outputs=2, depth=2, width=4)
    rules = Protocol(epochs=4, learning_rate=0.1, weight_decay=0.01)
    keys = jax.random.split(KEY, 2)
    trained = network_training.train(
        keys, inputs, targets, network=student, protocol=rules, loss="cross_entropy"
    )
    start = jax.jit(student.init)(jax.random.split(keys[1])[0], inputs[:1])
    expected = jax.jit(lambda v: by_hand(v, inputs, targets, student, rules))(start)
    assert trained.statistics == {}
    for mine, other in zip(
        jax.tree.leaves(trained.params), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(mine[1], other, rtol=1e-4, atol=1e-6)


def test_every_sample_is_seen_once_an_epoch():
    whole, rest = network_training._epoch_rows(KEY, 10, 4)
    assert whole.shape == (2, 4) and rest.shape == (2,)
    rows = np.concatenate([np.ravel(whole), rest])
    assert sorted(rows.tolist()) == list(range(10))


def test_a_length_in_steps():
    inputs, targets = data(samples=7)
    student = fully_connected(outputs=2, depth=1)
    rules = Protocol(batch=4, learning_rate=0.1, weight_decay=0.01)

    def trained(**length):
        return network_training.train(
            jax.random.split(KEY, 1), inputs, targets,
            network=student, protocol=rules._replace(**length), loss="mean_squared",
        ).params  # fmt: skip

    def same(one, other):
        leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        return all(np.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in leaves)

    # Two batches an epoch.
    assert same(trained(steps=4, epochs=9), trained(epochs=2))
    start = jax.jit(student.init)(
        jax.random.split(jax.random.split(KEY, 1)[0])[0], inputs[:1]
    )
    first = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)  # noqa: E731
    for none in ({"epochs": 0}, {"steps": 0}):
        assert same(first(trained(**none)), start["params"])
    # Five steps: two epochs and the first batch of the third; the rate drops after two
    # of them, wherever that is in an epoch.
    params = start["params"]
    velocity = jax.tree.map(jnp.zeros_like, params)
    _, epochs_key = jax.random.split(jax.random.split(KEY, 1)[0])
    batches = []
    for key in jax.random.split(epochs_key, 3):
        whole, rest = network_training._epoch_rows(jax.random.split(key)[0], 7, 4)
        batches += [*whole, rest]

    def objective(params, rows):
        wrong = student.apply({"params": params}, inputs[rows]) - targets[rows]
        return jnp.mean(jnp.square(wrong))

    gradient = jax.jit(jax.grad(objective))
    for step, rows in enumerate(batches[:5]):
        rate = 0.1 if step < 2 else 0.01
        velocity = jax.tree.map(
            lambda v, g, p: 0.9 * v + g + 0.01 * p,
            velocity,
            gradient(params, rows),
            params,
        )
        params = jax.tree.map(lambda p, v, r=rate: p - r * v, params, velocity)
    assert same(first(trained(steps=5)), params)


class Normalised(nn.Module):
    """A linear layer behind batch normalisation."""

    @nn.compact
    def __call__(self, inputs, train: bool = False):
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9)
        return nn.Dense(2)(norm(inputs))


def test_batch_statistics_are_neither_differentiated_nor_decayed():
    inputs, targets = data(samples=7)
    # So large a decay that a decayed statistic would be another number altogether.
    rules = Protocol(epochs=3, batch=4, learning_rate=0.1, weight_decay=0.5)
    student = Normalised()
    trained = network_training.train(
        jax.random.split(KEY, 1),
        inputs,
        targets,
        network=student,
        protocol=rules,
        loss="squared",
    )
    init_key, epochs_key = jax.random.split(jax.random.split(KEY, 1)[0])
    variables = jax.jit(student.init)(init_key, inputs[:1])

    @jax.jit
    def train(variables, rows):
        return student.apply(variables, rows, train=True, mutable=["batch_stats"])

    for key in jax.random.split(epochs_key, rules.epochs):
        order_key, _ = jax.random.split(key)
        # Batches of 4 and of 3 samples: what is left is not filled up.
        for rows in network_training._epoch_rows(order_key, 7, 4):
            for batch in rows.reshape(-1, rows.shape[-1]):
                # The statistics of the inputs do not depend on the parameters.
                _, changed = train(variables, inputs[batch])
                variables = {**variables, **changed}
    for mine, other in zip(
        jax.tree.leaves(trained.statistics),
        jax.tree.leaves({"batch_stats": variables["batch_stats"]}),
        strict=True,
    ):
        np.testing.assert_allclose(mine[0], other, rtol=1e-5)
    start = jax.jit(student.init)(init_key, inputs[:1])["params"]
    assert not np.allclose(
        trained.params["Dense_0"]["kernel"][0], start["Dense_0"]["kernel"], atol=0.01
    )


def test_predictions_use_the_running_statistics():
    inputs, targets = data(samples=8)
    student = Normalised()
    trained = network_training.train(
        jax.random.split(KEY, 2),
        inputs,
        targets,
        network=student,
        protocol=Protocol(epochs=2),
        loss="squared",
    )
    predict = network_training.predictor(student)
    together = predict(trained, inputs)
    alone = predict(trained, inputs[:1])
    assert together.shape == (8, 2, 2)
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-5, atol=1e-6)
    second = jax.tree.map(lambda leaf: leaf[1], trained)
    variables = {"params": second.params, **second.statistics}
    np.testing.assert_allclose(
        together[:, 1], student.apply(variables, inputs), rtol=1e-5, atol=1e-6
    )


def test_one_compilation_and_the_same_result_side_by_side():
    inputs, targets = data()
    settings = {
        "network": fully_connected(outputs=2, depth=2, width=5),
        "protocol": Protocol(epochs=3, batch=4),
        "loss": "squared",
    }
    before = network_training.train._cache_size()
    keys = jax.random.split(KEY, 3)
    first = network_training.train(keys, inputs, targets, **settings)
    other_keys = jax.random.split(jax.random.key(9), 3)
    network_training.train(other_keys, inputs + 1, targets, **settings)
    assert network_training.train._cache_size() == before + 1
    together = network_training.train(keys, inputs, targets, **settings, at_once=3)
    for one, other in zip(
        jax.tree.leaves(first), jax.tree.leaves(together), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_convnet_learns_digits_and_repeats_itself():
    problem = digits()
    evaluation = network(
        settings={"depth": 1, "width": 8},
        epochs=100,
        networks=2,
        loss="cross_entropy",
    )
    scores = [
        evaluation.evaluate(KEY, class_means(problem), problem, "validation")
        for _ in range(2)
    ]
    assert evaluation.name == "network_convnet"
    assert scores[0] == scores[1]
    found = scores[0]["network_convnet/accuracy"]
    assert found.draws == 2
    assert 0.7 < found.mean <= 1.0


def test_networks_that_a_cache_keeps_serve_every_split(monkeypatch):
    problem, cache = digits((0, 1)), in_memory()
    evaluation = network(
        architecture="fully_connected", settings={"depth": 1}, epochs=2, networks=2
    )
    distilled, trained = class_means(problem), []
    train = network_training.train
    monkeypatch.setattr(
        network_training,
        "train",
        lambda *args, **more: trained.append(1) or train(*args, **more),
    )
    for split in ("validation", "test"):
        kept = evaluation.evaluate(KEY, distilled, problem, split, cache)
        assert kept == evaluation.evaluate(KEY, distilled, problem, split)
    assert len(trained) == 3
    other = distilled._replace(stored={**distilled.stored})
    other.stored["inputs"] = other.stored["inputs"] + 1
    evaluation.evaluate(KEY, other, problem, "test", cache)
    evaluation.evaluate(jax.random.key(8), distilled, problem, "test", cache)
    assert len(trained) == 5


@pytest.mark.parametrize(
    ("kind", "loss"),
    [("scores", "auto"), ("probabilities", "auto"), ("margin", "soft_cross_entropy")],
)
def test_targets_of_every_kind_train_a_network(kind, loss):
    problem = digits((0, 1))
    evaluation = network(
        architecture="fully_connected",
        settings={"depth": 1},
        epochs=60,
        networks=2,
        loss=loss,
        label=kind,
    )
    distilled = some_real(problem, 10, kind=kind)
    scores = evaluation.evaluate(KEY, distilled, problem, "test")
    assert scores[f"network_fully_connected_{kind}/accuracy"].mean > 0.9


def test_regression_targets_give_an_error_and_no_accuracy():
    problem = regression()
    distilled = of_regression(problem)
    evaluation = network(
        architecture="fully_connected",
        settings={"depth": 1},
        epochs=300,
        networks=1,
        learning_rate=0.05,
    )
    scores = evaluation.evaluate(KEY, distilled, problem, "test")
    assert set(scores) == {"network_fully_connected/mse"}
    assert scores["network_fully_connected/mse"].mean < 0.01


def test_augmentation_is_applied_to_the_training_batches():
    inputs, targets = data()
    settings = {
        "network": fully_connected(outputs=2, depth=1),
        "protocol": Protocol(epochs=2),
        "loss": "squared",
    }
    keys = jax.random.split(KEY, 1)
    erased = network_training.train(
        keys, inputs, targets, **settings, augment=lambda key, rows: 0.0 * rows
    )
    plain = network_training.train(keys, 0.0 * inputs, targets, **settings)
    for one, other in zip(jax.tree.leaves(erased), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_augmentations_by_name():
    setting = ["flip", {"name": "noise", "std": 0.1}]
    problem = digits((0, 1))
    evaluation = network(
        settings={"depth": 1, "width": 2}, epochs=2, networks=1, augment=setting
    )
    scores = evaluation.evaluate(KEY, class_means(problem), problem, "test")
    assert 0.0 <= scores["network_convnet/accuracy"].mean <= 1.0
    assert evaluation.settings["augment"] == setting


def test_one_learning_rate_a_step():
    """Full-batch gradient descent, written out; another array is the same program."""
    inputs, targets = data(samples=7)
    student = fully_connected(outputs=2, depth=1)
    rates = jnp.asarray([0.5, 0.1, 0.3])

    def trained(rates):
        return network_training.train(
            jax.random.split(KEY, 1), inputs, targets, network=student,
            protocol=network_training.INNER._replace(steps=3), loss="cross_entropy",
            learning_rates=rates,
        ).params  # fmt: skip

    def loss(params):
        outputs = student.apply({"params": params}, inputs)
        return jnp.mean(network_training.LOSSES["cross_entropy"](targets, outputs))

    params = jax.jit(student.init)(
        jax.random.split(jax.random.split(KEY, 1)[0])[0], inputs[:1]
    )
    params, gradient = params["params"], jax.jit(jax.grad(loss))
    for rate in rates:
        slopes = gradient(params)
        params = jax.tree.map(lambda p, g, rate=rate: p - rate * g, params, slopes)
    before = network_training.train._cache_size()
    for mine, other in zip(
        jax.tree.leaves(trained(rates)), jax.tree.leaves(params), strict=True
    ):
        np.testing.assert_allclose(mine[0], other, rtol=1e-4, atol=1e-6)
    trained(2 * rates)
    assert network_training.train._cache_size() == before + 1


def test_a_learning_rate_in_place_of_the_protocols():
    inputs, targets = data(samples=7)
    settings = {"network": fully_connected(outputs=2, depth=1), "loss": "squared"}
    rules = Protocol(epochs=4, batch=4)
    keys = jax.random.split(KEY, 1)
    given = network_training.train(
        keys, inputs, targets, **settings, protocol=rules,
        learning_rates=jnp.asarray(0.03),
    )  # fmt: skip
    usual = network_training.train(
        keys, inputs, targets, **settings, protocol=rules._replace(learning_rate=0.03)
    )
    for one, other in zip(jax.tree.leaves(given), jax.tree.leaves(usual), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "inner", "message"),
    [
        ({"protocol": "inner"}, None, "inner.step_sizes; .* holds: nothing"),
        (
            {"protocol": "inner"},
            {"learning_rate": 0.1},
            "protocol 'inner' needs .* inner.step_sizes; .* holds: learning_rate",
        ),
        (
            {"learning_rate": "learned"},
            {"step_sizes": [0.1]},
            "learning_rate 'learned' needs .* inner.learning_rate; .*: step_sizes",
        ),
    ],
)
def test_a_recipe_without_what_is_asked_for(settings, inner, message):
    problem = digits((0, 1))
    distilled = class_means(problem)
    if inner is not None:
        distilled = distilled._replace(recipe={**distilled.recipe, "inner": inner})
    evaluation = network(**settings)
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(KEY, distilled, problem, "test")


def test_the_learning_rate_of_the_recipe():
    problem = digits((0, 1))
    learner = {
        "architecture": "fully_connected",
        "settings": {"depth": 1},
        "epochs": 20,
        "networks": 1,
    }

    def scores(inner, **settings):
        distilled = class_means(problem)
        distilled = distilled._replace(recipe={**distilled.recipe, "inner": inner})
        judge = network(**learner, **settings)
        return judge.evaluate(KEY, distilled, problem, "validation")

    learned = scores({"learning_rate": 0.002}, learning_rate="learned")
    assert learned == scores({}, learning_rate=0.002)
    assert learned != scores({"learning_rate": 0.0001}, learning_rate="learned")


def test_a_cache_tells_sets_of_other_learned_rates_apart():
    """Their pairs are the same; what a recipe says of rates is not among them."""
    problem, cache = digits((0, 1)), in_memory()
    learner = {"architecture": "fully_connected", "settings": {"depth": 1}}
    judge = network(**learner, epochs=20, networks=1, learning_rate="learned")

    def scores(rate, *given):
        distilled = class_means(problem)
        recipe = {**distilled.recipe, "inner": {"learning_rate": rate}}
        distilled = distilled._replace(recipe=recipe)
        return judge.evaluate(KEY, distilled, problem, "validation", *given)

    found = [scores(rate, cache) for rate in (0.002, 0.0001)]
    assert found == [scores(0.002), scores(0.0001)]
    assert found[0] != found[1]


def test_published_protocols():
    assert PROTOCOLS["dc"] == Protocol(
        epochs=300,
        batch=256,
        learning_rate=0.01,
        drop_after=0.5,
        drop_factor=0.1,
        momentum=0.9,
        weight_decay=5e-4,
    )
    assert PROTOCOLS["dc_long"] == PROTOCOLS["dc"]._replace(epochs=1000)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "resnet"}, "unknown network 'resnet'; known: convnet"),
        ({"protocol": "mtt"}, "unknown protocol 'mtt'; known: dc"),
        ({"protocol": "inner", "epochs": 3}, "'inner' takes .* and no epochs; got 3"),
        (
            {"protocol": "inner", "learning_rate": 0.1},
            "'inner' takes the steps of the set's recipe, and no learning_rate",
        ),
        ({"learning_rate": "best"}, "must be a number or 'learned', got 'best'"),
        ({"loss": "hinge"}, "unknown loss 'hinge' for a network; known: auto"),
        ({"augment": "mixup"}, "unknown augmentation 'mixup'; known: .*dsa"),
        ({"epochs": 0}, "epochs must be positive, got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be positive, got -1.0"),
        ({"block": 0}, "block must be at least 1, got 0"),
    ],
)
def test_mistakes_are_named_when_the_evaluation_is_made(settings, message):
    with pytest.raises(ValueError, match=message):
        network(**settings)


def test_unknown_sizes_are_named():
    problem = digits((0, 1))
    evaluation = network(settings={"widht": 3})
    with pytest.raises(ValueError, match="'convnet': .*widht"):
        evaluation.evaluate(KEY, class_means(problem), problem, "test")
