"""The tables of the comparison, and their lines, beside published figures."""

import functools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from experiments.tables import Record, Table, below, caption, markdown, percent

__all__ = [
    "BOUNDS",
    "COLUMNS",
    "DATASETS",
    "NETWORKS",
    "PUBLISHED",
    "SOURCES",
    "TABLES",
    "TITLES",
    "Line",
    "lines",
]

BOUNDS = ("full_data",)
"""Rows of the data themselves, whatever the number of images a class."""

TITLES = {
    "full_data": "all real images (ceiling)",
    "random": "random real images",
    "random_dsa": "the same, trained as DM's",
    "kmeans": "real images, k-means",
    "herding": "real images, herding",
    "k_center": "real images, k-centre",
    "dd": "DD",
    "dc": "DC",
    "dsa": "DSA",
    "dm": "DM",
    "idm": "IDM",
    "mtt": "MTT",
    "datm": "DATM",
    "frepo": "FRePo",
    "kip": "KIP",
    "rfad": "RFAD",
    "dgkip": "DGKIP",
}
"""What tables call the rows, in their order."""

NETWORKS = (
    "convnet",
    "fully_connected",
    "vgg11",
    "resnet18",
    "alexnet",
    "mobilenetv2",
    "vit_small",
)
"""What may be trained on the sets, in the order of tables."""

PUBLISHED: dict[tuple[str, str], dict[int, float]] = {
    ("dc", "mnist"): {1: 91.7, 10: 97.4, 50: 98.8},
    ("dsa", "mnist"): {1: 88.7, 10: 97.8, 50: 99.2},
    ("dm", "mnist"): {1: 89.7, 10: 97.5, 50: 98.6},
    ("dc", "cifar10"): {1: 28.3, 10: 44.9, 50: 53.9},
    ("dsa", "cifar10"): {1: 28.8, 10: 52.1, 50: 60.6},
    ("dm", "cifar10"): {1: 26.0, 10: 48.9, 50: 63.0},
    ("idm", "cifar10"): {1: 45.6, 10: 58.6, 50: 67.5},
    ("mtt", "cifar10"): {1: 46.3, 10: 65.3, 50: 71.6},
    ("datm", "cifar10"): {1: 46.9, 10: 66.8, 50: 76.1},
    ("kip", "cifar10"): {1: 49.9, 10: 62.7, 50: 68.6},
    ("rfad", "cifar10"): {1: 53.6, 10: 66.3, 50: 71.1},
    ("frepo", "cifar10"): {1: 46.8, 10: 65.5, 50: 71.7},
}
"""(row, data set) -> images a class -> test accuracy of a ConvNet-3 that is trained on
the set, in percent, by the protocol of the paper."""

SOURCES = {
    "dc": "Zhao, Mopuri and Bilen (ICLR 2021)",
    "dsa": "Zhao and Bilen (ICML 2021)",
    "dm": "Zhao and Bilen (WACV 2023)",
    "idm": "Zhao, Li, Qin and Yu (CVPR 2023)",
    "mtt": "Cazenavette, Wang, Torralba, Efros and Zhu (CVPR 2022)",
    "datm": "Guo, Wang, Cazenavette, Li, Zhang and You (ICLR 2024)",
    "kip": "Nguyen, Novak, Xiao and Lee (NeurIPS 2021)",
    "rfad": "Loo, Hasani, Amini and Rus (NeurIPS 2022)",
    "frepo": "Zhou, Nezhadarya and Ba (NeurIPS 2022)",
}
"""Where `PUBLISHED` is from."""

DATASETS = {"mnist": "MNIST", "cifar10": "CIFAR-10", "fashion_mnist": "Fashion-MNIST"}
"""What tables call the data sets."""

COLUMNS = {
    **{name: f"network, {name.replace('_', ' ')}" for name in NETWORKS},
    "kernel": "kernel regression, convolutional random features",
    "kernel_fully_connected": "kernel regression, fully connected NTK",
}
"""What is trained on the sets, and what tables call it."""

_SCALES = ("full", "reduced")
_NONE = "No records yet."


class Line(NamedTuple):
    """What a method's sets are worth to one learner, over seeds.

    Attributes:
      scale: of the runs.
      dataset: its name.
      per_class: images a class; None for bounds.
      row: the method.
      column: the learner, one of `COLUMNS`.
      records: one a seed.
    """

    scale: str
    dataset: str
    per_class: int | None
    row: str
    column: str
    records: list[Record]

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies, one a seed, as fractions."""
        return [
            each["results"]["scores"]["test"]["mean"]
            for each in sorted(self.records, key=lambda each: each["seed"])
        ]

    @property
    def mean_and_std(self) -> tuple[float, float | None]:
        """Over seeds, ddof 1; None for the deviation of a single one."""
        values = self.accuracies
        std = statistics.stdev(values) if len(values) > 1 else None
        return statistics.mean(values), std

    @property
    def published(self) -> float | None:
        """The paper's accuracy in percent, where the learner is the paper's."""
        if self.column != "convnet" or self.per_class is None:
            return None
        return PUBLISHED.get((self.row, self.dataset), {}).get(self.per_class)

    def median(self, fact: str) -> float | None:
        """Of a fact about the runs, over those seeds that have it."""
        known = [each["results"].get(fact) for each in self.records]
        known = [each for each in known if each is not None]
        return statistics.median(known) if known else None


def lines(found: Sequence[Record]) -> list[Line]:
    """All that is on record with test scores, in the order of tables.

    Args:
      found: all records, of other tables too.
    """
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for scale in _SCALES:
        for record in below(found, f"compare/{scale}"):
            config = record["config"]
            if "test" in record["results"]["scores"]:
                column = config["architecture"] or config["evaluation"]
                place = config["dataset"], config["per_class"], config["row"], column
                groups[scale, *place].append(record)

    def rank(key: tuple[Any, ...]) -> tuple[Any, ...]:
        scale, dataset, count, row, column = key
        return (
            _SCALES.index(scale),
            _place(dataset, DATASETS),
            math.inf if count is None else count,
            *(_place(row, TITLES), _place(column, COLUMNS)),
        )

    return [Line._make((*key, groups[key])) for key in sorted(groups, key=rank)]


def accuracy(found: Sequence[Record], *, column: str) -> str:
    """Methods by images a class, a table for each scale and data set."""
    own = [each for each in lines(found) if each.column == column]
    parts = []
    for scale, dataset in dict.fromkeys((each.scale, each.dataset) for each in own):
        here = [each for each in own if (each.scale, each.dataset) == (scale, dataset)]
        counts = list(dict.fromkeys(each.per_class for each in here if each.per_class))
        # Whether a paper has a figure for this number of images, of any method.
        has_published = {
            count: any(
                each.published is not None for each in here if each.per_class == count
            )
            for count in counts
        }
        header = [f"{_name(dataset)}, {scale} scale: test accuracy, %"]
        for count in counts:
            header += [f"IPC {count}", *(["published"] if has_published[count] else [])]
        rows = []
        for row in _rows(here):
            cells = [TITLES.get(row, row)]
            of_row = {each.per_class: each for each in here if each.row == row}
            for count in counts:
                line = of_row.get(None if row in BOUNDS else count)
                cells.append(percent(line.accuracies) if line else "")
                if has_published[count]:
                    printed = None if line is None else line.published
                    cells.append("" if printed is None else f"{printed:.1f}")
            rows.append(cells)
        parts.append(markdown(header, rows))
        parts.append(caption(_records(here)))
    return "\n\n".join(parts) or _NONE


def architectures(found: Sequence[Record]) -> str:
    """Methods by the network that is trained on their sets."""
    own = [each for each in lines(found) if each.column in NETWORKS]
    parts = []
    for where in dict.fromkeys(each[:3] for each in own if each.per_class):
        scale, dataset, count = where
        here = [each for each in own if each[:3] == where]
        names = [name for name in NETWORKS if any(each.column == name for each in here)]
        if len(names) < 2:
            continue
        header = [f"{_name(dataset)}, IPC {count}, {scale} scale: test accuracy, %"]
        rows = []
        for row in _rows(here):
            of_row = {each.column: each for each in here if each.row == row}
            cells = [
                percent(of_row[name].accuracies) if name in of_row else ""
                for name in names
            ]
            rows.append([TITLES.get(row, row), *cells])
        parts += [markdown([*header, *names], rows), caption(_records(here))]
    return "\n\n".join(parts) or _NONE


def cost(found: Sequence[Record]) -> str:
    """Time, memory and size of the sets, whatever they are judged by."""
    own = {}
    for each in lines(found):
        if each.median("distilling_seconds") is not None:
            own.setdefault(each[:4], each)
    if not own:
        return _NONE
    header = ["", "steps", "a step, ms", "a run, min", "peak memory, MiB"]
    header += ["floats stored", "with targets"]
    rows = []
    for (scale, dataset, count), here in _grouped(list(own.values())).items():
        rows.append([f"**{_name(dataset)}, IPC {count}, {scale} scale**", *[""] * 6])
        for each in here:
            step = each.median("seconds_per_step")
            seconds = each.median("distilling_seconds") or 0.0
            memory = each.median("peak_memory_mib")
            rows.append(
                [
                    TITLES.get(each.row, each.row),
                    f"{each.records[0]['config']['steps']}",
                    "" if step is None else f"{1000 * step:.3g}",
                    f"{seconds / 60:.1f}",
                    "" if memory is None else f"{memory:.0f}",
                    *(
                        f"{each.median(fact) or 0:.0f}"
                        for fact in ("floats", "floats_with_targets")
                    ),
                ]
            )
    return f"{markdown(header, rows)}\n\n{caption(_records(own.values()))}"


def growth(found: Sequence[Record]) -> str:
    """A step's time and memory against images a class, methods in `TITLES`' order."""
    own = [each for each in found if each["name"].startswith("compare/cost/")]
    if not own:
        return _NONE
    results = own[-1]["results"]
    counts = [str(each) for each in results["per_class"]]
    header = ["method", *(f"ms a step, {each} a class" for each in counts)]
    header += [f"MiB, {each} a class" for each in counts]
    rows = []
    for row in sorted(results["rows"], key=lambda each: _place(each["method"], TITLES)):
        times = [f"{1e3 * row[each]['seconds_per_step']:.0f}" for each in counts]
        sizes = [f"{row[each]['step_mib']:.0f}" for each in counts]
        rows.append([TITLES.get(row["method"], row["method"]), *times, *sizes])
    return f"{markdown(header, rows)}\n\n{caption(own[-1:])}"


def _place(name: str, known: Iterable[str]) -> tuple[int, str]:
    """Where a name stands; those that are not known are last."""
    order = list(known)
    return order.index(name) if name in order else len(order), name


def _grouped(own: Sequence[Line]) -> dict[tuple[Any, ...], list[Line]]:
    groups: dict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for each in own:
        groups[each[:3]].append(each)
    return groups


def _rows(own: Sequence[Line]) -> list[str]:
    """The methods, in the order of `TITLES`; those that it lacks are last."""
    there = {each.row for each in own}
    return [row for row in TITLES if row in there] + sorted(there - TITLES.keys())


def _name(dataset: str) -> str:
    return DATASETS.get(dataset, dataset)


def _records(own: Iterable[Line]) -> list[Record]:
    return [record for line in own for record in line.records]


TABLES: dict[str, Table] = {
    "compare_network": functools.partial(accuracy, column="convnet"),
    "compare_kernel": functools.partial(accuracy, column="kernel"),
    "compare_kernel_fully_connected": functools.partial(
        accuracy, column="kernel_fully_connected"
    ),
    "compare_architectures": architectures,
    "compare_cost": cost,
    "compare_growth": growth,
}
"""Table name -> function of all records."""
