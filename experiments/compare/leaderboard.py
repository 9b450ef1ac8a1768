"""The leaderboard as a table for other programs and as a page with pictures.

    python -m experiments.compare.leaderboard [--csv=FILE] [--html=FILE] [--sets=DIR]

Everything is from the records that `experiments.compare.grid` wrote, committed or under
`--directory`; without a file the tables are printed. The page is one file that needs
nothing from elsewhere. It shows the first seed's set of every method whose run is still
in `--sets`. Seconds on one core; the records themselves are under
`experiments/results/compare`.
"""

import csv
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from ddjax import synthetic
from ddjax.command.ending import ConfigError
from ddjax.runtime.render import Block, Heading, Picture, Pictures, Table, Text, to_html
from ddjax.storage import atomic
from ddjax.storage.writing import writing
from ddjax.synthetic.files import DistilledSetError
from experiments import commands, records
from experiments.compare import common, tables
from experiments.compare.tables import Line
from experiments.tables import percent

__all__ = ["to_csv", "to_page"]

_CSV = flags.DEFINE_string("csv", None, "File to write the lines to.")
_HTML = flags.DEFINE_string("html", None, "File to write the page to.")
_SETS = flags.DEFINE_string("sets", "runs/compare", "Folder of the runs.")
flags.DEFINE_string(
    "directory", None, "Root of the records. Default: experiments/results."
)

_FACTS = (
    "distilling_seconds",
    "seconds_per_step",
    "peak_memory_mib",
    "floats",
    "floats_with_targets",
)
_TITLE = "Methods of dataset distillation, compared"


def to_csv(lines: Sequence[Line]) -> str:
    """A row for each method, data set, number of images and learner.

    Accuracies and their standard deviation over seeds (ddof 1) are fractions; the
    published ones are in percent as printed.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["scale", "dataset", "per_class", "method", "learner", "seeds"]
    header += ["accuracy", "accuracy_std", *_FACTS, "published_percent", "source"]
    writer.writerow(header)
    for line in lines:
        mean, std = line.mean_and_std
        scores = f"{mean:.6f}", "" if std is None else f"{std:.6f}"
        published = line.published
        source = "" if published is None else tables.SOURCES[line.row]
        writer.writerow(
            [
                *(line.scale, line.dataset, line.per_class, line.row, line.column),
                *(len(line.records), *scores),
                *map(_plain, map(line.median, _FACTS)),
                *(published, source),
            ]
        )
    return text.getvalue()


def _plain(number: float | None) -> str:
    """A number without digits that nothing is known by."""
    return "" if number is None else f"{number:.6g}"


def to_page(lines: Sequence[Line], *, sets: Path, scratch: Path) -> str:
    """The page as HTML, with pictures of those sets that are in the folder of runs.

    The pictures in `scratch` are needed no more when the page is made.
    """
    blocks: list[Block] = [
        Text(
            "Test accuracy in percent, mean and standard deviation over seeds, of what "
            "was trained on each set. Networks and kernel regression are different "
            "learners and stand in different tables. Published figures are of networks "
            "and of full-scale runs."
        )
    ]
    heads = dict.fromkeys((each.scale, each.dataset, each.column) for each in lines)
    for scale, dataset, column in heads:
        own = [each for each in lines if _head(each) == (scale, dataset, column)]
        name = tables.DATASETS.get(dataset, dataset)
        blocks.append(Heading(f"{name}, {tables.COLUMNS[column]}, {scale} scale"))
        blocks.append(_table(own))
    for where in dict.fromkeys(each[:3] for each in lines):
        own = [each for each in lines if each[:3] == where]
        pictures = _pictures(own, sets, scratch)
        if pictures:
            scale, dataset, count = where
            name = tables.DATASETS.get(dataset, dataset)
            blocks.append(Heading(f"{name}, IPC {count}, {scale} scale: the sets"))
            blocks.append(Pictures(pictures))
    return to_html(_TITLE, blocks)


def _head(line: Line) -> tuple[str, str, str]:
    return line.scale, line.dataset, line.column


def _table(lines: Sequence[Line]) -> Table:
    header = ("method", "IPC", "accuracy", "published", "a step, ms", "a run, min")
    header += ("peak memory, MiB", "floats")
    rows = []
    for line in lines:
        step, seconds = line.median("seconds_per_step"), line.median(_FACTS[0])
        facts: list[tuple[Any, str]] = [
            (line.published, ".1f"),
            (step and 1000 * step, ".3g"),
            (seconds and seconds / 60, ".1f"),
            (line.median("peak_memory_mib"), ".0f"),
        ]
        rows.append(
            (
                tables.TITLES.get(line.row, line.row),
                "all" if line.per_class is None else str(line.per_class),
                percent(line.accuracies),
                *("" if each is None else format(each, how) for each, how in facts),
                f"{line.median('floats') or 0:.0f}" if line.per_class else "",
            )
        )
    return Table(header, rows)


def _pictures(lines: Sequence[Line], sets: Path, scratch: Path) -> list[Picture]:
    """Of the first seed's set of every method, once."""
    found = {}
    for line in lines:
        first = min(line.records, key=lambda each: each["seed"])
        folder = common.run_folder(
            str(sets),
            first["name"].rpartition("/")[0],
            line.row,
            dataset=line.dataset,
            per_class=line.per_class,
            seed=first["seed"],
        )
        if line.row in found or line.row in tables.BOUNDS:
            continue
        try:
            distilled = synthetic.load(folder / "distilled")
            path = scratch / f"{line.scale}_{folder.name}.png"
            synthetic.to_png(path, distilled)
        except DistilledSetError:
            continue
        title = f"{tables.TITLES.get(line.row, line.row)}, seed {first['seed']}"
        found[line.row] = Picture(path, title)
    return list(found.values())


def main() -> None:
    """Writes what is asked for."""
    root = commands.directory()
    try:
        found = records.read_records(root)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
    lines = tables.lines(found)
    if not lines:
        raise ConfigError(
            f"no records of the comparison in {root}; experiments.compare.grid makes "
            "them"
        )
    texts = {}
    if _CSV.value:
        texts[_CSV.value] = to_csv(lines)
    if _HTML.value:
        with tempfile.TemporaryDirectory() as scratch:
            texts[_HTML.value] = to_page(
                lines, sets=Path(_SETS.value), scratch=Path(scratch)
            )
    for file, text in texts.items():
        with writing(file):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            atomic.replace_file(Path(file), text.encode())
        print(f"wrote {file}")
    if not texts:
        for name, table in tables.TABLES.items():
            print(f"\nTable {name}:\n\n{table(found)}")


if __name__ == "__main__":
    commands.run(main)
