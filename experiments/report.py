"""Writes the README's tables from the committed records.

    python -m experiments.report [--check]

Every table stands between two markers, `<!-- table: NAME -->` and `<!-- end -->`; what
is between them is replaced. With `--check` nothing is written and the exit status is 1
when the README is not what the records say.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from experiments import records

__all__ = ["PAPER_TRANSFER", "TABLES", "fill", "markdown"]

_CHECK = flags.DEFINE_bool("check", False, "Only compare; exit status 1 if different.")
_README = Path(__file__).parents[1] / "README.md"

Record = Mapping[str, Any]

# Table 3 of arXiv 2502.12607, in percent: (SVM to LR, LR to SVM).
PAPER_TRANSFER = {
    ("mnist", 1): ("99.97 ± 0.02", "99.76 ± 0.00"),
    ("mnist", 10): ("99.98 ± 0.02", "99.76 ± 0.00"),
    ("mnist", 50): ("99.93 ± 0.02", "99.78 ± 0.04"),
    ("fashion_mnist", 1): ("97.30 ± 0.39", "96.72 ± 0.69"),
    ("fashion_mnist", 10): ("98.63 ± 0.18", "98.39 ± 0.07"),
    ("fashion_mnist", 50): ("98.36 ± 0.11", "98.58 ± 0.08"),
    ("cifar10", 1): ("85.59 ± 1.04", "83.23 ± 2.60"),
    ("cifar10", 10): ("85.06 ± 1.52", "89.73 ± 0.18"),
    ("cifar10", 50): ("88.21 ± 1.09", "90.41 ± 0.11"),
}

_NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}


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


def caption(found: Sequence[Record]) -> str:
    """How the runs behind a table were done: reductions, seeds, hardware, time."""
    reduced = sorted({each["reduced"] for each in found if each["reduced"]})
    seeds = sorted({each["seed"] for each in found if each["seed"] is not None})
    scale = sorted({each["scale"] for each in found})
    machine = found[0]["hardware"]
    device = ", ".join(sorted(set(machine["devices"])))
    minutes = sum(each["wall_seconds"] for each in found) / 60
    parts = [f"{len(found)} record{'s' if len(found) > 1 else ''}"]
    if seeds:
        parts.append(f"seeds {', '.join(map(str, seeds))}")
    parts.append(f"{device}, {machine['cores']} cores ({machine['processor']})")
    parts.append(f"{minutes:.0f} min in all")
    text = "; ".join(parts) + ". Scale: " + "; ".join(scale) + "."
    return text + (f" Reduced: {'; '.join(reduced)}." if reduced else "")


def transfer(found: Sequence[Record]) -> str:
    """DGKIP on two classes beside the paper's table 3."""
    found = below(found, "dgkip/transfer")
    cells: dict[tuple[str, int, str, str], list[float]] = defaultdict(list)
    full: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in found:
        dataset = record["config"]["dataset"]
        for row in record["results"]["rows"]:
            for model, worth in row["evaluated_with"].items():
                if "per_class" in row:
                    key = dataset, row["per_class"], row["distilled_with"], model
                    cells[key].append(worth["test"])
                else:
                    full[dataset, model].append(worth["test"])
    rows = []
    for dataset, count in sorted(
        {key[:2] for key in cells}, key=lambda key: (list(_NAMES).index(key[0]), key[1])
    ):
        paper = PAPER_TRANSFER[dataset, count]
        row = [f"{_NAMES[dataset]}, {count} image(s) a class"]
        for before, after, printed in (
            ("svm", "lr", paper[0]),
            ("lr", "svm", paper[1]),
        ):
            row += [percent(cells[dataset, count, before, after]), printed]
        row += [percent(cells[dataset, count, each, each]) for each in ("lr", "svm")]
        row.append(percent(full[dataset, "lr"]))
        rows.append(row)
    header = [
        "test accuracy, %",
        "SVM → LR",
        "paper",
        "LR → SVM",
        "paper",
        "LR → LR",
        "SVM → SVM",
        "all real data, LR",
    ]
    return markdown(header, rows) + "\n\n" + caption(found)


def ten_classes(found: Sequence[Record]) -> str:
    """Ten classes: every method's worth in each column that was measured."""
    found = below(found, "dgkip/ten_classes")
    columns = {
        "probe_softmax/accuracy": "softmax on random features",
        "kernel_regression/accuracy": "kernel regression (exact NTK)",
        "network_fully_connected/accuracy": "trained networks",
    }
    cells: dict[tuple[str, int, str], dict[str, list[float]]] = {}
    for record in found:
        for row in record["results"]["rows"]:
            key = record["config"]["dataset"], row["per_class"], row["method"]
            for scalar in columns:
                if scalar in row:
                    values = cells.setdefault(key, defaultdict(list))
                    values[scalar].append(row[scalar])
    shown = [c for c in columns if any(c in worth for worth in cells.values())]
    rows = [
        [f"{_NAMES[dataset]}, {count} a class: {method}"]
        + [percent(worth[scalar]) if scalar in worth else "-" for scalar in shown]
        for (dataset, count, method), worth in cells.items()
    ]
    header = ["test accuracy, %", *(columns[scalar] for scalar in shown)]
    return markdown(header, rows) + "\n\n" + caption(found)


def step_time(found: Sequence[Record]) -> str:
    """Milliseconds a step against images per class."""
    found = below(found, "dgkip/step_time")
    rows: list[list[str]] = []
    measured = found[0]["results"]["rows"]
    for name in measured[0]["seconds_per_step"]:
        rows.append(
            [name]
            + [f"{1e3 * each['seconds_per_step'][name]:.0f}" for each in measured]
        )
    header = ["ms a step", *(f"{each['per_class']} a class" for each in measured)]
    return markdown(header, rows) + "\n\n" + caption(found)


TABLES: dict[str, Callable[[Sequence[Record]], str]] = {
    "transfer": transfer,
    "ten_classes": ten_classes,
    "step_time": step_time,
}
"""Table name -> function of all records."""


def fill(text: str, found: Sequence[Record]) -> str:
    """The text with every table written anew.

    Raises:
      ValueError: a marker that names no table, or that is not closed.
    """
    start, end = "<!-- table: ", "<!-- end -->"
    pieces = text.split(start)
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition(" -->")
        if name not in TABLES:
            raise ValueError(f"no table {name!r}; known: {', '.join(TABLES)}")
        _, closed, after = rest.partition(end)
        if not closed:
            raise ValueError(f"table {name!r} is not closed by {end!r}")
        filled.append(f"{start}{name} -->\n{TABLES[name](found)}\n{end}{after}")
    return "".join(filled)


def main(argv: Sequence[str]) -> None:
    """Writes or checks the README."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    text = _README.read_text()
    wanted = fill(text, records.read_records())
    if _CHECK.value:
        if wanted != text:
            raise SystemExit("README.md is not what the records say: run make tables")
        print("README.md is what the records say")
        return
    _README.write_text(wanted)
    print(f"wrote {_README.name}")


if __name__ == "__main__":
    app.run(main)
