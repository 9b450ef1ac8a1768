"""The report of a run: one content, written as Markdown and as one HTML file."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddjax.evaluation.wording import number
from ddjax.runtime.figures import columns_png, curves_png
from ddjax.runtime.progress import duration
from ddjax.runtime.render import (
    Block,
    Cards,
    Code,
    Heading,
    Picture,
    Pictures,
    Table,
    Text,
    to_html,
    to_markdown,
)
from ddjax.runtime.scores import (
    HEADER,
    NOTHING_MEASURED,
    Measured,
    certificate_rows,
    headline,
    not_converged,
    samples_in_words,
    score_rows,
)
from ddjax.storage import atomic
from ddjax.synthetic.distilled import (
    DistilledSet,
    decoded_shapes,
    natural_inputs,
    natural_regression_targets,
)
from ddjax.synthetic.encoding import digest
from ddjax.synthetic.fonts import can_draw
from ddjax.synthetic.grid import to_png

__all__ = [
    "Report",
    "certificate_blocks",
    "score_blocks",
    "to_load",
    "write_report",
]

_MOST_ROWS = 20
_WITHOUT_WORDS = "How far the set's model is from the real data's, by the duality gap."


class Report(NamedTuple):
    """Everything a report says.

    Attributes:
      title: what was run.
      measured: the result, and what it is worth.
      start: the set before the first step.
      step: the step it is from.
      steps: how many the run had.
      chosen_by: how the step was chosen.
      seconds: time of distillation.
      preparation_seconds: time before its first step.
      config: the whole configuration.
      metrics: rows of the log.
      run: further facts about the run (hardware, versions ...), name -> text.
      command: how to run it again.
    """

    title: str
    measured: Measured
    start: DistilledSet
    step: int
    steps: int
    chosen_by: str
    seconds: float
    preparation_seconds: float
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    run: Mapping[str, str]
    command: str


def write_report(workdir: str | os.PathLike[str], report: Report) -> None:
    """Writes `report.md`, `report.html` and `figures/` into the run's folder.

    The HTML file holds its pictures and styles, and needs nothing from elsewhere.
    """
    folder, start = Path(workdir), _start(report)
    pictures = _write_pictures(folder / "figures", report, start)
    blocks = _blocks(report, pictures, start)
    markdown = to_markdown(report.title, blocks, folder)
    atomic.replace_file(folder / "report.md", markdown.encode())
    atomic.replace_file(folder / "report.html", to_html(report.title, blocks).encode())


def _write_pictures(
    folder: Path, report: Report, start: DistilledSet | None
) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    distilled, pictures = report.measured.distilled, {}
    shape = decoded_shapes(distilled).inputs.shape
    if len(shape) == 4 and shape[-1] in (1, 3):
        for name, each in (("start", start), ("samples", distilled)):
            if each is not None:
                path = folder / f"{name}.png"
                # Of hundreds of numbers a strip of bars shows nothing.
                annotate = each.targets_kind != "representation"
                pictures[name] = to_png(path, each, annotate=annotate)
    if _is_table(distilled):
        pictures["columns"] = folder / "columns.png"
        atomic.replace_file(pictures["columns"], columns_png(distilled, start))
    curves = curves_png(list(map(dict, report.metrics)), distilled)
    if curves is not None:
        pictures["curves"] = folder / "curves.png"
        atomic.replace_file(pictures["curves"], curves)
    return pictures


def _start(report: Report) -> DistilledSet | None:
    """The set before the first step, None where nothing has changed since."""
    same = digest(report.start) == digest(report.measured.distilled)
    return None if same else report.start


def _blocks(
    report: Report, pictures: Mapping[str, Path], start: DistilledSet | None
) -> list[Block]:
    measured = report.measured
    blocks: list[Block] = [Cards(_cards(report)), *score_blocks(report)]
    if start is None and report.steps:
        blocks.append(Text("This set is the start itself: no step improved on it."))
    if "samples" in pictures:
        blocks += _images(report, pictures)
    if "columns" in pictures:
        rings = start is not None
        blocks += _columns(measured.distilled, pictures["columns"], rings)
    if "curves" in pictures:
        blocks += [
            Heading("Course of the run"),
            Picture(pictures["curves"], "Course of the run"),
            Text("Shaded: the standard deviation over draws, where there are several."),
        ]
    if measured.distilled.certificate:
        blocks += certificate_blocks(measured.distilled.certificate, "results.json")
    blocks += [
        Heading("How it was run"),
        Code(report.command, "sh"),
        Table(("", ""), list(report.run.items())),
        Code(json.dumps(report.config, indent=2), "json", "Configuration"),
        Heading("Use it"),
        Code(to_load("distilled", "a folder beside this report"), "python"),
    ]
    return blocks


def score_blocks(report: Report) -> list[Block]:
    """The scores with what they are of: which step, chosen how, spread over what."""
    measured = report.measured
    rows = score_rows(measured)
    return [
        Table(HEADER, rows) if rows else Text(NOTHING_MEASURED),
        *map(Text, not_converged(measured)),
        Text(
            f"The distilled set is from step {number(report.step)} of "
            f"{number(report.steps)}, {report.chosen_by}. The test split was read "
            "once, after that choice. ± is the standard deviation over draws (of "
            "random networks, or of the random real samples), not over seeds."
        ),
    ]


def _images(report: Report, pictures: Mapping[str, Path]) -> list[Block]:
    distilled = report.measured.distilled
    shown = [Picture(pictures["samples"], f"Distilled, step {number(report.step)}")]
    if "start" in pictures:
        shown.insert(0, Picture(pictures["start"], "The start, before the first step"))
    names = _not_drawn(distilled.class_names or (), "class", first=0)
    text = f"In natural pixels, by class; under each image its target.{names}"
    if distilled.targets_kind == "representation":
        text = "In natural pixels. Their targets are representations."
        views = distilled.decoder.settings.get("views", "none")
        if views != "none":
            text += f" All images are followed by views of them ({views}), in turn."
    return [Heading("Distilled images"), Pictures(shown), Text(text)]


def _columns(distilled: DistilledSet, picture: Path, rings: bool) -> list[Block]:
    names = distilled.columns.inputs if distilled.columns else ()
    return [
        Heading("Distilled rows"),
        Picture(picture, "Distilled rows"),
        Text(
            "In natural units: the first target against each column. "
            + ("Rings: the start. " if rings else "")
            + "Shaded: the real data's mean and one standard deviation to both sides."
            + _not_drawn(names, "column", first=1)
        ),
        *_rows(distilled),
    ]


def _not_drawn(names: Sequence[str], what: str, *, first: int) -> str:
    """The names that no font could draw, beside what the picture says instead."""
    missing = [
        f"{what} {place} is {name}"
        for place, name in enumerate(names, start=first)
        if not can_draw(name)
    ]
    return f" In the picture, {', '.join(missing)}." if missing else ""


def certificate_blocks(certificate: Mapping[str, Any], file: str) -> list[Block]:
    """What a certificate says, those of its numbers that matter, and who has all."""
    says = str(certificate.get("says") or "")
    return [
        Heading("Certificate"),
        Text(f"{says[:1].upper()}{says[1:]}." if says else _WITHOUT_WORDS),
        Table(("certificate", "value"), certificate_rows(certificate), words=2),
        Text(
            "Both models are at the ridges that the set was distilled for, which need "
            "not be those of the learners above. All numbers of the certificate are in "
            f"{file}."
        ),
    ]


def _is_table(distilled: DistilledSet) -> bool:
    shape = decoded_shapes(distilled).inputs.shape
    return distilled.targets_kind == "regression" and len(shape) == 2


def _rows(distilled: DistilledSet) -> list[Block]:
    """The first samples as a table in natural units."""
    columns = distilled.columns
    values = np.concatenate(
        [natural_inputs(distilled), natural_regression_targets(distilled)], axis=1
    )
    if columns is None:
        inputs = decoded_shapes(distilled).inputs.shape[1]
        names = [f"x{i}" for i in range(inputs)]
        names += [f"y{i}" for i in range(values.shape[1] - inputs)]
    else:
        names = [*columns.inputs, *columns.targets]
    shown = [tuple(number(float(each)) for each in row) for row in values[:_MOST_ROWS]]
    blocks: list[Block] = [Table(tuple(names), shown, words=0)]
    if len(values) > _MOST_ROWS:
        first = f"The first {_MOST_ROWS} of {len(values)} rows"
        blocks.append(Text(f"{first}; exports/distilled.csv has all."))
    return blocks


def _cards(report: Report) -> list[tuple[str, str]]:
    measured = report.measured
    samples = decoded_shapes(measured.distilled).targets.shape[0]
    what = samples_in_words(measured.distilled)
    share = f"{number(float(f'{100 * samples / measured.real_samples:.2g}'))} %"
    prepared = f"to distil, after {duration(report.preparation_seconds)} of preparation"
    return [
        *headline(measured),
        (
            number(samples),
            f"distilled {what}, {share} of {number(measured.real_samples)} real ones",
        ),
        (duration(report.seconds), prepared),
    ]


def to_load(folder: str, where: str) -> str:
    """Code that loads a set: from a folder, and where that is."""
    return f"""\
from ddjax import synthetic

distilled = synthetic.load("{folder}")  # {where}
inputs, targets = synthetic.decoded(distilled)  # preprocessed, ready for a learner"""
