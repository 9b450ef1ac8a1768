"""A distilled set as a picture: one row a class, one column a sample."""

import io
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from ddjax.synthetic.distilled import DistilledSet, decoded, natural_inputs
from ddjax.synthetic.export import write
from ddjax.synthetic.files import DistilledSetError
from ddjax.synthetic.fonts import drawable, font_file
from ddjax.synthetic.targets import predicted_labels

__all__ = ["draw", "to_png"]

_PAPER, _INK, _FRAME = (255, 255, 255), (51, 51, 51), (214, 214, 214)
_OWN_CLASS, _OTHER_CLASSES = (38, 103, 172), (176, 176, 176)

_LARGEST_TILE = 96
_LARGEST_WIDTH = 1600
_LARGEST_NAME = 180


class _Row(NamedTuple):
    name: str
    label: int | None
    samples: list[int]


class _Cell(NamedTuple):
    """A sample, its row's class, and its upper left corner."""

    sample: int
    label: int | None
    x: int
    y: int


class _Plan(NamedTuple):
    """Where everything goes, in pixels; names are (text, right edge, middle)."""

    size: tuple[int, int]
    scale: int
    tile: tuple[int, int]
    strip: int
    font: Any
    cells: list[_Cell]
    names: list[tuple[str, int, int]]


def to_png(
    path: str | os.PathLike[str],
    distilled: DistilledSet,
    *,
    annotate: bool = False,
    title: str | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Path:
    """Writes the picture that `draw` makes, with its settings, as a PNG file.

    Returns:
      The path of the file, which was replaced in one step.

    Raises:
      DistilledSetError: the inputs are not images, or the file cannot be written.
    """
    from PIL import Image

    path = Path(path)
    try:
        picture = draw(distilled, annotate=annotate, title=title, limits=limits)
    except ValueError as error:
        raise DistilledSetError(f"{path}: cannot be drawn: {error}") from error
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return write(path, buffer.getvalue())


def draw(
    distilled: DistilledSet,
    *,
    annotate: bool = False,
    title: str | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
) -> UInt8[ndarray, "height width 3"]:
    """Draws the samples in natural pixel space, row by class, enlarged without blur.

    Rows are named by class: with the class's number where no installed font can draw
    a name, which a warning says. Samples without labels are filed under the class that
    their target names, or follow each other when there are no classes. Many short rows
    are set in panels side by side; a very long row is broken into lines.

    Args:
      distilled: a set of images `(h, w, 1)` or `(h, w, 3)`.
      annotate: draw each sample's target under it: one bar a class, the row's own class
        in blue and all bars to one scale; where they would not fit, the number of the
        row's class (of the largest, where there is none); the number where there is
        only one.
      title: a line above the picture.
      limits: the natural values that become black and white; what is beyond is clipped.

    Returns:
      An RGB picture.

    Raises:
      ValueError: the inputs are not images, or the limits do not increase.
    """
    from PIL import Image, ImageDraw

    images = _pixels(distilled, limits)
    targets = np.asarray(decoded(distilled).targets, np.float64)
    plan = _plan(_rows(distilled, targets), images.shape[1:3], annotate)
    title = None if title is None else drawable([title], ["distilled samples"])[0]
    heading, first = _font(plan.font.size + 2, title or ""), plan.cells[0].x
    top = 0 if title is None else 2 * plan.font.size
    wide = math.ceil(heading.getlength(title or "")) + 2 * first
    picture = Image.new("RGB", (max(plan.size[0], wide), plan.size[1] + top), _PAPER)
    pen = ImageDraw.Draw(picture)
    if title is not None:
        place = (first, round(0.7 * top))
        pen.text(place, title, fill=_INK, font=heading, anchor="lm")
    for name, right, middle in plan.names:
        font = _font(plan.font.size, name)
        pen.text((right, middle + top), name, fill=_INK, font=font, anchor="rm")
    width, height = plan.tile
    for cell in plan.cells:
        x, y = cell.x, cell.y + top
        tile = images[cell.sample].repeat(plan.scale, 0).repeat(plan.scale, 1)
        pen.rectangle((x - 1, y - 1, x + width, y + height), outline=_FRAME)
        picture.paste(Image.fromarray(tile), (x, y))
        if annotate:
            box = (x, y + height + 2, x + width - 1, y + height + plan.strip - 2)
            _draw_target(pen, box, targets, cell, plan.font)
    return np.asarray(picture)


def _pixels(
    distilled: DistilledSet, limits: tuple[float, float]
) -> UInt8[ndarray, "m h w 3"]:
    low, high = limits
    if not low < high:
        raise ValueError(f"limits are {limits}; the first must be below the second")
    images = np.asarray(natural_inputs(distilled), np.float64)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"inputs of shape {images.shape[1:]} are no images; expected (h, w, 1) or "
            "(h, w, 3)"
        )
    shades = np.clip((images - low) / (high - low), 0.0, 1.0)
    shades = np.broadcast_to(shades, (*images.shape[:3], 3))
    return np.round(255 * shades).astype(np.uint8)


def _rows(distilled: DistilledSet, targets: Float[ndarray, "m *c"]) -> list[_Row]:
    names, labels = distilled.class_names, distilled.labels
    kind = distilled.targets_kind
    if labels is None and names and kind not in ("regression", "representation"):
        labels = predicted_labels(targets, kind)
    if labels is None or not names:
        return [_Row("", None, list(range(len(targets))))]
    labels = np.asarray(labels)
    shown = drawable(names, [f"class {label}" for label in range(len(names))])
    rows = [
        _Row(name, label, np.flatnonzero(labels == label).tolist())
        for label, name in enumerate(shown)
    ]
    return [row for row in rows if row.samples]


def _arrange(rows: int, longest: int, tile: float, named: bool) -> tuple[int, int]:
    """Panels side by side, and lines a row, for a picture that is not too long.

    Args:
      rows: how many.
      longest: samples in the longest row.
      tile: width of a tile over its height.
      named: whether names stand at the left, taking about the room of a tile.
    """
    lines, widest = 1, 5.5 if named else 1.8
    while (math.ceil(longest / lines) + named) * tile > widest * rows * lines:
        lines += 1
    ratio = (longest + named) * tile / rows
    if lines > 1 or ratio >= 0.5:
        return 1, lines
    panels = [n for n in range(1, rows + 1) if rows % n == 0]
    return min(panels, key=lambda n: abs(math.log(n * n * ratio / 2.5))), 1


def _plan(rows: list[_Row], image: tuple[int, ...], annotate: bool) -> _Plan:
    longest = max(len(row.samples) for row in rows)
    named = any(row.name for row in rows)
    panels, lines = _arrange(len(rows), longest, image[1] / image[0], named)
    columns = math.ceil(longest / lines)
    room = _LARGEST_WIDTH / panels / (columns + named) / image[1]
    scale = max(1, int(min(_LARGEST_TILE / max(image), room)))
    width, height = image[1] * scale, image[0] * scale
    font = _font(min(18, max(11, round(0.2 * height))))
    strip = max(16, height // 3) if annotate else 0
    gap = max(3, height // 20)
    names = [_shortened(row.name, _font(font.size, row.name)) for row in rows]
    margin = 3 * gap
    widths = [_font(font.size, name).getlength(name) for name in names]
    indent = math.ceil(max(widths)) + margin if named else 0
    panel = indent + columns * (width + gap) + 2 * margin
    pitch = lines * (height + strip + gap) + (margin if lines > 1 else 0)
    stacked = len(rows) // panels
    cells, places = [], []
    for i, row in enumerate(rows):
        left = margin + (i // stacked) * panel + indent
        upper = margin + (i % stacked) * pitch
        places.append((names[i], left - margin, upper + height // 2))
        for j, sample in enumerate(row.samples):
            x = left + (j % columns) * (width + gap)
            y = upper + (j // columns) * (height + strip + gap)
            cells.append(_Cell(sample, row.label, x, y))
    last = margin if lines > 1 else 0
    size = (panels * panel - gap, 2 * margin + stacked * pitch - gap - last)
    return _Plan(size, scale, (width, height), strip, font, cells, places)


def _draw_target(
    pen: Any,
    box: tuple[int, int, int, int],
    targets: Float[ndarray, "m *c"],
    cell: _Cell,
    font: Any,
) -> None:
    """A sample's target under it: bars, or a number."""
    targets = targets.reshape(len(targets), -1)
    values, columns = targets[cell.sample], targets.shape[1]
    left, upper, right, lower = box
    if 1 < columns <= (right - left + 1) / 3:
        _draw_bars(pen, box, values, cell.label, targets)
        return
    if columns == 1 or cell.label is not None:
        text = f"{values[0 if columns == 1 else cell.label]:+.2f}"
    else:
        text = f"{np.argmax(values)}: {values.max():.2f}"
    size = min(font.size, lower - upper, round(3.2 * (right - left) / len(text) / 2))
    place = ((left + right) // 2, (upper + lower) // 2)
    pen.text(place, text, fill=_INK, font=_font(max(size, 6)), anchor="mm")


def _draw_bars(
    pen: Any,
    box: tuple[int, int, int, int],
    values: Float[ndarray, " c"],
    own: int | None,
    targets: Float[ndarray, "m c"],
) -> None:
    left, upper, right, lower = box
    low, high = min(0.0, targets.min()), max(0.0, targets.max())
    unit = (lower - upper) / ((high - low) or 1.0)
    zero = lower + low * unit
    step = (right - left + 1) / len(values)
    for i, value in enumerate(values):
        start, end = left + round(i * step), left + round((i + 1) * step) - 2
        ends = sorted((round(zero), round(zero - value * unit)))
        colour = _OWN_CLASS if i == own else _OTHER_CLASSES
        pen.rectangle((start, ends[0], max(start, end), ends[1]), fill=colour)


def _shortened(name: str, font: Any) -> str:
    if font.getlength(name) <= _LARGEST_NAME:
        return name
    while font.getlength(name + "...") > _LARGEST_NAME:
        name = name[:-1]
    return name + "..."


def _font(size: int, text: str = "") -> Any:
    """A font for a text that `drawable` gave."""
    from PIL import ImageFont

    return ImageFont.truetype(font_file(text), size)
