"""Finished runs beside each other: one table, for a reader and for other programs."""

import csv
import io
import json
import os
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ddjax import synthetic
from ddjax.evaluation.base import Score, score
from ddjax.evaluation.certificate import error_bounds
from ddjax.evaluation.wording import (
    is_diagnostic,
    is_quality,
    meaning,
    number,
    percent,
    trained_on,
)
from ddjax.runtime.outcome import RESULTS, read_outcome
from ddjax.runtime.progress import table
from ddjax.runtime.render import Block, Heading, Picture, Pictures, Table, Text, to_html
from ddjax.runtime.scores import score_text
from ddjax.runtime.workdir import RUN_FILE, flat
from ddjax.synthetic.distilled import DistilledSet, decoded_shapes
from ddjax.synthetic.files import DOCUMENT

__all__ = [
    "Comparison",
    "Line",
    "RunFacts",
    "compare_runs",
    "table_of_runs",
    "to_csv",
    "to_page",
    "to_plain",
    "to_text",
]

_HEADER = ("run", "method", "data", "learner and measure")
_SPLITS = ("validation", "test")
_CERTIFICATE = "test error, certified"
_NUMBERS = ("samples", "floats", "steps", "seconds", "seeds")
_OF_EACH_SCORE = (_HEADER[-1], *_SPLITS)
_MOST_SETTINGS = 4


class RunFacts(NamedTuple):
    """A finished run, or a distilled set of which nothing else is there.

    Attributes:
      place: its folder or file.
      distilled: the set.
      results: the content of the run's `results.json`; empty for a set alone.
      scores: `validation` and `test`, each scalar -> `Score`; empty for a set alone.
    """

    place: Path
    distilled: DistilledSet
    results: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, Score]]

    def known(self, *keys: str) -> Any:
        """What the set's provenance says under nested keys, None where it does not."""
        found: Any = self.distilled.provenance
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found


class Line(NamedTuple):
    """Runs that differ in nothing but the seed.

    Attributes:
      runs: by seed.
      data: the data's name, with a mark where there are others in the table.
      differs: the keywords that other lines of this method have otherwise.
      judged: evaluation -> those of its keywords that other lines have otherwise.
    """

    runs: tuple[RunFacts, ...]
    data: str
    differs: Mapping[str, Any]
    judged: Mapping[str, Mapping[str, Any]]

    @property
    def first(self) -> RunFacts:
        """The run of the first seed."""
        return self.runs[0]

    @property
    def method(self) -> str:
        """The method's name, and how it differs from others of the name."""
        known = str(self.first.known("method") or "not known")
        return ", ".join([known, *_in_words(self.differs)])

    @property
    def scalars(self) -> list[str]:
        """What was measured, but for certificates and what tells of solvers."""
        found = dict.fromkeys(
            name for split in reversed(_SPLITS) for name in self.first.scores[split]
        )
        return [name for name in found if not is_diagnostic(name)]

    def over_seeds(self, split: str, name: str) -> Score | None:
        """Mean and standard deviation (ddof 1) over the runs; None: not of all."""
        found = [run.scores[split].get(name) for run in self.runs]
        means = [each.mean for each in found if each is not None]
        return score(means) if means and len(means) == len(found) else None

    def mean(self, key: str) -> float | None:
        """Mean over the runs of a number in `results.json`."""
        found = [run.results[key] for run in self.runs if key in run.results]
        return statistics.mean(found) if found else None


class Comparison(NamedTuple):
    """What `compare_runs` found.

    Attributes:
      lines: one for runs that differ only in the seed.
      notes: sentences that belong under the table.
    """

    lines: list[Line]
    notes: list[str]


def compare_runs(*folders: str | os.PathLike[str]) -> Comparison:
    """Reads finished runs and sets, and puts together what differs in the seed only.

    Runs are one line when method, settings, data, split, steps and the rest of their
    configuration are the same. Scores of other data, or of data that were cut
    otherwise, do not compare: such runs are marked, and a note says so.

    Args:
      *folders: of a run, of a set (or its file), or any folder that has runs somewhere
        below it, those of a sweep say; runs there that have not finished are left out,
        and a note names them.

    Raises:
      ValueError: nothing there, or a damaged run or set.
    """
    places: list[Path] = []
    for folder in folders:
        path = Path(folder)
        if not path.exists():
            raise ValueError(f"{path}: there is no such file or folder")
        found = [*_places(path)]
        if not found:
            raise ValueError(f"{path} holds neither a run nor a distilled set")
        places += [each for each in found if each not in places]
    unfinished = [each for each in places if _unfinished(each)]
    runs = [_facts(each) for each in places if each not in unfinished]
    if not runs:
        raise ValueError(
            f"no run in {', '.join(map(str, folders)) or 'nothing'} has finished; the "
            "command that began one goes on with it"
        )
    notes = [f"{each} has not finished and is left out." for each in unfinished]
    marks, marked = _marks(runs)
    lines = _lines(runs, marks)
    if any(len(line.runs) > 1 for line in lines):
        notes.append("± is the standard deviation over seeds.")
    return Comparison(lines, notes + marked)


def table_of_runs(*folders: str | os.PathLike[str]) -> str:
    """Finished runs beside each other, as a table in plain text, by `compare_runs`.

    What was distilled with which method, samples, stored floats (targets included),
    steps, seconds (preparation included), and the scores of what was trained on each
    set, on validation and test; runs that differ only in the seed are one line with
    mean and standard deviation.
    """
    return to_text(compare_runs(*folders))


def to_text(comparison: Comparison) -> str:
    """The table and its notes in plain text."""
    lines = comparison.lines
    found = table(_header(lines), _rows(lines), words=len(_HEADER))
    return "\n".join([found, "", *comparison.notes]).rstrip()


def to_plain(comparison: Comparison) -> dict[str, Any]:
    """Everything in the table, and all other scores of the runs, for JSON.

    Scores are means over seeds, `std` their standard deviation (ddof 1), None for one.
    """
    return {
        "lines": [
            {
                **_numbers(line),
                "runs": [str(run.place) for run in line.runs],
                "seeds": [run.known("seeds", "run") for run in line.runs],
                "settings": line.first.known("settings"),
                "data": line.first.known("data", "name"),
                "fingerprint": line.first.known("data", "fingerprint"),
                "scores": {
                    split: {
                        name: {"mean": found.mean, "std": _spread(found)}
                        for name in line.scalars
                        if (found := line.over_seeds(split, name)) is not None
                    }
                    for split in _SPLITS
                },
                "certificates": [run.distilled.certificate for run in line.runs],
            }
            for line in comparison.lines
        ],
        "notes": comparison.notes,
    }


def to_csv(comparison: Comparison) -> str:
    """A row for each line and scalar; means and standard deviations over seeds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [*_numbers(comparison.lines[0])]
    scores = [f"{split}{part}" for split in _SPLITS for part in ("", "_std")]
    header = ["run", "data", "fingerprint", "settings", "seeds", *names, "scalar"]
    writer.writerow([*header, *scores])
    lines = zip(comparison.lines, to_plain(comparison)["lines"], strict=True)
    for line, plain in lines:
        facts = [_run_name(line), plain["data"], plain["fingerprint"]]
        facts += [json.dumps(plain["settings"]), len(plain["seeds"])]
        facts += [plain[name] for name in names]
        for name in line.scalars or [""]:
            found = [plain["scores"][split].get(name, {}) for split in _SPLITS]
            values = [each.get(key) for each in found for key in ("mean", "std")]
            writer.writerow([*facts, name, *values])
    return text.getvalue()


def to_page(comparison: Comparison) -> str:
    """One HTML file with the table and, where they are images, the sets' pictures."""
    rows = _rows(comparison.lines)
    blocks: list[Block] = [Table(_header(comparison.lines), rows, words=len(_HEADER))]
    blocks += map(Text, comparison.notes)
    with tempfile.TemporaryDirectory() as scratch:
        pictures = [*_pictures(comparison.lines, Path(scratch))]
        if pictures:
            blocks += [
                Heading("The sets"),
                Pictures(pictures),
                Text("In natural pixels, by class; of several seeds the first."),
            ]
        return to_html("Distilled sets, compared", blocks)


def _places(path: Path) -> Iterator[Path]:
    """The runs and sets in a folder; what is inside of one is a part of it."""
    is_set = path.is_file() or (path / DOCUMENT).is_file()
    if is_set or (path / RUN_FILE).is_file() or (path / RESULTS).is_file():
        yield path
        return
    for each in sorted(path.iterdir()):
        if each.is_dir() and not each.name.startswith("."):
            yield from _places(each)


def _unfinished(path: Path) -> bool:
    return (path / RUN_FILE).is_file() and not (path / RESULTS).is_file()


def _facts(path: Path) -> RunFacts:
    if not (path / RESULTS).is_file():
        return RunFacts(path, synthetic.load(path), {}, {s: {} for s in _SPLITS})
    found = read_outcome(path)
    scores = {split: getattr(found, split) for split in _SPLITS}
    return RunFacts(path, found.distilled, found.results, scores)


def _marks(runs: Sequence[RunFacts]) -> tuple[dict[Any, str], list[str]]:
    """Fingerprint -> what the data are called in the table; what to say of several."""
    names = {
        run.known("data", "fingerprint"): str(run.known("data", "name") or "not known")
        for run in runs
    }
    if len(names) == 1:
        return names, []
    marks = {
        fingerprint: f"{name} [{place}]"
        for place, (fingerprint, name) in enumerate(names.items(), start=1)
    }
    said = ", ".join(
        f"{mark} has the fingerprint {str(fingerprint)[:8]}"
        if fingerprint
        else f"of {mark} the data are not known"
        for fingerprint, mark in marks.items()
    )
    return marks, [
        f"The runs are of {len(marks)} different data, or of data that were split "
        f"otherwise: {said}. Scores of one do not compare with those of another."
    ]


def _lines(runs: Sequence[RunFacts], marks: Mapping[Any, str]) -> list[Line]:
    groups: dict[str, list[RunFacts]] = {}
    for run in runs:
        groups.setdefault(_but_for_the_seed(run), []).append(run)
    whole = [
        tuple(sorted(group, key=lambda run: int(run.known("seeds", "run") or 0)))
        for group in groups.values()
    ]
    asked = [(group[0].known("method"), _keywords(group[0])) for group in whole]
    judges = [
        {
            name: flat(settings)
            for name, settings in group[0].results.get("evaluations", {}).items()
        }
        for group in whole
    ]
    return [
        Line(
            group,
            marks[group[0].known("data", "fingerprint")],
            _differing(own, [other for name, other in asked if name == method]),
            {
                name: _differing(each, [by[name] for by in judges if name in by])
                for name, each in judged.items()
            },
        )
        for group, (method, own), judged in zip(whole, asked, judges, strict=True)
    ]


def _but_for_the_seed(run: RunFacts) -> str:
    """Equal for runs that are the same but for the seed."""
    if not run.distilled.provenance:
        return str(run.place)
    config = run.known("config") or {}
    about = {
        key: run.known(key)
        for key in ("method", "settings", "steps", "lengthened_from")
    }
    about["data"] = run.known("data", "identity")
    about["config"] = {key: each for key, each in config.items() if key != "seed"}
    return json.dumps(about, sort_keys=True)


def _keywords(run: RunFacts) -> dict[str, Any]:
    """What a run was asked for, but for what the table has columns for."""
    found = flat(run.known("settings") or {})
    for section, column in (("train", "steps"), ("data", "name")):
        given = dict(run.known("config", section) or {})
        given.pop(column, None)
        found |= flat(given, section) if given else {}
    return {key: v for key, v in found.items() if not key.endswith("directory")}


def _differing(
    own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The keywords that are not the same in all of these."""
    return {
        key: value
        for key, value in own.items()
        if any(other.get(key) != value for other in others)
    }


def _in_words(keywords: Mapping[str, Any]) -> list[str]:
    parts = [f"{key}={json.dumps(value)}" for key, value in keywords.items()]
    return [*parts[:_MOST_SETTINGS], *(["..."] if parts[_MOST_SETTINGS:] else [])]


def _header(lines: Sequence[Line]) -> tuple[str, ...]:
    certified = any(map(_certified, lines))
    return (*_HEADER, *_SPLITS, *([_CERTIFICATE] if certified else []), *_NUMBERS)


def _rows(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """A row for each learner that was trained on a set; the first has the facts."""
    header, rows = _header(lines), []
    for line in lines:
        # What tells how good what was trained on the set is.
        own = [
            name
            for name in line.scalars
            if is_quality(name) and trained_on(name) == "distilled"
        ]
        for place, name in enumerate(own or [""]):
            cells = {
                "run": _run_name(line),
                "method": line.method,
                "data": line.data,
                "learner and measure": _words(line, name) if name else "-",
                **{s: score_text(name, line.over_seeds(s, name)) for s in _SPLITS},
                _CERTIFICATE: _certified(line) or "-",
                **_numbers_in_words(line),
            }
            shown = header if place == 0 else _OF_EACH_SCORE
            rows.append(tuple(cells[k] if k in shown else "" for k in header))
    return rows


def _numbers_in_words(line: Line) -> dict[str, str]:
    known = _numbers(line)
    seconds, before = known["seconds"], known["preparation_seconds"]
    shown = {
        "samples": known["samples"],
        "floats": known["floats_with_targets"],
        "steps": known["steps"],
        "seconds": None if seconds is None else round(seconds + before, 1),
        "seeds": len(line.runs),
    }
    return {k: "-" if value is None else number(value) for k, value in shown.items()}


def _words(line: Line, name: str) -> str:
    other = line.first.results.get("other_data", {}).get(name)
    words = meaning(name, line.first.distilled)
    settings = _in_words(line.judged.get(name.partition("/")[0], {}))
    learner = f"{words.learner} ({', '.join(settings)})" if settings else words.learner
    return f"{learner}, {words.measure}" + (f", on {other}" if other else "")


def _run_name(line: Line) -> str:
    """The folder of the run, or the one that all runs of the line have in common."""
    places = [str(run.place) for run in line.runs]
    if len(places) == 1:
        return places[0]
    common = os.path.commonpath(places)
    return os.path.join(common, "...") if common else ", ".join(places)


def _numbers(line: Line) -> dict[str, Any]:
    distilled = line.first.distilled
    lower, upper = _bounds(line) or (None, None)
    return {
        "method": line.first.known("method"),
        "samples": decoded_shapes(distilled).targets.shape[0],
        "floats": synthetic.floats(distilled),
        "floats_with_targets": synthetic.floats(distilled, targets=True),
        "steps": line.first.known("steps"),
        "seconds": line.mean("seconds"),
        "preparation_seconds": line.mean("preparation_seconds"),
        "certified_error_lower": lower,
        "certified_error_upper": upper,
    }


def _bounds(line: Line) -> tuple[float, float] | None:
    """What is proven of the test error of all runs of a line; None: of some nothing."""
    known = [run.distilled.certificate or {} for run in line.runs]
    if not all("midpoint_error_upper" in each for each in known):
        return None
    bounds = [error_bounds(each) for each in known]
    return min(each[0] for each in bounds), max(each[1] for each in bounds)


def _certified(line: Line) -> str:
    found = _bounds(line)
    if found is None:
        return ""
    if found[1] - found[0] >= 1.0:
        return "nothing proven"
    return f"{percent(found[0])} to {percent(found[1])}"


def _spread(found: Score) -> float | None:
    return found.std if found.draws > 1 else None


def _pictures(lines: Iterable[Line], scratch: Path) -> Iterator[Picture]:
    for place, line in enumerate(lines):
        shape = decoded_shapes(line.first.distilled).inputs.shape
        if len(shape) == 4 and shape[-1] in (1, 3):
            path = scratch / f"set-{place}.png"
            synthetic.to_png(path, line.first.distilled)
            yield Picture(path, f"{line.method} ({line.first.place})")
