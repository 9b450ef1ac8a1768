"""Where a distilled set comes from, as JSON-able records."""

import platform
from importlib import metadata
from typing import Any

import ddjax
from ddjax.data.problem import Problem, identity

__all__ = ["provenance"]


def provenance(
    problem: Problem,
    *,
    method: str,
    settings: dict[str, Any],
    seeds: dict[str, int],
    config: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What a run must leave behind so that it can be repeated.

    It holds no time, host or path, so that equal runs leave equal records.

    Args:
      problem: the real data that were distilled.
      method: the method's registered name.
      settings: every keyword that made the method (JSON-able).
      seeds: every seed by what it was used for.
      config: everything the run was configured with (JSON-able), where there was a
        configuration.

    Returns:
      `method`, `settings`, `seeds`, `data` (name, fingerprint, identity, source),
      `versions`, and `config` where it is given.
    """
    packages = ("jax", "jaxlib", "numpy", "optax", "scikit-learn", "safetensors")
    versions = {"ddjax": ddjax.__version__, "python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in packages}
    record = {
        "method": method,
        "settings": settings,
        "seeds": seeds,
        "data": {
            "name": problem.name,
            "fingerprint": problem.fingerprint,
            "identity": identity(problem),
            "source": problem.source,
        },
        "versions": versions,
    }
    return record if config is None else {**record, "config": config}
