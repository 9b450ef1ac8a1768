"""Writes the README's tables from the committed records.

    python -m experiments.fill_tables [--check]

Every table stands between two markers, `<!-- table: NAME -->` and `<!-- end -->`; what
is between them is replaced. With `--check` nothing is written and the exit status is 1
when the README is not what the records say.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from experiments import records
from experiments.benchmarks import tables as benchmarks
from experiments.clp_dd import tables as clp_dd
from experiments.dgkip import tables as dgkip
from experiments.regression_dd import tables as regression_dd
from experiments.tables import Record, Table

__all__ = ["TABLES", "fill"]

_CHECK = flags.DEFINE_bool("check", False, "Only compare; exit status 1 if different.")
_README = Path(__file__).parents[1] / "README.md"

TABLES: dict[str, Table] = {
    **dgkip.TABLES,
    **benchmarks.TABLES,
    **clp_dd.TABLES,
    **regression_dd.TABLES,
}
"""Table name -> function of all records; a paper's are in its folder's `tables`."""


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
