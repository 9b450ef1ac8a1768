"""SIGTERM and Ctrl-C: a run stops between two chunks, with everything saved."""

import signal
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Interrupted", "StopRequest"]

Result = TypeVar("Result")


class Interrupted(Exception):
    """A run was asked to stop and did, without losing a step.

    Attributes:
      signum: the signal that asked.
    """

    def __init__(self, message: str, signum: int):
        """With a message for the user that says how to go on."""
        super().__init__(message)
        self.signum = signum


class _StopNow(BaseException):
    """Leaves the work that `StopRequest.run_unless_stopped` does."""


class StopRequest:
    """Remembers a SIGTERM or SIGINT until the loop comes to look.

    As a context manager it takes both signals over and gives them back. A second Ctrl-C
    ends the process as usual. Outside the main thread Python cannot take signals over;
    there it does nothing.
    """

    def __init__(self) -> None:
        """No signal has come."""
        self.signum: int | None = None
        self._at_once = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        """Takes the signals over."""
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT):
                self._before[signum] = signal.signal(signum, self._received)
        return self

    def __exit__(self, *exception: object) -> None:
        """Gives them back."""
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # pyright: ignore[reportArgumentType]
        self._before.clear()

    def run_unless_stopped(self, work: Callable[[], Result]) -> Result | None:
        """Does `work`, or gives it up where it is when a signal comes: None then."""
        if self.signum is not None:
            return None
        self._at_once = True
        try:
            return work()
        except _StopNow:
            return None
        finally:
            self._at_once = False

    def _received(self, signum: int, frame: object) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum
        if self._at_once:
            self._at_once = False
            raise _StopNow
