"""The curves of a run, and the columns of a distilled table, as pictures."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ddjax.evaluation.wording import meaning
from ddjax.synthetic.distilled import (
    DistilledSet,
    decoded,
    natural_inputs,
    natural_regression_targets,
)
from ddjax.synthetic.fonts import drawable, font_file

__all__ = ["columns_png", "curves_png"]

_COLOURS = ("#2667ac", "#c8553d", "#4b8f5b", "#8a5fa8", "#b98b2f", "#4f7d86")
_RING = {"color": "#b0b0b0", "markersize": 3.5, "fillstyle": "none"}
_COLUMNS = 2
_MOST_METRICS = 4
_VALIDATION = "validation/"
# What tells how good a step is, and what its panel is called.
_QUALITIES = {
    "accuracy": "accuracy on the validation split (%)",
    "/r2": "R² on the validation split",
}
_TRAINING = {
    "loss": "loss on the training data",
    "accuracy": "accuracy on the training data (%)",
    "deviation_bound": "bound on the distance to the real data's model,\n"
    "in norms of that model (training data)",
    "gap": "duality gap (training data)",
    "real_loss": "loss of the set's model on the training data",
}
_TRAINED_ON = {
    "distilled": "distilled set",
    "random_real": "random real samples",
    "full_data": "all real samples",
}
_MOST_COLUMNS = 12


class _Line(NamedTuple):
    name: str
    steps: list[int]
    values: list[float]
    spread: list[float]


class _Panel(NamedTuple):
    title: str
    lines: list[_Line]


def curves_png(rows: Sequence[dict[str, Any]], distilled: DistilledSet) -> bytes | None:
    """Draws what was measured against the step: training metrics, then validation.

    A panel each for the loss and the other training metrics that change (four at
    most), and one for all validation accuracies or R², with their spread over draws.
    Each says which split it is of.

    Returns:
      A PNG, or None when there is nothing to draw.
    """
    panels = _panels(rows, distilled)
    if not panels:
        return None
    figure, axes = _axes(len(panels), across=_COLUMNS, size=(4.6, 2.9))
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel)
    return _png(figure)


def columns_png(distilled: DistilledSet, start: DistilledSet | None = None) -> bytes:
    """Draws a distilled table: its first target against each column, natural units.

    A dot is a sample, a ring one of the start; shaded is the real data's mean and one
    standard deviation to both sides, where the preprocessing knows them. Of more than
    twelve columns those twelve are shown along which the samples spread most, relative
    to the real data. Names that no installed font can draw become `column 3`.

    Args:
      distilled: a regression set of features `(m, d)`.
      start: the same before the first step.
    """
    of_sets = [
        (
            np.asarray(natural_inputs(each)),
            np.asarray(natural_regression_targets(each))[:, 0],
        )
        for each in (start, distilled)
        if each is not None
    ]
    spread = np.asarray(decoded(distilled).inputs).std(axis=0)
    shown = np.sort(np.argsort(-spread, kind="stable")[:_MOST_COLUMNS]).tolist()
    figure, axes = _axes(len(shown), across=4, size=(2.9, 2.4))
    names = _column_names(distilled, shown)
    for axis, column, name in zip(axes, shown, names[:-1], strict=True):
        for preprocessing, place, span in (
            (distilled.preprocessing, column, axis.axvspan),
            (distilled.targets_preprocessing, 0, axis.axhspan),
        ):
            if preprocessing is not None and preprocessing.kind == "standardize":
                mean, std = (float(each[place]) for each in preprocessing[1:3])
                span(mean - std, mean + std, color="#888888", alpha=0.12, lw=0)
        for inputs, targets in of_sets[:-1]:
            axis.plot(inputs[:, column], targets, "o", **_RING)
        inputs, targets = of_sets[-1]
        axis.plot(inputs[:, column], targets, "o", color=_COLOURS[0], markersize=3.5)
        axis.set_xlabel(name, color="#555555", **_text(name, 8))
        axis.set_ylabel(names[-1], color="#555555", **_text(names[-1], 8))
        _style(axis)
        for each in (axis.xaxis, axis.yaxis):
            each.set_major_locator(_locator(nbins=4))
    return _png(figure)


def _column_names(distilled: DistilledSet, shown: Sequence[int]) -> list[str]:
    """Of some inputs, then of the first target, with their units."""
    columns = distilled.columns
    if columns is None:
        return [*(f"x{column}" for column in shown), "y0"]
    names = [*(columns.inputs[column] for column in shown), columns.targets[0]]
    units = (columns.units.get(name) for name in names)
    pairs = zip(names, units, strict=True)
    whole = [f"{name} ({unit})" if unit else name for name, unit in pairs]
    return drawable(whole, [*(f"column {column + 1}" for column in shown), "target"])


def _text(text: str, size: int) -> dict[str, Any]:
    """How a text is set that may hold anything: `$` is no formula."""
    from matplotlib.font_manager import FontProperties

    font = FontProperties(fname=font_file(text), size=size)
    return {"fontproperties": font, "parse_math": False}


def _locator(**settings: Any) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(**settings)


def _axes(count: int, *, across: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure of so many panels, without pyplot: no global state, no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(across, count)
    down = -(-count // across)
    figure = Figure((size[0] * across, size[1] * down), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(down, across, i + 1) for i in range(count)]


def _png(figure: Any) -> bytes:
    from PIL import Image

    # `savefig` would draw everything twice.
    figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba()))
    buffer = io.BytesIO()
    image.save(buffer, format="png", dpi=(figure.dpi, figure.dpi))
    return buffer.getvalue()


def _panels(rows: Sequence[dict[str, Any]], distilled: DistilledSet) -> list[_Panel]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    metrics = [n for n in names if n not in ("step", "seconds") and "/" not in n]
    metrics.sort(key=lambda name: name != "loss")
    lines = [_line(rows, name, name) for name in metrics]
    changing = [line for line in lines if len(set(line.values)) > 1]
    panels = [
        _Panel(_TRAINING.get(line.name, f"{line.name} (training data)"), [line])
        for line in changing[:_MOST_METRICS]
    ]
    for ending, title in _QUALITIES.items():
        found = [
            _line(rows, name, _in_words(name.removeprefix(_VALIDATION), distilled))
            for name in names
            if name.startswith(_VALIDATION) and name.endswith(ending)
        ]
        if found:
            panels.append(_Panel(title, found))
    return panels


def _in_words(name: str, distilled: DistilledSet) -> str:
    """`distilled set: ridge regression`."""
    what = meaning(name, distilled)
    return f"{_TRAINED_ON[what.trained_on]}: {what.learner}"


def _line(rows: Sequence[dict[str, Any]], name: str, shown: str) -> _Line:
    found = [row for row in rows if isinstance(row.get(name), (int, float))]
    scale = 100.0 if name.endswith("accuracy") else 1.0
    return _Line(
        shown,
        [row["step"] for row in found],
        [scale * float(row[name]) for row in found],
        [scale * float(row.get(f"{name}/std") or 0.0) for row in found],
    )


def _draw(axis: Any, panel: _Panel) -> None:
    for line, colour in zip(panel.lines, _COLOURS * len(panel.lines), strict=False):
        marker = "o" if len(line.steps) <= 40 else None
        style = {"linewidth": 1.6, "marker": marker, "markersize": 3}
        axis.plot(line.steps, line.values, color=colour, **style)
        if any(line.spread):
            middle, spread = np.asarray(line.values), np.asarray(line.spread)
            band = middle - spread, middle + spread
            axis.fill_between(line.steps, *band, color=colour, alpha=0.15, lw=0)
    values = [value for line in panel.lines for value in line.values]
    if min(values) > 0 and max(values) > 50 * min(values):
        axis.set_yscale("log")
    axis.set_title(panel.title, loc="left", color="#333333", **_text(panel.title, 9))
    axis.set_xlabel("step", fontsize=8, color="#555555")
    _style(axis)
    axis.xaxis.set_major_locator(_locator(integer=True, nbins=7))
    if panel.title in _QUALITIES.values():
        names = [line.name for line in panel.lines]
        legend = axis.legend(axis.get_lines(), names, fontsize=7, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _style(axis: Any) -> None:
    axis.tick_params(labelsize=8, colors="#555555")
    for name, each in (("x", axis.xaxis), ("y", axis.yaxis)):
        if each.get_scale() == "linear":
            # 598000, not 5.98 and 1e5 in a corner.
            axis.ticklabel_format(axis=name, style="plain", useOffset=False)
    axis.grid(color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color("#bbbbbb")
