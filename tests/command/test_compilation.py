"""What jax compiles is kept, and gives the same bits."""

import os
import subprocess
import sys

import jax

from ddjax.command.compilation import keep_compiled_programs

PROGRAM = """
from ddjax.command.compilation import keep_compiled_programs
print(keep_compiled_programs())
import jax, jax.numpy as jnp, numpy as np

@jax.jit
def program(x):
    return jnp.linalg.cholesky(jnp.tanh(x) @ jnp.tanh(x).T + jnp.eye(40)).sum(axis=0)

rows = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
print(np.asarray(program(rows)).tobytes().hex())
"""


def run(home, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=kept | {"XDG_CACHE_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    folder, values = found.stdout.split()
    assert not found.stderr, found.stderr
    return folder, values


def test_programs_are_kept_and_give_the_same_bits(tmp_path):
    folder, compiled = run(tmp_path)
    assert folder.startswith(str(tmp_path / "ddjax" / "compiled"))
    kept = {file.name for file in os.scandir(folder) if "program" in file.name}
    assert kept
    times = {name: os.stat(os.path.join(folder, name)).st_mtime_ns for name in kept}
    assert run(tmp_path) == (folder, compiled)
    for name, time in times.items():
        # What is read again is not written again; only its time of use is noted.
        assert os.stat(os.path.join(folder, name)).st_mtime_ns == time or (
            "atime" in name
        )


def test_jaxs_own_settings_come_first(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # The tests have a folder of their own.
    assert jax.config.jax_compilation_cache_dir
    assert keep_compiled_programs() is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_no_matter(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    named = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        assert keep_compiled_programs() is None
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", named)
