"""What jax compiles, kept from one command to the next."""

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import jax

__all__ = ["keep_compiled_programs"]

_LARGEST = 2**30


def keep_compiled_programs() -> Path | None:
    """Lets jax keep compiled programs on disk: a second run starts in half the time.

    They are kept in `ddjax/compiled` of `XDG_CACHE_HOME` or `~/.cache`, apart for each
    kind of processor, up to 1 GiB, the least used leave first. A program from there is
    the machine code that was compiled, so that results are the same bits. Jax's own
    settings come first: `JAX_COMPILATION_CACHE_DIR` names another folder,
    `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing.

    Returns:
      The folder, or None where the settings are jax's own or it cannot be written.
    """
    config: Any = jax.config
    named = config.jax_compilation_cache_dir is not None
    if named or not config.jax_enable_compilation_cache:
        return None
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = caches / "ddjax" / "compiled" / _processor()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    if not os.access(folder, os.W_OK):
        return None
    config.update("jax_compilation_cache_dir", str(folder))
    config.update("jax_compilation_cache_max_size", _LARGEST)
    # A run compiles a hundred programs, most of them in a tenth of a second.
    config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder


def _processor() -> str:
    """A name for what programs are compiled for, which jax's keys leave out on CPU."""
    known = [platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    known += [
        next((line for line in lines if line.startswith(start)), "")
        for start in ("model name", "flags", "Features")
    ]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]
