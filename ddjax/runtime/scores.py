"""Scores as a reader wants them: the set's own beside what they are to be held to."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from ddjax.evaluation.base import Score
from ddjax.evaluation.certificate import error_bounds
from ddjax.evaluation.wording import (
    TRAINED_ON,
    Meaning,
    is_diagnostic,
    is_quality,
    meaning,
    number,
    percent,
)
from ddjax.synthetic.distilled import DistilledSet, decoded_shapes

__all__ = [
    "HEADER",
    "NOTHING_MEASURED",
    "Measured",
    "certificate_rows",
    "headline",
    "not_converged",
    "samples_in_words",
    "score_rows",
    "score_text",
]

HEADER = ("learner trained on", "validation", "test")
"""Of the rows that `score_rows` gives."""

NOTHING_MEASURED = "Nothing was trained on the set: no evaluation was asked for."
"""What stands in place of a table without rows."""


class Measured(NamedTuple):
    """A distilled set and what it was found to be worth.

    Attributes:
      distilled: the set.
      real_samples: how many real training samples it was distilled from.
      validation: scalar -> Score.
      test: scalar -> Score.
      monitor: the validation scalar that chose the set, None for the last one.
      other_data: scalar -> name of the data it was judged on, where they are not those
        that were distilled.
    """

    distilled: DistilledSet
    real_samples: int
    validation: Mapping[str, Score]
    test: Mapping[str, Score]
    monitor: str | None = None
    other_data: Mapping[str, str] = {}


class _Row(NamedTuple):
    name: str
    meaning: Meaning
    score: Score
    other: str


def headline(measured: Measured) -> list[tuple[str, str]]:
    """The test score of the set, then those of random and of all real samples.

    The set's is the one that chose it, else its first accuracy or R2; the others, where
    there are any, are of the same measure and, if possible, of the same learner.

    Returns:
      Pairs of the value and what it is; none where the set has no such score.
    """
    rows = _rows(measured, measured.test)
    first = _first(rows, measured)
    if first is None:
        return []
    cards = []
    for whose in TRAINED_ON:
        found = [
            row
            for row in rows
            if row.meaning.trained_on == whose
            and is_quality(row.name)
            and row.meaning.measure == first.meaning.measure
            and row.other == first.other
        ]
        # Sorting is stable: the first one of the same learner, else the first.
        found.sort(key=lambda row: row.meaning.learner != first.meaning.learner)
        for row in [first] if whose == "distilled" else found[:1]:
            what = f"test {row.meaning.words} trained on {_whose(row, measured)}"
            cards.append((score_text(row.name, row.score), what))
    return cards


def score_rows(measured: Measured) -> list[tuple[str, str, str]]:
    """Rows of a table under `HEADER`: the headline's measure and learner first.

    A row with nothing but its first cell says what was measured; those below it, what
    the learner was trained on: the set, random real samples, all of them. Certificates
    and what tells of solvers are left out, and squared errors in standardised units
    where there are errors in the target's.
    """
    scores = {**measured.validation, **measured.test}
    rows = [
        row
        for row in _rows(measured, scores)
        if not is_diagnostic(row.name)
        and not (row.name.endswith("/mse") and f"{row.name[:-3]}r2" in scores)
    ]
    first = _first(rows, measured) or next(iter(rows), None)

    def group(row: _Row) -> tuple[str, str]:
        return row.meaning.words, row.other

    def rank(row: _Row) -> tuple[bool, bool, int, tuple[str, str], int]:
        assert first is not None  # there is a row
        return (
            row.meaning.learner != first.meaning.learner,
            row.other != first.other,
            row.meaning.order,
            group(row),
            TRAINED_ON.index(row.meaning.trained_on),
        )

    found, before = [], None
    for row in sorted(rows, key=rank):
        if group(row) != before:
            other = f", on {row.other}" if row.other else ""
            found.append((row.meaning.words + other, "", ""))
            before = group(row)
        splits = (measured.validation, measured.test)
        values = (score_text(row.name, split.get(row.name)) for split in splits)
        found.append((f"  {_whose(row, measured)}", *values))
    return found


def not_converged(measured: Measured) -> list[str]:
    """A sentence for each learner whose solver was left before its tolerance."""
    return [
        f"The solver of {row.meaning.learner} trained on {_whose(row, measured)} did "
        "not converge; its numbers are rough."
        for row in _rows(measured, {**measured.validation, **measured.test})
        if row.name.endswith("/converged") and row.score.mean < 1.0
    ]


def certificate_rows(certificate: Mapping[str, object]) -> list[tuple[str, str]]:
    """What is worth a look of a certificate: what is proven beside what is true."""
    numbers = {k: v for k, v in certificate.items() if isinstance(v, int | float)}
    rows = []
    if "midpoint_error_upper" in numbers:
        lower, upper = error_bounds(numbers)
        rows.append(("test error, proven to lie between", _between(lower, upper)))
    for key, what, shown in (
        ("error", "test error, measured", percent),
        ("reference_error", "test error of the real data's model, measured", percent),
        ("relative_radius", "distance of the two models, proven at most", _norms),
        ("relative_deviation", "distance of the two models, measured", _norms),
    ):
        if key in numbers:
            rows.append((what, shown(numbers[key])))
    return rows


def samples_in_words(distilled: DistilledSet) -> str:
    """`images`, `rows` of a table, or `samples`."""
    inputs = decoded_shapes(distilled).inputs
    if inputs.ndim == 4:
        return "images"
    return "rows" if distilled.targets_kind == "regression" else "samples"


def _rows(measured: Measured, scores: Mapping[str, Score]) -> list[_Row]:
    return [
        _Row(
            name,
            meaning(name, measured.distilled),
            score,
            measured.other_data.get(name, ""),
        )
        for name, score in scores.items()
    ]


def _first(rows: list[_Row], measured: Measured) -> _Row | None:
    """The set's own accuracy or R2: the one that chose it, else one of its own data."""
    own = [
        row
        for row in rows
        if is_quality(row.name) and row.meaning.trained_on == "distilled"
    ]
    own.sort(key=lambda row: (row.name != measured.monitor, row.other))
    return next(iter(own), None)


def _whose(row: _Row, measured: Measured) -> str:
    """`10 random real images (5 draws)`."""
    count = decoded_shapes(measured.distilled).targets.shape[0]
    what = samples_in_words(measured.distilled)
    if row.meaning.trained_on == "distilled":
        return f"{number(count)} distilled {what}"
    if row.meaning.trained_on == "random_real":
        return f"{number(count)} random real {what} ({row.score.draws} draws)"
    if row.other:
        return f"all real {what} of {row.other}"
    return f"all {number(measured.real_samples)} real {what}"


def score_text(name: str, score: Score | None) -> str:
    """A scalar with its spread, `95.20 ± 0.41 %` say; a dash for None."""
    if score is None:
        return "-"
    if name.endswith("accuracy"):
        mean, std = f"{100 * score.mean:.2f}", f"{100 * score.std:.2f}"
        return f"{mean} ± {std} %" if score.draws > 1 else f"{mean} %"
    if score.draws == 1 or not (math.isfinite(score.std) and score.std > 0):
        return number(score.mean) + (" ± 0" if score.draws > 1 else "")
    # Two digits of the spread say how many of the mean mean something.
    digits = max(0, 1 - math.floor(math.log10(score.std)))
    if digits > 6:
        return f"{number(score.mean)} ± {number(score.std)}"
    if digits == 0:
        return f"{number(round(score.mean))} ± {number(round(score.std))}"
    return f"{score.mean:.{digits}f} ± {score.std:.{digits}f}"


def _between(lower: float, upper: float) -> str:
    nothing = ": nothing" if upper - lower >= 1.0 else ""
    return f"{percent(lower)} and {percent(upper)}{nothing}"


def _norms(value: float) -> str:
    return f"{number(value)} times the norm of the real data's model"
