"""`ddjax doctor`: what is installed, where it would compute, and known traps."""

import os
import shutil
from argparse import Namespace
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ddjax.kernels._neural_tangents import float64_convolutions_may_crash
from ddjax.runtime import devices
from ddjax.runtime.memory import free_memory, in_units
from ddjax.storage.places import data_directory

__all__ = ["run"]

# What is optional, and the extra that installs it.
_EXTRAS = {
    "neural-tangents": "infinite-width",
    "tensorflow-datasets": "tfds",
    "pyarrow": "tabular",
}


def run(arguments: Namespace) -> None:
    """Prints what there is, then a warning for each known trap."""
    del arguments
    rows = [*_versions(), *_machine(), *_places()]
    print("\n".join(f"{name:<20} {text}" for name, text in rows))
    traps = _traps()
    print("\n".join(["", *(traps or ["no known trap"])]))


def _versions() -> list[tuple[str, str]]:
    found = devices.versions()
    for package, extra in _EXTRAS.items():
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = f"not installed: pip install 'ddjax[{extra}]'"
    return list(found.items())


def _machine() -> list[tuple[str, str]]:
    machine = devices.hardware()
    free = free_memory()
    rows = [
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
        ("memory", f"{machine['memory_gib']} GiB"),
    ]
    rows += [(f"device {each.id}", _device(each)) for each in jax.devices()]
    return [
        *rows,
        ("free where it runs", "not known" if free is None else in_units(free)),
        ("precision", f"{jnp.zeros(()).dtype} (JAX_ENABLE_X64=1 gives float64)"),
    ]


def _device(device: Any) -> str:
    limit = (device.memory_stats() or {}).get("bytes_limit")
    memory = "" if limit is None else f", {in_units(limit)}"
    return f"{device.platform}: {device.device_kind}{memory}"


def _places() -> list[tuple[str, str]]:
    folder = data_directory()
    why = "DDJAX_DATA_DIR" if os.environ.get("DDJAX_DATA_DIR") else "the default"
    if folder.is_dir():
        names = sorted(each.name for each in folder.iterdir() if each.is_dir())
        holds = f"holds {', '.join(names) or 'no folders'}"
    else:
        holds = "does not exist; digits and diabetes need no files"
    here = Path.cwd()
    free = in_units(shutil.disk_usage(here).free)
    return [
        ("data", f"{folder.absolute()} ({why}): {holds}"),
        ("free disk", f"{free} at {here}"),
    ]


def _traps() -> list[str]:
    """A sentence for each known trap that this machine is in."""
    found = []
    if float64_convolutions_may_crash():
        found.append(
            "warning: this jaxlib can crash in float64 on convolutional kernels of "
            "neural-tangents on processors with AVX-512: set "
            "XLA_FLAGS=--xla_cpu_max_isa=AVX2 before Python starts"
        )
    if jax.default_backend() == "cpu" and _has_nvidia_card():
        found.append(
            "warning: there is an NVIDIA card, and jax computes on the CPU: pip "
            "install 'ddjax[gpu]'"
        )
    return found


def _has_nvidia_card() -> bool:
    return any(Path("/proc/driver/nvidia/gpus").glob("*"))
