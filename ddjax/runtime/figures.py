"""The curves of a run as a picture."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["curves_png"]

_COLOURS = ("#2667ac", "#c8553d", "#4b8f5b", "#8a5fa8", "#b98b2f", "#4f7d86")
_COLUMNS = 2
_MOST_METRICS = 4
_VALIDATION = "validation/"


class _Line(NamedTuple):
    name: str
    steps: list[int]
    values: list[float]
    spread: list[float]


class _Panel(NamedTuple):
    title: str
    lines: list[_Line]


def curves_png(rows: Sequence[dict[str, Any]]) -> bytes | None:
    """Draws what was measured against the step: training metrics, then validation.

    A panel each for the loss and the other training metrics that change (four at
    most), and one for all validation accuracies, with their spread over draws.

    Args:
      rows: of `ddjax.runtime.metrics.read`.

    Returns:
      A PNG, or None when there is nothing to draw.
    """
    panels = _panels(rows)
    if not panels:
        return None
    # Without pyplot: no global state, no window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(_COLUMNS, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(4.6 * across, 2.9 * down), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    for place, panel in enumerate(panels, start=1):
        _draw(figure.add_subplot(down, across, place), panel)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panels(rows: Sequence[dict[str, Any]]) -> list[_Panel]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    metrics = [n for n in names if n not in ("step", "seconds") and "/" not in n]
    metrics.sort(key=lambda name: name != "loss")
    lines = [_line(rows, name, name) for name in metrics]
    changing = [line for line in lines if len(set(line.values)) > 1]
    panels = [_Panel(line.name, [line]) for line in changing[:_MOST_METRICS]]
    accuracies = [
        _line(rows, name, name.removeprefix(_VALIDATION))
        for name in names
        if name.startswith(_VALIDATION) and name.endswith("accuracy")
    ]
    if accuracies:
        panels.append(_Panel("validation accuracy", accuracies))
    return panels


def _line(rows: Sequence[dict[str, Any]], name: str, shown: str) -> _Line:
    found = [row for row in rows if isinstance(row.get(name), (int, float))]
    return _Line(
        shown,
        [row["step"] for row in found],
        [float(row[name]) for row in found],
        [float(row.get(f"{name}/std") or 0.0) for row in found],
    )


def _draw(axis: Any, panel: _Panel) -> None:
    for line, colour in zip(panel.lines, _COLOURS * len(panel.lines), strict=False):
        marker = "o" if len(line.steps) <= 40 else None
        axis.plot(
            *(line.steps, line.values),
            color=colour,
            linewidth=1.6,
            marker=marker,
            markersize=3,
            label=line.name,
        )
        if any(line.spread):
            low = [v - s for v, s in zip(line.values, line.spread, strict=True)]
            high = [v + s for v, s in zip(line.values, line.spread, strict=True)]
            axis.fill_between(line.steps, low, high, color=colour, alpha=0.15, lw=0)
    values = [value for line in panel.lines for value in line.values]
    if min(values) > 0 and max(values) > 50 * min(values):
        axis.set_yscale("log")
    axis.set_title(panel.title, fontsize=10, loc="left", color="#333333")
    axis.set_xlabel("step", fontsize=8, color="#555555")
    axis.tick_params(labelsize=8, colors="#555555")
    axis.grid(color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color("#bbbbbb")
    if len(panel.lines) > 1:
        axis.legend(fontsize=7, frameon=False)
