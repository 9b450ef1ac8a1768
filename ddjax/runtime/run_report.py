"""The report of a run: one content, written as Markdown and as one HTML file."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddjax.evaluation.base import Score
from ddjax.runtime.figures import columns_png, curves_png
from ddjax.runtime.progress import duration
from ddjax.runtime.render import (
    Block,
    Cards,
    Code,
    Heading,
    Picture,
    Table,
    Text,
    to_html,
    to_markdown,
)
from ddjax.storage import atomic
from ddjax.synthetic.distilled import (
    DistilledSet,
    decoded,
    natural_inputs,
    natural_regression_targets,
)
from ddjax.synthetic.grid import to_png

__all__ = ["Report", "score_rows", "without_certificates", "write_report"]

# Endings of the scalars that come first: the larger, the better.
_QUALITIES = ("accuracy", "/r2")
_MOST_ROWS = 20

_PICTURES = {
    "samples": (
        "Distilled samples",
        "In natural pixels, by class; under each sample its target.",
    ),
    "columns": (
        "Distilled samples",
        "In natural units: the first target against each column. Shaded: the real "
        "data's mean and one standard deviation to both sides.",
    ),
    "curves": (
        "Course of the run",
        "Shaded: the standard deviation over draws, where there are several.",
    ),
}


class Report(NamedTuple):
    """Everything a report says.

    Attributes:
      title: what was run.
      distilled: the result.
      step: the step it is from.
      steps: how many the run had.
      chosen_by: how the step was chosen.
      validation: scalar -> Score.
      test: scalar -> Score.
      seconds: time of distillation.
      preparation_seconds: time before its first step.
      real_samples: how many real training samples were distilled.
      config: the whole configuration.
      metrics: rows of the log.
      run: further facts about the run (hardware, versions ...), name -> text.
      command: how to run it again.
    """

    title: str
    distilled: DistilledSet
    step: int
    steps: int
    chosen_by: str
    validation: Mapping[str, Score]
    test: Mapping[str, Score]
    seconds: float
    preparation_seconds: float
    real_samples: int
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    run: Mapping[str, str]
    command: str


def write_report(workdir: str | os.PathLike[str], report: Report) -> None:
    """Writes `report.md`, `report.html` and `figures/` into the run's folder.

    The HTML file holds its pictures and styles, and needs nothing from elsewhere.
    """
    folder = Path(workdir)
    pictures = _write_pictures(folder / "figures", report)
    blocks = _blocks(report, pictures)
    markdown = to_markdown(report.title, blocks, folder)
    atomic.replace_file(folder / "report.md", markdown.encode())
    atomic.replace_file(folder / "report.html", to_html(report.title, blocks).encode())


def score_rows(
    validation: Mapping[str, Score], test: Mapping[str, Score]
) -> list[tuple[str, str, str]]:
    """Rows (scalar, validation, test) for a table; qualities first."""
    names = sorted(
        dict.fromkeys([*validation, *test]),
        key=lambda name: not name.endswith(_QUALITIES),
    )
    return [
        (name, _shown(name, validation.get(name)), _shown(name, test.get(name)))
        for name in names
    ]


def _shown(name: str, score: Score | None) -> str:
    if score is None:
        return "-"
    if name.endswith("accuracy"):
        mean, std, unit = f"{100 * score.mean:.2f}", f"{100 * score.std:.2f}", " %"
    else:
        mean, std, unit = f"{score.mean:.4g}", f"{score.std:.2g}", ""
    return f"{mean} ± {std}{unit}" if score.draws > 1 else f"{mean}{unit}"


def _write_pictures(folder: Path, report: Report) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    pictures = {}
    shape = decoded(report.distilled).inputs.shape
    if len(shape) == 4 and shape[-1] in (1, 3):
        pictures["samples"] = to_png(
            folder / "samples.png", report.distilled, annotate=True
        )
    if _is_table(report.distilled):
        pictures["columns"] = folder / "columns.png"
        atomic.replace_file(pictures["columns"], columns_png(report.distilled))
    curves = curves_png(list(map(dict, report.metrics)))
    if curves is not None:
        pictures["curves"] = folder / "curves.png"
        atomic.replace_file(pictures["curves"], curves)
    return pictures


def _blocks(report: Report, pictures: Mapping[str, Path]) -> list[Block]:
    blocks: list[Block] = [
        Cards(_cards(report)),
        Table(
            ("measured", "validation", "test"),
            score_rows(
                without_certificates(report.validation),
                without_certificates(report.test),
            ),
        ),
        Text(
            f"The distilled set is from step {report.step} of {report.steps}, "
            f"{report.chosen_by}. The test split was read once, after that choice. "
            "± is the standard deviation over the evaluation's own random draws, not "
            "over seeds."
        ),
    ]
    for name, (heading, text) in _PICTURES.items():
        if name in pictures:
            blocks += [Heading(heading), Picture(pictures[name], heading), Text(text)]
        if name == "columns" and name in pictures:
            blocks += _rows(report.distilled)
    if report.distilled.certificate:
        numbers = dict(report.distilled.certificate)
        says = numbers.pop("says", None)
        flat = [(k, _value(v)) for k, v in numbers.items()]
        blocks += [
            Heading("Certificate"),
            Text(
                "What the duality gap proves of the convex model trained on the "
                "distilled set: how far it can be from the real data's model (radius), "
                "and between which bounds its test error must lie."
                + (f" Here {says}." if says else "")
            ),
            Table(("quantity", "value"), flat),
        ]
    blocks += [
        Heading("How it was run"),
        Code(report.command, "sh"),
        Table(("", ""), list(report.run.items())),
        Code(json.dumps(report.config, indent=2), "json", "Configuration"),
        Heading("Use it"),
        Code(_USE, "python"),
    ]
    return blocks


def _is_table(distilled: DistilledSet) -> bool:
    shape = decoded(distilled).inputs.shape
    return distilled.targets_kind == "regression" and len(shape) == 2


def _rows(distilled: DistilledSet) -> list[Block]:
    """The first samples as a table in natural units."""
    columns = distilled.columns
    values = np.concatenate(
        [natural_inputs(distilled), natural_regression_targets(distilled)], axis=1
    )
    if columns is None:
        inputs = decoded(distilled).inputs.shape[1]
        names = [f"x{i}" for i in range(inputs)]
        names += [f"y{i}" for i in range(values.shape[1] - inputs)]
    else:
        names = [*columns.inputs, *columns.targets]
    shown = [tuple(f"{value:.4g}" for value in row) for row in values[:_MOST_ROWS]]
    more = (
        f"The first {_MOST_ROWS} of {len(values)} samples; exports/distilled.csv has "
        "all."
    )
    table: list[Block] = [Table(tuple(names), shown)]
    return table + [Text(more)] if len(values) > _MOST_ROWS else table


def without_certificates(scores: Mapping[str, Score]) -> dict[str, Score]:
    """Scores without those of certificates, which have a section of their own."""
    return {k: s for k, s in scores.items() if not k.startswith("certificate")}


def _cards(report: Report) -> list[tuple[str, str]]:
    cards = []
    best = [name for name in report.test if name.endswith(_QUALITIES)]
    if best:
        cards.append((_shown(best[0], report.test[best[0]]), f"test {best[0]}"))
    samples = len(decoded(report.distilled).targets)
    cards.append((f"{samples}", "distilled samples"))
    share = 100 * samples / report.real_samples
    cards.append((f"{share:.2g} %", f"of {report.real_samples} real samples"))
    prepared = f"to distil, after {duration(report.preparation_seconds)} of preparation"
    cards.append((duration(report.seconds), prepared))
    return cards


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


_USE = """\
from ddjax import synthetic

distilled = synthetic.load("distilled")  # a folder beside this report
inputs, targets = synthetic.decoded(distilled)  # preprocessed, ready for a learner"""
