"""How a run looks while it runs: a moving line, or a plain line now and then."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Progress", "duration", "table"]

_PLAIN_INTERVAL = 15.0


class Progress:
    """Shows the step, the loss, steps a second and the time that is left.

    On a terminal it is one moving line (tqdm). Elsewhere (a file, a pipe) it is a plain
    line at the first chunk, then every 15 seconds, and at the end.
    """

    def __init__(self, *, steps: int, start: int, enabled: bool = True):
        """Shows a run that goes from `start` to `steps`."""
        self._steps, self._start, self._enabled = steps, start, enabled
        self._began = self._shown = time.perf_counter()
        self._bar = None
        if enabled and sys.stdout.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=steps,
                initial=start,
                unit="step",
                dynamic_ncols=True,
                file=sys.stdout,
                desc="distilling",
            )

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """The run is at `step`."""
        if self._bar is not None:
            self._bar.set_postfix({"loss": f"{metrics['loss']:.4g}"}, refresh=False)
            self._bar.update(step - self._bar.n)
        elif self._enabled and self._due(step):
            self._shown = time.perf_counter()
            elapsed = self._shown - self._began
            rate = (step - self._start) / max(elapsed, 1e-9)
            left = duration((self._steps - step) / rate)
            self.say(
                f"step {step}/{self._steps}  loss {metrics['loss']:.4g}  "
                f"{rate:.3g} steps/s  {left} left"
            )

    def say(self, line: str) -> None:
        """Prints a line without breaking the moving one."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stdout)
        elif self._enabled:
            print(line, flush=True)

    def close(self) -> None:
        """Leaves the last state of the line standing."""
        if self._bar is not None:
            self._bar.close()

    def _due(self, step: int) -> bool:
        first = self._shown == self._began
        waited = time.perf_counter() - self._shown > _PLAIN_INTERVAL
        return first or waited or step == self._steps


def duration(seconds: float) -> str:
    """Seconds in words: `12.3 s`, `4 min 05 s`, `2 h 13 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain table: the first column to the left, the others to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])

    def text(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)]
        return "  ".join([first, *rest]).rstrip()

    return "\n".join(text(line) for line in lines)
