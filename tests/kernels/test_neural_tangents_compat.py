import contextlib
import importlib.util
import json
import sys

import jax
import jax.core
import jax.interpreters.ad
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.kernels import _neural_tangents, infinite_width, random_features
from tests.kernels.test_infinite_width import (
    assert_agrees_with_golden,
    cases,
    golden,
    relative,
)
from tests.processes import python
from tests.slow import slow

INSTALLED = all(
    importlib.util.find_spec(name) for name in ("neural_tangents", "frozendict")
)
needs_neural_tangents = pytest.mark.skipif(
    not INSTALLED, reason="neural-tangents is not installed"
)


def backend(architecture, **settings):
    return infinite_width.kernel_fn(architecture, backend="neural_tangents", **settings)


# --- agreement with the goldens ------------------------------------------------------


@needs_neural_tangents
@cases({("fully_connected", "ntk")})
def test_kernels_and_pixel_gradients(case, kind):
    architecture, stored = golden(case)
    assert_agrees_with_golden(backend(architecture, kind=kind), stored, kind, 1e-10)


@needs_neural_tangents
@pytest.mark.parametrize("readout", [True, slow(False)])
def test_float32_agrees_with_the_closed_form(readout):
    architecture = random_features.convolutional(depth=1)
    draw = np.random.default_rng(0).normal
    x1, x2 = (jnp.asarray(draw(size=(n, 4, 4, 2)), jnp.float32) for n in (2, 3))
    settings = {"kind": "ntk", "include_readout": readout}
    expected = infinite_width.kernel_fn(architecture, **settings)(x1, x2)
    found = backend(architecture, block=2, **settings)(x1, x2)
    assert relative(found, expected) < 2e-6


# --- what the import leaves behind ---------------------------------------------------

FRESH = """
import json, sys
import jax, jax.core, jax.numpy as jnp, jax.extend.core, jax.interpreters.ad
import ddjax.kernels.infinite_width as infinite_width
from ddjax.kernels import duality, losses, random_features, ridge
from ddjax.solvers import erm

heavy = {"flax", "neural_tangents", "frozendict", "tensorflow", "matplotlib", "scipy"}
loaded_by_kernels = sorted(heavy & set(sys.modules))
names = ("jax", "jax.core", "jax.interpreters", "jax.interpreters.ad")
before = {name: set(dir(sys.modules[name])) for name in names}
modules = set(sys.modules)
kernel = infinite_width.kernel_fn(
    random_features.fully_connected(depth=1), backend="neural_tangents"
)
changed = {name: sorted(before[name] ^ set(dir(sys.modules[name]))) for name in names}
value = kernel(jnp.ones((2, 3)), jnp.ones((1, 3)))
import neural_tangents
print(json.dumps({
    "loaded_by_kernels": loaded_by_kernels,
    "changed": changed,
    "modules": sorted(set(sys.modules) - modules),
    "experimental": hasattr(neural_tangents, "experimental"),
    "shape": value.shape,
}))
"""


@needs_neural_tangents
def test_the_import_leaves_no_trace():
    found = json.loads(python("-c", FRESH, JAX_PLATFORMS="cpu"))
    assert found["loaded_by_kernels"] == []
    # Submodules of jax that neural-tangents imports stay: they are jax's own.
    submodules = {"example_libraries", "flatten_util"}
    assert set(found["changed"].pop("jax")) <= submodules
    assert all(names == [] for names in found["changed"].values()), found["changed"]
    assert "jax.util" not in found["modules"]
    roots = {name.partition(".")[0] for name in found["modules"]}
    assert not roots & {"tensorflow", "tf2jax", "flax"}
    assert not any("experimental.empirical" in name for name in found["modules"])
    assert found["experimental"] is False
    assert found["shape"] == [2, 1]


@contextlib.contextmanager
def not_yet_imported():
    """As if neural-tangents had never been imported in this process."""
    names = [n for n in sys.modules if n.partition(".")[0] == "neural_tangents"]
    removed = {name: sys.modules.pop(name) for name in names}
    try:
        yield
    finally:
        for name in list(sys.modules):
            if name.partition(".")[0] == "neural_tangents":
                del sys.modules[name]
        sys.modules.update(removed)


def test_a_missing_package_names_the_extra(monkeypatch):
    with not_yet_imported():
        monkeypatch.setitem(sys.modules, "neural_tangents", None)
        with pytest.raises(ImportError, match=r"ddjax\[infinite-width\]"):
            backend(random_features.fully_connected())


@needs_neural_tangents
def test_a_jax_on_which_it_fails_is_named_and_left_as_it_was(monkeypatch):
    core, derivatives = set(vars(jax.core)), set(vars(jax.interpreters.ad))
    monkeypatch.setattr(jax.core, "ShapedArray", None)
    monkeypatch.delattr(jax.core, "ShapedArray")
    with not_yet_imported():
        with pytest.raises(ImportError, match=f"on jax {jax.__version__}: .*ShapedArr"):
            _neural_tangents.load()
        assert not [n for n in sys.modules if n.startswith("neural_tangents")]
    assert set(vars(jax.core)) | {"ShapedArray"} == core
    assert set(vars(jax.interpreters.ad)) == derivatives
    assert "jax.util" not in sys.modules


@needs_neural_tangents
def test_a_failure_within_the_package_leaves_no_half_import(monkeypatch):
    with not_yet_imported():
        monkeypatch.setitem(sys.modules, "jax.example_libraries.stax", None)
        with pytest.raises(ImportError, match=jax.__version__):
            _neural_tangents.load()
        assert not [n for n in sys.modules if n.startswith("neural_tangents")]


# --- float64 convolutions ------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "flags", "avx512", "expected"),
    [
        ("0.7.2", "", True, False),
        ("0.8.0", "", True, True),
        ("0.10.2", "", True, True),
        ("0.10.2", "", False, False),
        ("0.10.2", "--xla_cpu_max_isa=AVX2", True, False),
        ("0.10.2", "--a=b --xla_cpu_max_isa=AVX512", True, True),
        ("0.12.0.1", "", True, False),
    ],
)
def test_where_float64_convolutions_may_crash(
    monkeypatch, version, flags, avx512, expected
):
    monkeypatch.setattr("jaxlib.version.__version__", version)
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(_neural_tangents, "_has_avx512", lambda: avx512)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert _neural_tangents.float64_convolutions_may_crash() is expected


@needs_neural_tangents
def test_float64_is_refused_where_it_could_crash(monkeypatch):
    monkeypatch.setattr(
        _neural_tangents, "float64_convolutions_may_crash", lambda: True
    )
    kernel = backend(random_features.convolutional(depth=1))
    with jax.enable_x64(True):
        images = jnp.ones((2, 4, 4, 1), jnp.float64)
        with pytest.raises(RuntimeError, match="xla_cpu_max_isa=AVX2"):
            kernel(images, images)
        fully_connected = backend(random_features.fully_connected(depth=1))
        assert np.isfinite(fully_connected(images, images)).all()
