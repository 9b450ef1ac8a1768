"""How a command ends: one line where it was to be expected, and an exit status."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from ddjax import runtime
from experiments.settings import ConfigError, one_line

__all__ = ["end", "expected_ends", "warn"]


def end(message: str, status: int) -> NoReturn:
    """Says why and leaves."""
    print(message, file=sys.stderr)
    sys.exit(status)


def warn(message: Any, *_: Any, **__: Any) -> None:
    """A warning as one line; for `warnings.showwarning`."""
    print(f"warning: {message}", file=sys.stderr)


@contextlib.contextmanager
def expected_ends(*, when_full: str = "") -> Iterator[None]:
    """Turns what may come of a run into a line and the status that `--help` names.

    Args:
      when_full: said after what could not be written.
    """
    try:
        yield
    except (ConfigError, runtime.WorkdirInUse) as error:
        end(f"error: {error}", 2)
    except runtime.CannotWrite as error:
        end(f"error: {one_line(error)}{when_full}", 3)
    except runtime.NotEnoughMemory as error:
        end(f"error: {one_line(error)}", 4)
    except runtime.Diverged as error:
        end(f"error: {error}", 1)
    except runtime.Interrupted as error:
        end(str(error), 128 + error.signum)
    except KeyboardInterrupt:
        end("stopped by Ctrl-C; run the same command again to go on", 130)
