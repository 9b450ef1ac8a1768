"""The tables on the duality gap."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from experiments.tables import (
    Headline,
    Record,
    Table,
    below,
    caption,
    markdown,
    percent,
)

__all__ = ["PAPER_TRANSFER", "TABLES", "headlines"]

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


def transfer(
    found: Sequence[Record],
    *,
    folder: str = "dgkip/transfer",
    papers: Mapping[tuple[str, int], tuple[str, str]] = PAPER_TRANSFER,
) -> str:
    """DGKIP on two classes, beside the paper's table where it has one."""
    found = below(found, folder)
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
        paper = papers.get((dataset, count), ("-", "-"))
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
        "probe_logistic/accuracy": "one-vs-rest on random features",
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
            + [f"{1e3 * each['seconds_per_step'][name]:.1f}" for each in measured]
        )
    header = ["ms a step", *(f"{each['per_class']} a class" for each in measured)]
    return markdown(header, rows) + "\n\n" + caption(found)


def headlines(found: Sequence[Record]) -> list[Headline]:
    """Two classes of MNIST and CIFAR-10 by logistic regression, ten by softmax."""
    rows = []
    for dataset, what in (
        ("mnist", "MNIST, zeros and ones: 1 image a class"),
        ("cifar10", "CIFAR-10, aeroplanes and cars: 1 image a class"),
    ):
        scores: dict[str, list[float]] = defaultdict(list)
        for row in _rows(found, "dgkip/transfer", dataset):
            if row.get("per_class", 1) == 1 and "lr" in row["evaluated_with"]:
                score = row["evaluated_with"]["lr"]["test"]
                scores[row["distilled_with"]].append(score)
        distilled, full = percent(scores["lr"]), percent(scores["all real data"])
        learner = "logistic regression on random features, %"
        rows.append(Headline(what, learner, distilled, None, full))
    worth: dict[str, list[float]] = defaultdict(list)
    for row in _rows(found, "dgkip/ten_classes", "mnist"):
        if row.get("per_class", 1) == 1 and "probe_softmax/accuracy" in row:
            worth[row["method"]].append(row["probe_softmax/accuracy"])
    reached = worth.get("all real data")
    rows.append(
        Headline(
            "MNIST, ten classes: 1 image a class",
            "softmax regression on random features, %",
            percent(worth["DGKIP, softmax"]),
            percent(worth["random real"]),
            percent(reached) if reached else None,
        )
    )
    return rows


def _rows(found: Sequence[Record], folder: str, dataset: str) -> list[Record]:
    return [
        row
        for record in below(found, folder)
        if record["config"]["dataset"] == dataset
        for row in record["results"]["rows"]
    ]


TABLES: dict[str, Table] = {
    "transfer": transfer,
    "transfer_fully_connected": lambda found: transfer(
        found, folder="dgkip/transfer_fully_connected", papers={}
    ),
    "ten_classes": ten_classes,
    "step_time": step_time,
}
"""Table name -> function of all records."""
