"""Imports neural-tangents 0.6.5 on a jax that it was not written for.

neural-tangents, last released in December 2023, takes names from `jax.core`, `jax.util`
and `jax.interpreters.ad` that jax 0.6 and later no longer have, and its `experimental`
package imports TensorFlow. `load` puts stand-ins in place while the package is being
imported and takes them away again: jax is left as it was found, and neither TensorFlow
nor `neural_tangents.experimental` is imported. Tested on jax 0.10.2 and 0.12.0.1.

This suffices for the analytic kernels, their gradients, `batch` and Monte Carlo
kernels. It does not for `neural_tangents.predict` under vmap, `max_learning_rate` and
the structured-derivatives empirical NTK.
"""

import contextlib
import functools
import importlib
import importlib.util
import os
import platform
import re
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.core
import jax.extend.core
import jax.interpreters.ad
import jaxlib.version

__all__ = ["calling", "float64_convolutions_may_crash", "load"]

_CORE_NAMES = (
    "AbstractValue",
    "Jaxpr",
    "JaxprEqn",
    "Literal",
    "Primitive",
    "ShapedArray",
    "Tracer",
    "Value",
    "Var",
    "eval_context",
)
_EXTRA = "pip install ddjax[infinite-width]"
_ABSENT = object()
_LOCK = threading.RLock()


def _safe_map(function: Callable, *sequences: Any) -> list:
    return [function(*items) for items in _safe_zip(*sequences)]


def _safe_zip(*sequences: Any) -> list:
    return list(zip(*sequences, strict=True))


@contextlib.contextmanager
def _temporarily(container: Any, values: dict[str, Any]) -> Iterator[None]:
    """Puts values into a module's dictionary, or `sys.modules`, and restores it."""
    before = {name: container.get(name, _ABSENT) for name in values}
    container.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is _ABSENT:
                container.pop(name, None)
            else:
                container[name] = value


def _missing_from_core() -> dict[str, Any]:
    """What jax.core lacks, from the public module that has it now."""
    missing = {}
    for name in _CORE_NAMES:
        # vars, not hasattr: asking jax.core for a withdrawn name may warn.
        if name not in vars(jax.core):
            missing[name] = getattr(jax.extend.core, name)
    return missing


@contextlib.contextmanager
def _withdrawn_names() -> Iterator[None]:
    util = types.ModuleType("jax.util")
    util.__dict__.update(safe_map=_safe_map, safe_zip=_safe_zip)
    modules = {"neural_tangents.experimental": types.ModuleType("experimental")}
    if importlib.util.find_spec("jax.util") is None:
        modules["jax.util"] = util
    derivatives = {}
    if "zeros_like_p" not in vars(jax.interpreters.ad):
        # neural-tangents only uses it as a dictionary's key.
        derivatives["zeros_like_p"] = object()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_temporarily(vars(jax.core), _missing_from_core()))
        stack.enter_context(_temporarily(vars(jax.interpreters.ad), derivatives))
        stack.enter_context(_temporarily(sys.modules, modules))
        yield


def load() -> types.ModuleType:
    """The package `neural_tangents`, imported if it is not yet.

    Raises:
      ImportError: it, or what it needs, is not installed (the message names the extra
        to install), or it does not import on this version of jax (the message names
        the version).
    """
    with _LOCK:
        imported = sys.modules.get("neural_tangents")
        if imported is not None:
            return imported
        before = set(sys.modules)
        try:
            with _withdrawn_names(), calling():
                package = importlib.import_module("neural_tangents")
        except Exception as error:
            for name in set(sys.modules) - before:
                if name.partition(".")[0] == "neural_tangents":
                    del sys.modules[name]
            raise _explain(error) from error
        # The stand-in: whoever wants the real one can still import it.
        vars(package).pop("experimental", None)
        return package


def _explain(error: Exception) -> ImportError:
    absent = error.name if isinstance(error, ModuleNotFoundError) else None
    if absent in ("neural_tangents", "frozendict"):
        return ImportError(
            f"{absent} is not installed: {_EXTRA} (which brings TensorFlow, as "
            "neural-tangents' metadata ask), or, without TensorFlow, "
            "pip install --no-deps neural-tangents==0.6.5 frozendict"
        )
    return ImportError(
        f"neural-tangents does not import on jax {jax.__version__}: {error!r}. It is "
        'known to on jax 0.10.2 and 0.12.0.1; backend="closed_form" needs none of it'
    )


@contextlib.contextmanager
def calling() -> Iterator[None]:
    """The default promotion rules of jax, which neural-tangents relies on."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@functools.cache
def _has_avx512() -> bool:
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return platform.machine().lower() in ("x86_64", "amd64")


def float64_convolutions_may_crash() -> bool:
    """Whether a float64 convolution could end this process with a segmentation fault.

    In jaxlib 0.8.0 to 0.10.2 (0.12.0.1 is well), XLA's CPU compiler turns the masked
    load of a padded float64 convolution with one channel into an unmasked one when it
    targets AVX-512: the program then reads before the start of its input, which is
    fatal when that memory is not mapped. Such convolutions are all that
    neural-tangents' convolutional kernels consist of.
    `XLA_FLAGS=--xla_cpu_max_isa=AVX2` in the environment before jax starts avoids it.
    """
    release = tuple(
        int(part) for part in re.findall(r"\d+", jaxlib.version.__version__)[:2]
    )
    limited = re.search(
        r"--xla_cpu_max_isa=(SSE4_2|AVX2?)\b", os.environ.get("XLA_FLAGS", "")
    )
    return (
        (0, 8) <= release < (0, 12)
        and limited is None
        and jax.default_backend() == "cpu"
        and _has_avx512()
    )
