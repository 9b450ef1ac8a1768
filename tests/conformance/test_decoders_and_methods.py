"""Every decoder with every method: a tiny run, or a refusal that says why."""

import jax
import numpy as np
import pytest

from ddjax import methods
from ddjax.synthetic.decoders import DECODERS
from ddjax.synthetic.distilled import decoded
from tests.conformance import problems
from tests.conformance.test_methods import TINY
from tests.methods.runs import distilled, run

TAKES_PAIRS_AS_THEY_ARE = ("analytic", "nystrom", "row_selection")
LEARNS = ("clp", "dgkip", "dm", "kip", "krr_st", "lgm", "regression", "rfad")
# Start and decode as `dm` does, and are tried with the decoder they have by default.
AS_DM = ("datm", "dc", "dd", "dsa", "frepo", "idm", "mtt")
# Have no classes, of which a stored sample could hold several pairs.
WITHOUT_CLASSES = ("krr_st", "regression")
# Have one of their own.
TAKES_NO_DECODER = ("pair_selection", "ssl_dd")
WITHOUT_LABELS = ("krr_st", "pair_selection", "ssl_dd")
# Any method takes any decoder: by default each learning method meets one or two, each
# decoder two or three methods. With pixels they all run in `test_methods.py`.
BRIEF = {
    "clp": ("partition",),
    "dgkip": ("bases", "partition"),
    "dm": ("partition", "pyramid"),
    "kip": ("bases", "decorrelated_colour"),
    "krr_st": (),  # with bases it is `ssl_dd`
    "lgm": ("decorrelated_colour",),
    "regression": ("decorrelated_colour", "pyramid"),
    "rfad": ("pyramid",),
}
# What has nothing to do with the decoder, and takes long to compile.
CHEAPER = {"dgkip": {"duals": "optimality"}, "regression": {"inner": "ridge"}}
OF_REGRESSION = (*TAKES_PAIRS_AS_THEY_ARE, "regression")


def unbounded(decoder):
    """For inputs that are no pixels in [0, 1]."""
    if decoder in ("bases", "partition"):
        return decoder
    return {"name": decoder, "bounds": "data"}


def _pair(name, decoder):
    refused = name in WITHOUT_CLASSES and decoder == "partition"
    brief = refused or name not in LEARNS or decoder in BRIEF[name]
    return pytest.param(name, decoder, marks=() if brief else pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        _pair(name, decoder)
        for name in sorted(set(methods.METHODS) - {*TAKES_NO_DECODER, *AS_DM})
        for decoder in sorted(DECODERS)
    ],
)
def test_a_decoder_and_a_method(name, decoder):
    keywords = {**TINY[name].keywords, **CHEAPER.get(name, {}), "decoder": decoder}
    if name in LEARNS and decoder != "pixels":
        keywords["initialization"] = "decoder_noise"
    if name in TAKES_PAIRS_AS_THEY_ARE and decoder != "pixels":
        with pytest.raises(
            ValueError, match=f"'{name}' does not go with .*'{decoder}'"
        ):
            methods.make(name, **keywords)
        return
    if name in WITHOUT_CLASSES and decoder == "partition":
        with pytest.raises(ValueError, match="this method has no classes"):
            methods.make(name, **keywords)
        return
    problem = problems.images()
    if name in OF_REGRESSION:
        problem = problems.images_with_targets()
        if decoder != "pixels":
            keywords["decoder"] = unbounded(decoder)
    method = methods.make(name, **keywords)
    data, start, state, metrics = run(method, problem, steps=2)
    for values in metrics.values():
        assert np.isfinite(values).all()
    first, last = (
        decoded(distilled(method, problem, data, each)) for each in (start, state)
    )
    assert first.inputs.shape[1:] == problem.train.inputs.shape[1:]
    assert np.array_equal(first.inputs, last.inputs) != (name in LEARNS)


@pytest.mark.parametrize("name", sorted(set(methods.METHODS) - set(WITHOUT_LABELS)))
def test_methods_need_labels_or_targets(name):
    method = methods.make(name, **TINY[name].keywords)
    with pytest.raises(
        ValueError, match="no class labels|no regression targets|has 0 classes"
    ):
        method.prepare(jax.random.key(0), problems.unlabelled())
