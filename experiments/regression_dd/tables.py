"""The tables on distilled regression."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.regression_dd import real_data_tables
from experiments.tables import Record, Table, caption, markdown, named

__all__ = ["PAPER", "TABLES"]

# Section 2.3: T -> slope of the log fit, its R², empirical mu_T.
PAPER = {
    100: ("-0.0052 ± 0.0005", "0.9974", "2.087 ± 0.182"),
    125: ("-0.0066 ± 0.0006", "0.9972", "2.639 ± 0.252"),
    150: ("-0.0073 ± 0.0007", "0.9973", "2.914 ± 0.279"),
    175: ("-0.0103 ± 0.0009", "0.9967", "4.097 ± 0.359"),
}


def _spread(runs: Sequence[Mapping[str, Any]], field: str, form: str) -> str:
    """Mean ± standard deviation over the runs that have a fit."""
    values = [run[field] for run in runs if field in run]
    if not values:
        return "no line"
    text = format(statistics.mean(values), form)
    if len(values) > 1:
        text += f" ± {format(statistics.stdev(values), form)}"
    missing = len(runs) - len(values)
    return text + (f" ({missing} without)" if missing else "")


def _window(runs: Sequence[Mapping[str, Any]]) -> str:
    windows = [run["window"] for run in runs if "window" in run]
    if not windows:
        return "-"
    return " to ".join(f"{statistics.mean(w[i] for w in windows):.0f}" for i in (0, 1))


def convergence(found: Sequence[Record]) -> str:
    """Slopes, R² and mu_T of both variants beside the paper's."""
    (record,) = named(found, "regression_dd/convergence")
    readings = record["results"]["readings"]
    counts = [row["inner_steps"] for row in readings["scheduled"]["rows"]]
    rows = []
    for place, label, field, form in (
        (0, "slope", "slope", ".4f"),
        (1, "R²", "r_squared", ".4f"),
        (2, "mu_T", "mu", ".3f"),
    ):
        rows.append([f"{label}, paper", *(PAPER[count][place] for count in counts)])
        for name in ("scheduled", "fixed"):
            cells = [_spread(r["runs"], field, form) for r in readings[name]["rows"]]
            rows.append([f"{label}, {name}", *cells])
    for name in ("scheduled", "fixed"):
        parts = readings[name]["rows"]
        rows.append([f"window, {name}", *(_window(row["runs"]) for row in parts)])
        cells = [_spread(row["runs"], "middle_slope", ".4f") for row in parts]
        rows.append([f"slope, middle of the fall, {name}", *cells])
    header = ["", *(f"T = {count}" for count in counts)]
    words = "; ".join(f"{n}: {readings[n]['says']}" for n in ("scheduled", "fixed"))
    seeds = len(record["config"]["seeds"])
    note = f"\n\nMean ± standard deviation over {seeds} seeds; {words}. "
    return markdown(header, rows) + note + caption([record])


def readings(found: Sequence[Record]) -> str:
    """The readings that were tried, with their slopes."""
    (record,) = named(found, "regression_dd/search")
    tried = record["results"]["readings"]
    counts = [row["inner_steps"] for row in next(iter(tried.values()))["rows"]]
    rows = [["paper", *(PAPER[count][0] for count in counts)]]
    for name, each in tried.items():
        cells = [_spread(row["runs"], "slope", ".4f") for row in each["rows"]]
        rows.append([f"`{name}`: {each['says']}", *cells])
    header = ["slope", *(f"T = {count}" for count in counts)]
    return markdown(header, rows) + "\n\n" + caption([record])


def theory(found: Sequence[Record]) -> str:
    """Theorem 2.9: what it needs, what it predicts, what was seen."""
    (record,) = named(found, "regression_dd/convergence")
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "alpha L near the end point": lambda e: f"{e['alpha_times_lipschitz']:.3f}",
        "least Hessian eigenvalue there": lambda e: f"{e['smallest_at_end']:.3f}",
        "least Hessian eigenvalue at the optimum": (
            lambda e: f"{e['smallest_at_optimum']:.3f}"
        ),
        "mu along the run": lambda e: f"{e['constant']:.4f}",
        "slope predicted, log(1 - alpha mu (2 - alpha L)), at most": (
            lambda e: f"{e['rates']['predicted_slope']:.6f}"
        ),
        "slope measured": lambda e: f"{e['rates']['measured_slope']:.6f}",
        "prediction holds": lambda e: "yes" if e["rates"]["holds"] else "no",
    }
    entries = record["results"]["theory"]
    rows = [[label, *(cell(e) for e in entries)] for label, cell in columns.items()]
    return markdown(["", *(f"T = {e['inner_steps']}" for e in entries)], rows)


def unrolled(found: Sequence[Record]) -> str:
    """An outer step's time against T, for the three forms, and against n."""
    (record,) = named(found, "benchmarks/unrolled")
    results = record["results"]
    rows = []
    for entry in results["against_steps"]:
        seconds = entry["seconds"]
        rows.append(
            [f"Q = {entry['draws']}, T = {entry['steps']}"]
            + [
                f"{1e3 * seconds[form]['median']:.2f}"
                for form in ("scan", "doubling", "spectral")
            ]
            + [f"{entry['scan_over'][form]:.1f}" for form in ("doubling", "spectral")]
        )
    header = ["ms an outer step", "scan", "doubling", "spectral"]
    header += ["scan / doubling", "scan / spectral"]
    against_rows = [
        [
            f"n = {entry['rows']:,}".replace(",", " "),
            f"{entry['seconds_of_pass']:.3f}",
            f"{1e3 * entry['seconds']['median']:.2f}",
            f"{1e3 * entry['seconds_from_rows']['median']:.2f}"
            if entry["seconds_from_rows"]
            else "-",
        ]
        for entry in results["against_rows"]
    ]
    below = markdown(
        ["", "one pass, s", "step through moments, ms", "step from the rows, ms"],
        against_rows,
    )
    return "\n\n".join([markdown(header, rows), below, caption([record])])


TABLES: dict[str, Table] = {
    "regression_convergence": convergence,
    "regression_readings": readings,
    "regression_theory": theory,
    "unrolled": unrolled,
    **real_data_tables.TABLES,
}
"""Table name -> function of all records."""
