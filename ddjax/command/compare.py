"""`ddjax compare`: finished runs and sets beside each other in one table."""

import json
from argparse import Namespace
from pathlib import Path

from ddjax.command.ending import users_mistakes
from ddjax.runtime import comparison
from ddjax.runtime.description import printable
from ddjax.storage import atomic
from ddjax.storage.writing import writing

__all__ = ["run"]


def run(arguments: Namespace) -> None:
    """Prints the table, and writes it to the files that are asked for.

    Raises:
      ConfigError: nothing to compare, or a damaged run or set.
    """
    with users_mistakes():
        found = comparison.compare_runs(*arguments.folders)
    if arguments.json:
        print(json.dumps(comparison.to_plain(found), indent=2))
    else:
        lines = comparison.to_text(found).split("\n")
        print("\n".join(map(printable, lines)))
    for file, text in (
        (arguments.csv, comparison.to_csv),
        (arguments.html, comparison.to_page),
    ):
        if file is None:
            continue
        with writing(file):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            atomic.replace_file(Path(file), text(found).encode())
        if not arguments.json:
            print(f"wrote {file}")
