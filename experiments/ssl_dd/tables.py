"""The tables on self-supervised distillation, beside the paper's figures."""

import functools
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from experiments.tables import Record, Table, below, caption, markdown, percent

__all__ = ["ROWS", "TABLES"]

ROWS = {
    "untrained": "untrained networks (floor)",
    "random_5000": "5000 random real images",
    "full_data": "all real images (ceiling)",
    "random": "random real images",
    "kmeans": "real images, k-means",
    "krr_st": "KRR-ST",
    "parameterization": "+ bases",
    "boosted": "+ views and networks",
    "random_bases": "random bases and coefficients",
    "real_bases": "real images for bases, random coefficients",
    "same": "same target for all views",
    "bias": "a bias for each view",
    "network_2": "networks of width 2",
    "network_8": "networks of width 8",
    "ideal": "views' targets stored",
    "jigsaw": "jigsaw",
    "crop": "crops",
}
"""Short names of the rows, and what the tables call them."""

# Yu, Yao and Chiu (ICLR 2025), CIFAR-100, N = 100, ConvNet-3: Tables 2, 3, 4, 11, 12.
_PAPER = {
    "full_data": "59.54",
    "random_5000": "52.76 ± 0.80",
    "random": "43.66 ± 0.57",
    "kmeans": "43.94 ± 0.34",
    "krr_st": "47.00 ± 0.51",
    "parameterization": "48.57 ± 0.18",
    "boosted": "52.41 ± 0.10",
    "random_bases": "22.05 ± 3.04",
    "real_bases": "30.99 ± 0.25",
    "same": "50.10",
    "bias": "50.32",
    "network_2": "52.30",
    "network_8": "51.19",
    "ideal": "53.51",
    "jigsaw": "50.93 ± 0.21",
    "crop": "51.03 ± 0.40",
}

# Table 13, one RTX 4090.
_PAPER_COST = {"krr_st": "189 min, 4483 MB", "boosted": "205 min, 6917 MB"}
_ARCHITECTURES = ("convnet", "vgg11", "resnet18", "alexnet", "mobilenetv2", "vit_small")
_KINDS = {"closed_form": "ridge", "gradient": "SGD", "nearest": "k-NN"}
_OF_TEACHERS = ("closed_form", "nearest")
# A set's k-NN and ridge accuracies are of the same networks; differences are by ridge.
_CHOSEN = "closed_form"


def ladder(
    found: Sequence[Record], rows: Sequence[str], needs: str | None = None
) -> str:
    """Rows on CIFAR-100 itself through the ConvNet, and what each step up is worth.

    Args:
      found: all records.
      rows: of the table, those that are there.
      needs: the row without which there is no table.
    """
    own = _at_100(found, rows)
    of_row = _by_row(own)
    if not own or (needs is not None and needs not in of_row):
        return "No records yet."
    kinds = [
        kind
        for kind in _KINDS
        if all(f"{kind}_accuracy" in _scores(each) for each in own)
    ]
    header = ["test accuracy, %", *(_KINDS[kind] for kind in kinds)]
    header += ["above random (ridge)", "pairs", "paper (SGD)"]
    lines = []
    for row in rows:
        if row not in of_row:
            continue
        line = [ROWS[row]]
        line += [
            percent([_scores(each)[f"{kind}_accuracy"] for each in of_row[row]])
            for kind in kinds
        ]
        line.append(_difference(of_row[row], of_row.get("random", [])))
        pairs = of_row[row][0]["results"]["pairs"]
        line.append("" if row in _BOUNDS else str(pairs))
        lines.append([*line, _PAPER.get(row, "")])
    return f"{markdown(header, lines)}\n\n{caption(own)}"


def budgets(found: Sequence[Record]) -> str:
    """Rows that have several storage budgets, by ridge."""
    groups: dict[str, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for each in _on_the_source(found):
        groups[each["config"]["row"]][each["config"]["budget"]].append(each)
    of_row = {row: groups[row] for row in ROWS if len(groups[row]) > 1}
    if not of_row:
        return "No records yet."
    sizes = sorted({size for by_size in of_row.values() for size in by_size})
    lines = [
        [ROWS[row], *(_accuracy(by_size.get(size, [])) for size in sizes)]
        for row, by_size in of_row.items()
    ]
    own = [
        each
        for by_size in of_row.values()
        for part in by_size.values()
        for each in part
    ]
    header = ["test accuracy, %", *(f"N = {size}" for size in sizes)]
    return f"{markdown(header, lines)}\n\n{caption(own)}"


def cost(found: Sequence[Record]) -> str:
    """Time and memory of the distillation, at a budget of 100."""
    rows = ("krr_st", "parameterization", "boosted")
    own = _at_100(found, rows)
    if not own:
        return "No records yet."
    of_row, lines = _by_row(own), []
    for row in rows:
        if row in of_row:
            results = [each["results"] for each in of_row[row]]
            # None of a run that was finished before.
            steps = [each["seconds_per_step"] or math.nan for each in results]
            step = float(np.nanmedian(steps))
            total = statistics.median(each["distilling_seconds"] for each in results)
            memory = max(each["peak_memory_mib"] for each in of_row[row])
            cells = [f"{step:.3g}", f"{total / 60:.1f}", f"{memory:.0f}"]
            lines.append([ROWS[row], *cells, _PAPER_COST.get(row, "")])
    header = ["", "a step, s", "a run, min", "peak memory of the process, MiB", "paper"]
    return f"{markdown(header, lines)}\n\n{caption(own)}"


def teachers(found: Sequence[Record]) -> str:
    """Networks trained by Barlow Twins, by probes on their representations."""
    own = below(found, "ssl_dd/teacher")
    if not own:
        return "No records yet."
    lines = []
    for each in own:
        config, scores = each["config"], each["results"]["test"]
        cells = [scores[f"trained_network/{kind}_accuracy"] for kind in _OF_TEACHERS]
        of = f"{config['dataset']}, width {config['width']}, {config['steps']} steps"
        lines.append([of, *(percent([cell]) for cell in cells)])
    header = ["test accuracy, %", *(_KINDS[kind] for kind in _OF_TEACHERS)]
    return f"{markdown(header, lines)}\n\n{caption(own)}"


def grid(found: Sequence[Record]) -> str:
    """Rows by target and architecture, by ridge."""
    own = _own(found)
    if len(own) == len(_on_the_source(found)):
        return "No records yet."
    groups: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for each in own:
        config = each["config"]
        if config["budget"] == 100:
            where = config["target"], config["row"], config["architecture"]
            groups[where].append(each)
    names = {each["config"]["architecture"] for each in own}
    order = [name for name in _ARCHITECTURES if name in names]
    lines = []
    rows = [row for row in ROWS if row in _GRID]
    for target in sorted({where[0] for where in groups}):
        lines.append([f"**{target}**", *("" for _ in order)])
        for row in rows:
            if any((target, row, name) in groups for name in order):
                cells = [groups.get((target, row, name), []) for name in order]
                lines.append([ROWS[row], *(_accuracy(each) for each in cells)])
    header = ["test accuracy, %", *order]
    return f"{markdown(header, lines)}\n\n{caption(own)}"


def _own(found: Sequence[Record]) -> list[Record]:
    return below(found, "ssl_dd/reduced") + below(found, "ssl_dd/full")


def _on_the_source(found: Sequence[Record]) -> list[Record]:
    """Of the ConvNet on the data that were distilled."""
    return [
        each
        for each in _own(found)
        if each["config"]["target"] == each["config"]["source"]
        and each["config"]["architecture"] == "convnet"
    ]


def _at_100(found: Sequence[Record], rows: Sequence[str]) -> list[Record]:
    """Of these rows, at a budget of 100 images."""
    return [
        each
        for each in _on_the_source(found)
        if each["config"]["row"] in rows and each["config"]["budget"] == 100
    ]


def _by_row(own: Sequence[Record]) -> dict[str, list[Record]]:
    of_row: dict[str, list[Record]] = defaultdict(list)
    for each in own:
        of_row[each["config"]["row"]].append(each)
    return of_row


def _scores(record: Record) -> dict[str, float]:
    scores = record["results"]["scores"]
    return scores.get("test") or scores["validation"]


def _accuracy(found: Sequence[Record]) -> str:
    if not found:
        return ""
    return percent([_scores(each)[f"{_CHOSEN}_accuracy"] for each in found])


def _difference(found: Sequence[Record], other: Sequence[Record]) -> str:
    """Mean difference over the seeds of both, and its standard error, in points."""
    ours, theirs = (
        {each["seed"]: 100 * _scores(each)[f"{_CHOSEN}_accuracy"] for each in group}
        for group in (found, other)
    )
    pairs = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    if len(pairs) < 2 or ours == theirs:
        return ""
    error = statistics.stdev(pairs) / len(pairs) ** 0.5
    return f"{statistics.mean(pairs):+.2f} ± {error:.2f}"


_BOUNDS = ("untrained", "random_5000", "full_data")
_GRID = ("untrained", "random_5000", "random", "kmeans", "krr_st", "boosted")

TABLES: dict[str, Table] = {
    "ssl_dd_table_1": grid,
    "ssl_dd_table_2": budgets,
    "ssl_dd_table_3": functools.partial(
        ladder,
        rows=(*_BOUNDS, "random", "kmeans", "krr_st", "parameterization", "boosted"),
    ),
    "ssl_dd_table_4": functools.partial(
        ladder,
        rows=("untrained", "random", "random_bases", "real_bases", "boosted"),
        needs="random_bases",
    ),
    "ssl_dd_table_11": functools.partial(
        ladder,
        rows=("same", "bias", "network_2", "boosted", "network_8", "ideal"),
        needs="same",
    ),
    "ssl_dd_table_12": functools.partial(
        ladder, rows=("parameterization", "boosted", "jigsaw", "crop"), needs="jigsaw"
    ),
    "ssl_dd_table_13": cost,
    "ssl_dd_teacher": teachers,
}
"""Table name -> function of all records."""
