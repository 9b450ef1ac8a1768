"""The tables on linear probes of frozen encoders."""

import functools
from collections import defaultdict
from collections.abc import Sequence

from experiments.tables import (
    Headline,
    Record,
    Table,
    below,
    caption,
    markdown,
    percent,
)

__all__ = ["ROWS", "TABLES", "headlines"]

_DATASETS = {"imagenette": "Imagenette", "cub50": "CUB-50"}
_ENCODERS = {"mobilenetv2": "MobileNetV2", "efficientnet_lite0": "EfficientNet-Lite0"}
ROWS = {
    "full": "all training images",
    "random": "random real",
    "nearest": "real, nearest to the class mean",
    "kmeans": "real, k-means",
    "lgm": "LGM",
    "lgm_augmented": "LGM + augmentation",
    "clp_squared": "CLP-DD, squared loss",
    "clp": "CLP-DD, cross-entropy",
    "clp_augmented": "CLP-DD + augmentation",
    "clp_several": "CLP-DD, both encoders at once",
}
"""Short names of the rows, and what the table calls them."""

# Of records that do not say how memory was measured.
_PLANNED = "of the compiled step, as XLA plans it"

_OWN = "linear_probe/"
_FULL = "full_data_linear_probe/"


def accuracy(found: Sequence[Record], *, folder: str = "clp_dd/table") -> str:
    """Every set's worth to both probes, through its own encoder and another.

    Those of `clp_dd/from_noise` are what the pictures show, without their bound.
    """
    found = below(found, folder)
    groups: dict[tuple[str, str, int], dict[str, list[Record]]] = defaultdict(dict)
    bounds: dict[tuple[str, str], Record] = {}
    for record in found:
        config = record["config"]
        where = config["dataset"], config["encoder"]
        if config["row"] == "full":
            bounds[where] = record
        else:
            group = groups[*where, config["method"]["per_class"]]
            group.setdefault(config["row"], []).append(record)
    rows = []
    for dataset, encoder, count in sorted(groups, key=_order):
        title = f"**{_DATASETS[dataset]}, {_ENCODERS[encoder]}, {count} a class**"
        rows.append([title, "", "", "", ""])
        bound = bounds.get((dataset, encoder))
        group = groups[dataset, encoder, count]
        if bound is not None:
            rows.append([ROWS["full"], *_bound_cells(bound), "", ""])
        for row in ROWS:
            if row in group:
                rows.append([ROWS[row], *_cells(group[row], bound)])
    header = [
        "test accuracy, %",
        "probe by gradient",
        "probe in closed form",
        "of the reachable",
        "through the other encoder",
    ]
    while all(row[-1] in ("", "-") for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    note = ""
    if any(
        count == 1 and {"nearest", "kmeans"} <= group.keys()
        for (*_, count), group in groups.items()
    ):
        note = (
            "With one image a class, k-means has one centre a class, its mean: the two "
            "rows of real images near to it are the same images. "
        )
    return markdown(header, rows) + "\n\n" + note + caption(found)


def _order(group: tuple[str, str, int]) -> tuple[int, int, int]:
    dataset, encoder, count = group
    return list(_DATASETS).index(dataset), list(_ENCODERS).index(encoder), count


def _bound_cells(bound: Record) -> list[str]:
    test = bound["results"]["test"]
    return [
        f"{100 * test[_FULL + 'gradient_accuracy']:.2f}",
        f"{100 * test[_FULL + 'closed_form_accuracy']:.2f}",
    ]


def _cells(records: Sequence[Record], bound: Record | None) -> list[str]:
    tests = [each["results"]["test"] for each in records]
    closed = [test[_OWN + "closed_form_accuracy"] for test in tests]
    cells = [percent([test[_OWN + "gradient_accuracy"] for test in tests])]
    cells.append(percent(closed))
    if bound is None:
        cells.append("-")
    else:
        reachable = bound["results"]["test"][_FULL + "reachable_accuracy"]
        cells.append(percent([each / reachable for each in closed]))
    other = [
        value
        for test in tests
        for name, value in test.items()
        if "through" in name and name.endswith("closed_form_accuracy")
    ]
    cells.append(percent(other) if other else "-")
    return cells


def ablation(found: Sequence[Record]) -> str:
    """What each choice is worth, on the validation split."""
    found = below(found, "clp_dd/ablation")
    rows = {}
    for record in found:
        values = rows.setdefault(record["config"]["variant"], [[], []])
        validation = record["results"]["validation"]
        values[0].append(validation[_OWN + "closed_form_accuracy"])
        values[1].append(validation[_OWN + "gradient_accuracy"])
    order = sorted(rows, key=lambda name: (name != "default", name))
    table = [[name, *(percent(values) for values in rows[name])] for name in order]
    header = ["validation accuracy, %", "probe in closed form", "probe by gradient"]
    return markdown(header, table) + "\n\n" + caption(found)


def cost(found: Sequence[Record]) -> str:
    """Time a step and peak memory against the number of classes."""
    found = below(found, "clp_dd/cost")
    rows = []
    for pixels, row in _costs(found):
        clp, lgm = row["clp"], row["lgm_augmented"]
        rows.append(
            [
                f"{row['classes']}, {pixels} px",
                f"{clp['seconds_per_step']:.3g}",
                f"{lgm['seconds_per_step']:.3g}",
                f"{lgm['seconds_per_step'] / clp['seconds_per_step']:.1f} x",
                f"{_share(clp)}, {_share(lgm)}",
                f"{clp['step_mib']:.0f}",
                f"{lgm['step_mib']:.0f}",
                f"{lgm['step_mib'] / clp['step_mib']:.1f} x",
            ]
        )
    header = [
        "classes, images",
        "CLP-DD, s a step",
        "LGM + augmentation",
        "ratio",
        "of which the encoder",
        "CLP-DD, MiB",
        "LGM + augmentation",
        "ratio",
    ]
    ways = {each["config"].get("memory", _PLANNED) for each in found}
    note = f"Memory: {'; '.join(sorted(ways))}. "
    return markdown(header, rows) + "\n\n" + note + caption(found)


def cost_of_ours(found: Sequence[Record]) -> str:
    """Time a step and memory of CLP-DD alone: what a user pays."""
    rows = [
        [
            f"{row['classes']}, {pixels} px",
            f"{row['clp']['seconds_per_step']:.3g}",
            f"{row['clp']['step_mib']:.0f}",
        ]
        for pixels, row in _costs(below(found, "clp_dd/cost"))
    ]
    header = ["distilled images (one a class)", "a step, s", "memory of a step, MiB"]
    return markdown(header, rows)


def _costs(found: Sequence[Record]) -> list[tuple[int, Record]]:
    """(pixels, row), in the order of the pixels."""
    found = sorted(found, key=lambda each: each["config"]["image_size"])
    return [
        (record["config"]["image_size"], row)
        for record in found
        for row in record["results"]["rows"]
    ]


def _share(measured: Record) -> str:
    return f"{100 * measured['encoder_seconds'] / measured['seconds_per_step']:.0f} %"


def headlines(found: Sequence[Record]) -> list[Headline]:
    """One image a class for MobileNetV2's linear probe in closed form."""
    rows = []
    for dataset, what in (("imagenette", "10"), ("cub50", "50")):
        worth: dict[str, list[float]] = defaultdict(list)
        full = None
        for record in below(found, "clp_dd/table"):
            config, test = record["config"], record["results"]["test"]
            if (config["dataset"], config["encoder"]) != (dataset, "mobilenetv2"):
                continue
            if config["row"] == "full":
                full = f"{100 * test[_FULL + 'closed_form_accuracy']:.2f}"
            elif config["method"]["per_class"] == 1:
                worth[config["row"]].append(test[_OWN + "closed_form_accuracy"])
        rows.append(
            Headline(
                f"{_DATASETS[dataset]}, {what} classes: 1 image a class",
                "linear probe on MobileNetV2 in closed form, %",
                percent(worth["clp"]),
                percent(worth["random"]),
                full,
            )
        )
    return rows


TABLES: dict[str, Table] = {
    "clp_accuracy": accuracy,
    "clp_from_noise": functools.partial(accuracy, folder="clp_dd/from_noise"),
    "clp_ablation": ablation,
    "clp_cost": cost,
    "clp_cost_of_ours": cost_of_ours,
}
"""Table name -> function of all records."""
