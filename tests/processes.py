"""Python in a process of its own, for what a process does only once."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python(*arguments, cwd=ROOT, **environment) -> str:
    """What `python ARGUMENTS` prints; it has to end with status 0.

    Args:
      *arguments: of the interpreter.
      cwd: where it runs.
      **environment: variables that differ from this process's.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
