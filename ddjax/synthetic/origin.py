"""Where a distilled set comes from, as JSON-able records."""

import platform
from importlib import metadata
from typing import Any

import ddjax
from ddjax.data.problem import Problem

__all__ = ["provenance"]


def provenance(
    problem: Problem, *, method: str, config: dict[str, Any], seeds: dict[str, int]
) -> dict[str, Any]:
    """What a run must leave behind so that it can be repeated.

    It holds no time, host or path, so that equal runs leave equal records.

    Args:
      problem: the real data that were distilled.
      method: the method's registered name.
      config: everything the run was configured with (JSON-able).
      seeds: every seed by what it was used for.

    Returns:
      `method`, `config`, `seeds`, `data` (name, fingerprint, source) and `versions`.
    """
    packages = ("jax", "jaxlib", "numpy", "optax", "scikit-learn", "safetensors")
    versions = {"ddjax": ddjax.__version__, "python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in packages}
    return {
        "method": method,
        "config": config,
        "seeds": seeds,
        "data": {
            "name": problem.name,
            "fingerprint": problem.fingerprint,
            "source": problem.source,
        },
        "versions": versions,
    }
