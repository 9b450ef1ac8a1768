"""How a run looks while it runs: a moving line, or a plain line now and then."""

import shutil
import sys
import time
from collections.abc import Iterable, Sequence

__all__ = ["Progress", "duration", "table"]

_PLAIN_INTERVAL = 15.0
_MOVING_INTERVAL = 0.1
_BAR = 12
# To the first column, and everything on the line away.
_CLEAR = "\r\x1b[2K"


class Progress:
    """Shows the step, the loss, steps a second and the time that is left.

    On a terminal it is one moving line. Elsewhere (a file, a pipe) it is a plain line
    after the first chunk, then every 15 seconds, and at the end.
    """

    def __init__(self, *, steps: int, enabled: bool = True):
        """Shows a run of `steps` steps."""
        self._steps, self._enabled = steps, enabled
        self._moving = enabled and sys.stdout.isatty()
        self._line = ""
        # Whether an unfinished line stands on the terminal.
        self._standing = False
        # Where and when the first chunk ended.
        self._first: tuple[int, float] | None = None
        self._shown = 0.0

    def update(self, step: int, loss: float, step_seconds: float) -> None:
        """The run is at `step`; its last chunk took so long for each step."""
        if not self._enabled:
            return
        now = time.perf_counter()
        self._line = f"step {step}/{self._steps}  loss {loss:.4g}"
        if self._first is None:
            # The first chunk pays for things that the others do not: no measure.
            self._first = (step, now)
        else:
            # Evaluations and checkpoints are in what is left as in what is past.
            each = (now - self._first[1]) / (step - self._first[0])
            left = duration((self._steps - step) * each)
            self._line += f"  {_rate(1 / step_seconds)} steps/s  {left} left"
        interval = _MOVING_INTERVAL if self._moving else _PLAIN_INTERVAL
        if now - self._shown > interval or step == self._steps:
            self._shown = now
            if self._moving:
                self._redraw(step)
            else:
                print(self._line, flush=True)

    def say(self, line: str) -> None:
        """Prints a line without breaking the moving one."""
        if self._enabled:
            print(f"{_CLEAR}{line}" if self._standing else line, flush=True)
            self._standing = False

    def close(self) -> None:
        """Leaves the last state of the line standing."""
        if self._standing:
            print(flush=True)

    def _redraw(self, step: int) -> None:
        done = round(_BAR * step / max(self._steps, 1))
        text = f"[{'#' * done}{'.' * (_BAR - done)}] {self._line}"
        width = shutil.get_terminal_size().columns
        print(f"{_CLEAR}{text[: width - 1]}", end="", flush=True)
        self._standing = True


def _rate(rate: float) -> str:
    return f"{rate:.3g}" if rate < 1000 else f"{rate:,.0f}"


def duration(seconds: float) -> str:
    """Seconds in words: `12.3 s`, `4 min 05 s`, `2 h 13 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1
) -> str:
    """A plain table: the first `words` columns to the left, the others to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])

    def text(cells: Sequence[str]) -> str:
        parts = [
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return "\n".join(text(line) for line in lines)
