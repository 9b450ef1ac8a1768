"""What the tables of every paper are made with: Markdown, spreads, captions."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = [
    "Headline",
    "Record",
    "Table",
    "below",
    "caption",
    "headlines",
    "markdown",
    "named",
    "percent",
]

Record = Mapping[str, Any]
"""What `experiments.records.read_records` gives."""

Table = Callable[[Sequence[Record]], str]
"""All records -> Markdown."""


class Headline(NamedTuple):
    """What one distilled set is worth, with its unit.

    Attributes:
      data: what was distilled to how little.
      learner: what was trained, and its score.
      distilled: the score of training on the distilled set.
      random: on as many random real samples; None where that was not measured.
      full: on all real data; None where that was not measured.
    """

    data: str
    learner: str
    distilled: str
    random: str | None
    full: str | None


def headlines(rows: Sequence[Headline]) -> str:
    """The first page's table."""
    header = ["distilled to", "learner, score", "distilled set", "as many random real"]
    header.append("all real data")
    cells = [[*row[:3], row.random or "-", row.full or "-"] for row in rows]
    return markdown(header, cells)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is flush left, the others right."""
    lines = ["| " + " | ".join(header) + " |"]
    lines.append("|" + "|".join([":--"] + ["--:"] * (len(header) - 1)) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def percent(fractions: Sequence[float]) -> str:
    """Mean ± standard deviation over seeds (ddof 1), in percent."""
    values = [100.0 * each for each in fractions]
    if len(values) < 2:
        return f"{values[0]:.2f} (one seed)"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def below(found: Sequence[Record], prefix: str) -> list[Record]:
    """The records whose name starts with a folder's."""
    return [each for each in found if each["name"].startswith(prefix + "/")]


def named(found: Sequence[Record], name: str) -> list[Record]:
    """The records of a name: one, or none."""
    return [each for each in found if each["name"] == name]


def caption(found: Sequence[Record]) -> str:
    """How the runs behind a table were done: reductions, seeds, hardware, time.

    What several reductions (parts joined by `; `) have in common is said once.
    """
    reductions = sorted({each["reduced"] for each in found if each["reduced"]})
    reduced = dict.fromkeys(
        part for reduction in reductions for part in reduction.split("; ")
    )
    seeds = sorted({each["seed"] for each in found if each["seed"] is not None})
    scale = sorted({each["scale"] for each in found})
    machines = sorted({_machine(each["hardware"]) for each in found})
    minutes = sum(each["wall_seconds"] for each in found) / 60
    parts = [f"{len(found)} record{'s' if len(found) > 1 else ''}"]
    if seeds:
        parts.append(f"seeds {', '.join(map(str, seeds))}")
    parts.append(" and ".join(machines))
    parts.append(f"{minutes:.0f} min in all")
    text = "; ".join(parts) + ". Scale: " + "; ".join(scale) + "."
    return text + (f" Reduced: {'; '.join(reduced)}." if reduced else "")


def _machine(hardware: Mapping[str, Any]) -> str:
    devices = ", ".join(sorted(set(hardware["devices"])))
    number = hardware["cores"]
    cores = f"{number} core{'s' if number > 1 else ''}"
    return f"{devices}, {cores} ({hardware['processor']})"
