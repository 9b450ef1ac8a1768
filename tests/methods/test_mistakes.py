"""What methods refuse, and what they say: a keyword, or a problem that does not fit."""

import jax
import numpy as np
import pytest

from ddjax import checks, data, methods
from tests.conformance import problems
from tests.methods.encoders import small

TEACHER = small(width=6)
NEEDED = {"clp": {"encoder": small()}, "lgm": {"encoder": small()}}
FOURIER = {"kind": "fourier"}
STEEP = {"learning_rate": -1.0}
VIEWS = {"name": "bases", "target_bases": 2, "views": "rotation"}
FACTORS = {"name": "bases", "target_bases": 2}
UNKNOWN_START = {"initialization": "uniform"}, "unknown initialization 'uniform'"
OF_ROWS = (
    ({"count": 0}, "count must be at least 1, got 0"),
    ({"how": "noise"}, "unknown how 'noise'"),
    ({"ridge": -1.0}, "ridge must be finite and >= 0, got -1.0"),
    ({"decoder": "pyramid"}, "does not go with decoder 'pyramid'"),
    ({"features": {"kind": "nngp"}}, "has no features"),
    ({"features": {"kind": "wavelets"}}, "unknown feature map 'wavelets'"),
)
MISTAKES = {
    "analytic": (
        ({"given": "both"}, "unknown given 'both'; known: nothing"),
        ({"count": 0}, "count"),
        ({"real_ridge": -1.0}, "real_ridge"),
        ({"distilled_ridge": float("inf")}, "distilled_ridge"),
        ({"features": FOURIER}, "features.*'nothing'"),
        ({"given": "inputs", "scale": 1.0}, "scale.*'inputs'"),
        ({"given": "targets", "approximate": True}, "approximate.*'targets'"),
        ({"decoder": "pyramid"}, "'analytic' does not go with decoder 'pyramid'"),
        ({"given": "inputs", "features": {"kind": "nngp"}}, "'nngp' has no features"),
    ),
    "clp": (
        ({"outer": "hinge"}, "unknown outer "),
        ({"centring": "median"}, "unknown centring "),
        ({"ridge": 0.0}, "ridge must be .*> 0"),
        ({"temperature": -1.0}, "temperature must be .*> 0"),
        ({"copies": 2}, "need an augmentation"),
        ({"micro_batch": 0}, "micro_batch must be at least 1"),
        ({"augmentation": "blur"}, "unknown augmentation 'blur'"),
        ({"outer": "squared", "learn_temperature": True}, "learn_temperature"),
        ({"encoder": []}, "at least one encoder"),
        ({"decoder": "pixels"}, "no random start"),
    ),
    "datm": (
        ({"min_start": 5}, "0 <= min_start <= .*, got 5, 4 and 4"),
        ({"growth": 0.0}, r"growth is a share of the run, in \(0, 1\]"),
        ({"initialization": "noise"}, "unknown initialization 'noise'"),
        ({"decoder": FACTORS}, "cannot be kept on the simplex"),
    ),
    "dc": (({"network_steps": -1}, "network_steps must be at least 0, got -1"),),
    "dd": (
        ({"inner_steps": 0}, "inner_steps must be at least 1, got 0"),
        ({"networks_per_step": 0}, "networks_per_step must be at least 1, got 0"),
        ({"step_size": 0.0}, "step_size must be a finite number > 0, got 0.0"),
        ({"architecture": "resnet"}, "unknown network 'resnet'"),
        UNKNOWN_START,
    ),
    "dgkip": (
        ({"anneal": 0.0}, r"anneal is a share of the run, in \(0, 1\], got 0.0"),
        ({"gap_space": "dual"}, "'dual'"),
        ({"distilled_ridge": 0.0}, "distilled_ridge"),
        ({"real_ridge": float("nan")}, "real_ridge"),
        ({"start_ridge": -1.0}, "start_ridge"),
        ({"loss": "hinged"}, "hinged"),
        ({"descent": {"optimizer": "adamaxx"}}, "adamaxx"),
        ({"decoder": "jpeg"}, "jpeg"),
        ({"descent": STEEP}, "learning_rate"),
        ({"features": {"kind": "resnet"}}, "resnet"),
        ({"descent": {"rates": {"duals": 1.0}}}, "'duals'.*targets, outputs"),
        ({"loss": "huber", "duals": "learned"}, "is for classification.*'huber'"),
        ({"duals": "free"}, "unknown duals 'free'"),
        ({"per_clas": 3}, "did you mean 'per_class'"),
        ({"x": 3}, "'dgkip' takes no 'x'; it takes: loss, per_cl"),
    ),
    "dm": (
        ({"real_per_class": 0}, "real_per_class must be at least 1, got 0"),
        ({"architecture": "lenet"}, "unknown network 'lenet'"),
        UNKNOWN_START,
    ),
    "dsa": (
        ({"outer_steps": 0}, "outer_steps must be at least 1, got 0"),
        ({"augment": "blur"}, "unknown augmentation 'blur'"),
    ),
    "frepo": (
        ({"ridge": -1.0}, "ridge must be finite and >= 0, got -1.0"),
        ({"pool": {"optimizer": "lion"}}, "unknown pool.optimizer "),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ),
    "idm": (
        ({"class_weight": -1.0}, "class_weight must be finite and >= 0, got -"),
        ({"pool": {"loss": "hinge"}}, "unknown pool.loss "),
    ),
    "kip": (
        ({"features": {"kind": "inputs"}}, "'inputs'"),
        ({"batch_size": 0}, "batch_size"),
    ),
    "krr_st": (
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"ridge": -1.0}, "ridge must be finite and >= 0, got -1.0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"initialization": "pca"}, "unknown initialization 'pca'"),
        ({"pool": {"network": "vgg"}}, "unknown network 'vgg'; known: "),
        ({"pool": {"depth": 3}}, "pool has no 'depth'; .*there are: network"),
        ({"pool": {"compute_dtype": "float8"}}, "unknown compute_dtype 'fl"),
        ({"pool": {"steps": 0}}, "pool.steps must be at least 1, got 0"),
        ({"pool": {"momentum": 1.0}}, r"momentum must be in \[0, 1\)"),
        ({"decoder": VIEWS}, "targets this method does not know; give it views='none'"),
    ),
    "lgm": (
        ({"copies": 0}, "copies must be at least 1"),
        ({"micro_batch": 0}, "micro_batch must be at least 1"),
        ({"augmentation": {"name": "dsa", "noise": 1}}, "takes no 'noise'"),
    ),
    "mtt": (
        ({"student_steps": 0}, "student_steps must be at least 1, got 0"),
        ({"step_size": -1.0}, "step_size must be a finite number > 0, got -1.0"),
        ({"max_start": 49}, "need experts of 51 epochs; experts.epochs is 50"),
        UNKNOWN_START,
        ({"experts": {"count": 3}}, "experts has no 'count'"),
        ({"experts": {"experts": 0}}, "experts.experts must be at least 1, got 0"),
        ({"experts": {"momentum": 1.0}}, r"experts.momentum must be in \[0, 1\)"),
        (
            {"experts": {"learning_rate": float("nan")}},
            "experts.learning_rate must be a finite number > 0, got nan",
        ),
        ({"experts": {"seed": -1}}, "experts.seed must be finite and >= 0, got -1"),
    ),
    "nystrom": (*OF_ROWS, ({"ridge": 0.0}, "ridge must be .*> 0")),
    "pair_selection": (
        ({"how": "all"}, "unknown how 'all'.*kmeans"),
        ({"count": 0}, "count must be at least 1, got 0"),
    ),
    "regression": (
        ({"inner": "newton"}, "unknown inner 'newton'.*unrolled"),
        ({"reduction": "max"}, "unknown reduction 'max'; known: sum, mean"),
        ({"initialization": "best"}, "'best'.*analytic"),
        ({"count": 0}, "count"),
        ({"batch_size": 0}, "batch_size"),
        ({"inner_ridge": -1.0}, "inner_ridge"),
        ({"inner": "ridge", "inner_ridge": 0.0}, "inner_ridge"),
        ({"outer_ridge": float("nan")}, "outer_ridge"),
        ({"step_size": 0.0}, "step_size"),
        ({"draws": 5, "most_draws": 4}, "most_draws is 4"),
        ({"form": "scan", "steps_growth": 0.12}, "scan"),
        ({"features": {"kind": "ntk"}}, "'ntk' has no features"),
        ({"initialization": "analytic", "batch_size": 4}, "analytic"),
        ({"descent": {"optimizer": "newton"}}, "newton"),
        ({"initialization": "decoder_noise"}, "'pixels' has no random start"),
    ),
    "rfad": (
        ({"loss": "hinge"}, "'hinge'"),
        ({"architecture": "transformer"}, "transformer"),
    ),
    "row_selection": (
        *OF_ROWS,
        ({"weighted": True}, "weighted=True needs how='leverage'"),
        (
            {"how": "leverage", "weighted": True, "features": FOURIER},
            "weighted=True needs .* 'fourier'",
        ),
        ({"how": "leverage", "ridge": 0.0}, "needs ridge > 0"),
    ),
    "selection": (
        ({"targets": "soft"}, "'soft'"),
        ({"how": "real"}, "unknown how 'real'.*balanced"),
        ({"decoder": "webp"}, "'webp'"),
    ),
    "ssl_dd": (
        ({}, "views='rotation' needs a teacher"),
        ({"images": 0}, "images must be at least 1, got 0"),
        ({"teacher": TEACHER, "shift": "none"}, "unknown shift 'none'"),
        (
            {"teacher": TEACHER, "basis_start": "real"},
            "give initialization='decoder_noise'",
        ),
    ),
}


def test_every_method_refuses_something():
    assert set(MISTAKES) == set(methods.METHODS)
    with pytest.raises(ValueError, match="'dgkp'.*dgkip"):
        methods.make("dgkp")
    with pytest.raises(ValueError, match="method 'clp' needs 'encoder'"):
        methods.make("clp")


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [(name, *each) for name, mistakes in MISTAKES.items() for each in mistakes],
)
def test_bad_keywords_are_refused(name, keywords, message):
    with pytest.raises(ValueError, match=message):
        methods.make(name, **{**NEEDED.get(name, {}), **keywords})


def _rows_for_frepo():
    images = problems.images()
    flat = np.asarray(images.train.inputs).reshape(-1, 192)
    return images._replace(train=images.train._replace(inputs=flat))


WITH_STATISTICS = {"settings": {"depth": 1, "width": 2, "norm": "batch"}}


@pytest.mark.parametrize(
    ("name", "keywords", "problem", "message"),
    [
        ("clp", {"decoder": "pyramid"}, "digits", "preprocessing='none'"),
        ("frepo", {}, "rows", "no mirror image; give mirrored=False"),
        ("krr_st", {}, "unlabelled", "has no targets; name a teacher"),
        ("mtt", WITH_STATISTICS, "digits", "batch_stats.* give one without"),
        ("selection", {"targets": "margin"}, "digits", "is for two classes, .* has 3"),
        (
            "ssl_dd",
            {"teacher": TEACHER, "images": 2, "image_bases": 6, "target_bases": 3},
            "unlabelled",
            "a budget of 2 images is 384 numbers, but 6",
        ),
    ],
)
def test_problems_that_do_not_fit_are_refused(
    name, keywords, problem, message, three_classes
):
    made = {"unlabelled": problems.unlabelled, "rows": _rows_for_frepo}
    problem = three_classes if problem == "digits" else made[problem]()
    method = methods.make(name, **{**NEEDED.get(name, {}), **keywords})
    with pytest.raises(ValueError, match=message):
        method.prepare(jax.random.key(0), problem)


@pytest.mark.parametrize("how", ["uniform", "leverage"])
def test_more_rows_than_there_are_are_refused(how):
    problem = data.load("diabetes")
    method = methods.row_selection(how=how, count=400)
    found = method.prepare(jax.random.key(0), problem)
    with pytest.raises(ValueError, match="400 samples were asked for, .* 319"):
        method.init(jax.random.key(0), problem, found)


def test_a_number_that_is_required_cannot_be_none():
    checks.check_counts(width=None)
    checks.check_positive(tolerance=None)
    with pytest.raises(ValueError, match="width must be at least 1, got None"):
        checks.check_counts(required=True, width=None)
    with pytest.raises(ValueError, match="tolerance must be .*> 0, got None"):
        checks.check_positive(required=True, tolerance=None)
