"""What evaluations refuse when they are made, and what they say."""

import pytest

from ddjax.evaluation import EVALUATIONS, make
from tests.models.encoders.tiny import linear_encoder

OF_LINEAR_PROBES = (
    ({"kinds": ("svm",)}, "svm.*closed_form"),
    ({"kinds": ()}, "empty"),
    ({"epochs": 0}, "epochs"),
    ({"seeds": 0}, "seeds"),
    ({"learning_rate": 0.0}, "learning_rate"),
    ({"centring": "mean"}, "centring.*intercept"),
    ({"ridge_convention": "mean"}, "ridge_convention"),
)
OF_LEARNERS = (
    ({"loss": "zero_one"}, "unknown loss 'zero_one'"),
    ({"loss": "logistic", "loss_settings": {"gamma": 1.0}}, "takes no 'gamma'"),
    ({"ridge_per_sample": 0.0}, "ridge_per_sample must be .*> 0, got 0.0"),
    ({"features": "pixels"}, "unknown features 'pixels'; known: distillation"),
)
OF_PRETRAINING = (
    ({"architecture": "resnet"}, "unknown network 'resnet'; known: convnet"),
    ({"settings": {"widht": 3}}, "'convnet': .*widht"),
    ({"epochs": -1}, "epochs must be at least 0, got -1"),
    ({"steps": -1}, "steps must be at least 0, got -1"),
    ({"networks": 0}, "networks must be at least 1, got 0"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"limit": 0}, "limit must be at least 1, got 0"),
    ({"block": 0}, "block must be at least 1, got 0"),
    ({"learning_rate": 0.0}, "learning_rate must be a finite number > 0, got 0.0"),
    ({"weight_decay": -1.0}, "weight_decay must be >= 0, got -1.0"),
    ({"probes": {"k": 3}}, "probes have no 'k'"),
)
INNER = {"protocol": "inner"}
MISTAKES = {
    "certificate": (
        ({"loss": "zero_one"}, "unknown loss 'zero_one'"),
        (
            {"distilled_ridge_per_sample": 0.0},
            "distilled_ridge_per_sample must be .*> 0, ",
        ),
    ),
    "full_data": OF_LEARNERS,
    "full_data_linear_probe": (*OF_LINEAR_PROBES, ({"ridges": ()}, "ridges")),
    "kernel_regression": (
        ({"kernel": "rbf"}, "unknown features 'rbf'; known: distillation, inputs"),
        ({"convention": "mean"}, "unknown convention 'mean'; known: absolute"),
        ({"ridge": -1.0}, "ridge must be finite and >= 0, got -1.0"),
        ({"draws": 0}, "draws must be at least 1, got 0"),
        ({"kernel": "ntk", "networks": 3}, r"'ntk' does not take .*\['networks'\]"),
        (
            {"kernel": "distillation", "networks": 3},
            r"\['networks'\] cannot be chosen for them",
        ),
        ({"x": 3}, "takes no 'x'; it takes: kernel, architect"),
    ),
    "linear_probe": (
        *OF_LINEAR_PROBES,
        ({"views": -1}, "views must be at least 0"),
        ({"ridge": 0.0}, "ridge must be a finite number > 0"),
        ({"augmentation": "mixup"}, "unknown augmentation"),
    ),
    "network": (
        ({"architecture": "resnet"}, "unknown network 'resnet'; known: convnet"),
        ({"protocol": "mtt"}, "unknown protocol 'mtt'; known: dc"),
        ({**INNER, "epochs": 3}, "'inner' takes .* and no epochs; got 3"),
        (
            {**INNER, "learning_rate": 0.1},
            "'inner' takes the steps of the set's recipe, and no learning_rate",
        ),
        ({"learning_rate": "best"}, "must be a number or 'learned', got 'best'"),
        ({"loss": "hinge"}, "unknown loss 'hinge'; known: auto"),
        ({"augment": "mixup"}, "unknown augmentation 'mixup'; known: .*dsa"),
        ({"epochs": 0}, "epochs must be positive, got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be positive, got -1.0"),
        ({"block": 0}, "block must be at least 1, got 0"),
    ),
    "pretraining": OF_PRETRAINING,
    "probe": (
        *OF_LEARNERS,
        ({"drawz": 3}, "'probe' takes no 'drawz'; did you mean 'dra"),
    ),
    "random_real": (
        (
            {"learner": "certificate"},
            "learner of random_real is 'certificate'; known: kernel_reg",
        ),
        (
            {"learner": {"name": "probe", "lose": "hinge"}},
            "takes no 'lose'; did you mean 'loss'",
        ),
        ({"learner": "linear_probe"}, "'linear_probe' of random_real needs an encoder"),
        ({"learner": {"name": "probe", "loss": "hinges"}}, "hinges"),
        ({"learner": "probe", "draws": 0}, "draws must be at least 1, got 0"),
    ),
    "real_pretraining": OF_PRETRAINING,
    "regression": (
        ({"ridge": -1.0}, "ridge must be finite and >= 0, got -1.0"),
        ({"features": "pixels"}, "unknown features 'pixels'"),
        ({"draws": 0}, "draws must be at least 1"),
    ),
}


def test_every_evaluation_refuses_something():
    assert set(MISTAKES) == set(EVALUATIONS)
    with pytest.raises(
        ValueError, match="unknown evaluation 'probes'; .*did you mean 'probe'"
    ):
        make("probes")
    with pytest.raises(ValueError, match="'linear_probe' needs 'encoder'"):
        make("linear_probe")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [(name, *each) for name, mistakes in MISTAKES.items() for each in mistakes],
)
def test_mistakes_are_named(name, settings, message):
    if name.endswith("linear_probe"):
        settings = {"encoder": linear_encoder(), **settings}
    if name == "real_pretraining":
        settings = {"teacher": linear_encoder(), **settings}
    with pytest.raises(ValueError, match=message):
        make(name, **settings)
