"""Records that no command has measured, for the tables."""

from typing import Any


def record(name: str, results: Any, **fields: Any) -> dict[str, Any]:
    """A record of seed 0 with these results; `fields` stand in place of others."""
    return {
        "name": name,
        "config": {},
        "seed": 0,
        "scale": "tiny",
        "reduced": None,
        "hardware": {"processor": "P", "cores": 2, "devices": ["cpu"]},
        "wall_seconds": 60.0,
        "results": results,
        **fields,
    }
