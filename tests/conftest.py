"""What every test runs under: strict promotion, the CPU, and seeds of its own."""

import functools
import gc
import itertools
import os
import platform
import socket
from importlib.metadata import version
from pathlib import Path

# XLA's flags, unless the environment names them; read when jax starts its backend.
flags = os.environ.get("XLA_FLAGS", "").split()
# Programs are small: compiled in one piece each.
defaults = {"--xla_cpu_parallel_codegen_split_count": "1"}
if platform.machine().lower() in ("x86_64", "amd64"):
    # jaxlib 0.8.0 to 0.10.2 crash while running float64 convolutions built for AVX-512;
    # tests use float64 in 32-bit runs as well.
    defaults["--xla_cpu_max_isa"] = "AVX2"
if version("jaxlib").startswith("0.10."):
    # The newer way to compile fusions takes twice as long; later ones know no other.
    defaults["--xla_cpu_use_fusion_emitters"] = "false"
given = {flag.split("=")[0] for flag in flags}
flags += [f"{flag}={value}" for flag, value in defaults.items() if flag not in given]
os.environ["XLA_FLAGS"] = " ".join(flags)
# A test draws windows on no machine.
os.environ.setdefault("MPLBACKEND", "agg")
# Tests compile more than they compute: without most of XLA's optimizations (but for the
# runs of `test_end_to_end.py`), and what was compiled once is read by every process.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(__file__).parent.parent / ".pytest_cache" / "compiled"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Where in the sources an operation comes from is nothing that a program needs.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# As many processes as cores run side by side; more threads each would only wait.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

# Traces leave many objects behind that live on; looking through them again and again
# is a tenth of the time.
gc.set_threshold(50_000, 20, 100)


def _share_compiler_contexts(programs: int = 500) -> None:
    """Lowers many programs in one MLIR context each, in place of one in one.

    For the small programs of tests, making a context and destroying it takes a third
    of the time. Jax has no public switch; without the private function nothing changes.
    """
    try:
        from jax._src.interpreters import mlir

        make = mlir.make_ir_context
    except (ImportError, AttributeError):
        return
    counter = itertools.count()
    of_group = functools.lru_cache(maxsize=1)(lambda group: make())
    mlir.make_ir_context = lambda: of_group(next(counter) // programs)


_share_compiler_contexts()


def _place_arrays_without_a_program() -> None:
    """Makes jax arrays of NumPy's without compiling a copy for each shape and dtype.

    A tenth of the programs that the tests compiled were such copies. Jax has no public
    switch here either.
    """
    try:
        from jax._src.lax.lax import stage_p

        staged = stage_p.impl
    except (ImportError, AttributeError):
        return

    @stage_p.def_impl
    def place(value):
        if isinstance(value, np.ndarray | np.generic):
            return jax.device_put(np.array(value))
        return staged(value)


_place_arrays_without_a_program()

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples at every run, whatever the machine: a test fails because of what was
# changed, not now and then.
hypothesis.settings.register_profile(
    "ddjax", deadline=None, max_examples=20, derandomize=True, print_blob=True
)
hypothesis.settings.load_profile("ddjax")


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "default_promotion: runs other libraries' code, which jax's strict dtype and "
        "rank promotion would refuse",
    )


def pytest_unconfigure():
    # What is left dies with the process: looking for cycles in it takes seconds.
    gc.freeze()


def pytest_collection_modifyitems(items):
    has_gpu = any(item.get_closest_marker("gpu") for item in items) and (
        jax.default_backend() == "gpu"
    )
    for item in items:
        if item.get_closest_marker("gpu") and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="no GPU on this machine"))
        if item.get_closest_marker("real_data") and not os.environ.get(
            "DDJAX_DATA_DIR"
        ):
            item.add_marker(pytest.mark.skip(reason="DDJAX_DATA_DIR is not set"))


@pytest.fixture(autouse=True)
def _default_promotion(request):
    """Jax's own promotion for the tests marked `default_promotion`."""
    if request.node.get_closest_marker("default_promotion"):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield
    else:
        yield


@pytest.fixture(autouse=True)
def _compiled_as_quickly_as_at_the_start():
    """Fails the test after one that left jax compiling in another way."""
    setting = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] not in ("0", "false")
    assert jax.config.values["jax_disable_most_optimizations"] == setting


@pytest.fixture(params=["float32", "float64"])
def each_precision(request):
    """A test that holds in jax's default precision and under x64 is run in both."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def x64():
    """Runs a test under x64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def _no_global_seed():
    """Fails a test whose code draws from, or seeds, NumPy's global generator."""
    before = np.random.get_state(legacy=False)
    yield
    after = np.random.get_state(legacy=False)
    same = before["state"]["pos"] == after["state"]["pos"] and np.array_equal(
        before["state"]["key"], after["state"]["key"]
    )
    assert same, "NumPy's global random state changed; pass keys or a Generator"


@pytest.fixture(scope="session", autouse=True)
def _no_network():
    """Refuses connections to other machines: every test runs without a network."""
    connect = socket.socket.connect

    def local_only(self, address):
        inet = self.family in (socket.AF_INET, socket.AF_INET6)
        if inet and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise ConnectionRefusedError(f"a test tried to connect to {address[0]}")
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local_only)
        yield


@pytest.fixture(scope="session")
def digits():
    """Scikit-learn's digits: images `(1797, 8, 8, 1)` float32 in [0, 1], labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    scaled = (images / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    return scaled, labels.astype(np.int32)
