"""The tables of the benchmarks."""

import functools
from collections.abc import Sequence

from experiments.tables import Record, Table, caption, markdown, named

__all__ = ["TABLES"]


def ridge(found: Sequence[Record]) -> str:
    """How many times as long as ours the others take."""
    found = named(found, "benchmarks/ridge")
    entries = found[0]["results"]["entries"]
    names = [name for name in entries[0]["times_ours"] if name != "ddjax"]
    rows = []
    for entry in entries:
        times = entry["times_ours"]
        seconds = entry["seconds"]["ddjax"]["median"]
        rows.append(
            [
                f"{entry['problem']}, {entry['quantity']}, "
                + " x ".join(map(str, entry["shape"].values())),
                f"{1e3 * seconds:.3g}",
                *(f"{times[name]:.2f}" for name in names),
            ]
        )
    header = ["m x p x c", "ddjax, ms", *(f"{name} / ddjax" for name in names)]
    return markdown(header, rows) + "\n\n" + caption(found)


def gram(found: Sequence[Record]) -> str:
    """Rates as fractions of the fastest matrix product of the same run."""
    found = named(found, "benchmarks/gram")
    rates = found[0]["results"]["rates"]
    rows = [
        [name, f"{each['gflops_per_second']:.0f}", f"{each['fraction']:.2f}"]
        for name, each in rates.items()
    ]
    header = ["float32", "GFLOP/s", "fraction of the fastest product"]
    return markdown(header, rows) + "\n\n" + caption(found)


def blocked_gram(found: Sequence[Record]) -> str:
    """Peak memory against the number of rows."""
    found = named(found, "benchmarks/gram")
    rows = [
        [
            {"in_one_piece": "in one piece"}.get(each["form"], each["form"]),
            str(each["rows"]),
            str(each["block"] or "-"),
            f"{each['peak_mib']:.0f}",
            f"{each['before_mib']:.0f}",
        ]
        for each in found[0]["results"]["memory"]
    ]
    header = ["Gram of n rows", "n", "in blocks of", "peak MiB", "of which before"]
    return markdown(header, rows)


def against_torch(
    found: Sequence[Record], *, name: str, first_step: bool = False
) -> str:
    """Steps in milliseconds, peak memory, and how many times PyTorch's ours are.

    Args:
      found: all records.
      name: of the record.
      first_step: whether to say what the first step takes.
    """
    found = named(found, f"benchmarks/{name}")
    if not found:
        return "No records yet."
    rows = []
    for entry in found[0]["results"]["entries"]:
        row = [f"{entry['sizes']}, {entry['method']}"]
        for form in ("ddjax", "PyTorch"):
            row.append(f"{1e3 * entry['seconds'][form]['median']:.0f}")
        row.append(f"{entry['times_ours']['PyTorch']:.2f}")
        for form in ("ddjax", "PyTorch"):
            row.append(f"{entry['memory'][form]['peak_mib']:.0f}")
        if first_step:
            row.append(f"{entry['memory']['ddjax']['first_step_s']:.1f}")
        rows.append(row)
    header = ["step", "ddjax, ms", "PyTorch, ms", "PyTorch / ddjax"]
    header += ["ddjax, peak MiB", "PyTorch, peak MiB"]
    header += ["ddjax, first step, CPU s"] if first_step else []
    return markdown(header, rows) + "\n\n" + caption(found)


def against_libraries(found: Sequence[Record]) -> str:
    """Seconds, and how many times as long as ours another library takes."""
    found = named(found, "benchmarks/against_libraries")
    if not found:
        return "No records yet."
    rows = []
    for entry in found[0]["results"]["entries"]:
        other = entry["other"]
        seconds = [f"{entry['seconds'][n]['median']:.3g}" for n in ("ddjax", other)]
        rows.append([entry["what"], *seconds, f"{entry['times_ours'][other]:.2f}"])
    header = ["what, and what of the other library", "ddjax, s", "the other, s"]
    return markdown([*header, "the other / ddjax"], rows) + "\n\n" + caption(found)


TABLES: dict[str, Table] = {
    "against_libraries": against_libraries,
    "ridge": ridge,
    "gram": gram,
    "blocked_gram": blocked_gram,
    "students": functools.partial(against_torch, name="students"),
    "condensation": functools.partial(against_torch, name="condensation"),
    "frozen_encoders": functools.partial(
        against_torch, name="frozen_encoders", first_step=True
    ),
}
"""Table name -> function of all records."""
