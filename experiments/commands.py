"""What the commands behind the tables share: flags, cells that are measured once, ends.

A command lists the records that its table is made of, a `Cell` each, and `measure`
makes those that are missing, one after the other: the same command goes on where it was
stopped. Cells that name a folder to claim are shared out among all processes that run
the command, see `measure`. A mistake is one line, before any work, and an exit status:

0 done; 1 a loss became NaN or infinite; 2 a mistake in the command or the data; 3 the
disk is full or read-only; 4 the memory does not suffice; 130 and 143 stopped by Ctrl-C
or SIGTERM.
"""

import contextlib
import functools
import json
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from absl import app, flags, logging

from ddjax import runtime
from ddjax.command.compilation import keep_compiled_programs
from ddjax.command.ending import (
    ConfigError,
    end,
    expected_ends,
    one_line,
    users_mistakes,
    warn,
)
from ddjax.data import registry
from ddjax.runtime.devices import commit
from ddjax.runtime.memory import enough_memory
from ddjax.storage import atomic
from ddjax.storage.lock import WorkdirInUse, exclusive
from ddjax.storage.writing import writing
from experiments import records
from experiments.data_flag import data_dir
from experiments.tables import Record

__all__ = [
    "Cell",
    "Measured",
    "check_data",
    "define_choices",
    "define_integers",
    "define_minutes",
    "define_numbers",
    "define_record_flags",
    "define_seeds",
    "define_splits",
    "directory",
    "measure",
    "run",
    "whole",
]

# Flags belong to the command that asks for them, and so stand in its --help.
flags.disclaim_key_flags()

# Between two looks at cells that other processes hold.
_POLL_SECONDS = 1.0


class Measured(NamedTuple):
    """What a record says about a result, see `experiments.records.write_record`."""

    results: Mapping[str, Any]
    scale: str
    reduced: str | None = None


class Cell(NamedTuple):
    """One record, and how to make it.

    Attributes:
      name: of the record.
      config: everything that determines it.
      parts: part -> measures it. Parts are kept as soon as they are measured, in
        JSON's types: a command that is stopped goes on with the next one.
      result: all parts -> what the record says.
      check: says what is missing (a data set, weights), before any cell is measured.
      claim: folder that is held while the record is made, by one process at a time;
        made if absent. Several records may share one. None: nobody else is at work.
    """

    name: str
    config: Mapping[str, Any]
    parts: Mapping[str, Callable[[], Any]]
    result: Callable[[Mapping[str, Any]], Measured]
    check: Callable[[], object] = lambda: None
    claim: Path | None = None


def whole(measure: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """The `Cell.parts` of a record that is measured in one go."""
    return {"": measure}


class _Several(flags.ListParser):
    """Comma-separated values, at least one, each of which is looked at."""

    def __init__(self, one: Callable[[Any], Any], *, least: int = 1) -> None:
        super().__init__()
        self._one, self._least = one, least

    def parse(self, argument: Any) -> list[Any]:
        """The values, or a ValueError that names the wrong one."""
        found = [self._one(each) for each in super().parse(argument)]
        if len(found) < self._least:
            raise ValueError("at least one value is needed")
        return found


def _define(name: str, default: Sequence[Any], text: str, parser: _Several) -> Any:
    serializer = flags.CsvListSerializer(",")
    return flags.DEFINE(parser, name, list(default), text, serializer=serializer)


def define_integers(
    name: str, default: Sequence[int], text: str, *, lower_bound: int = 1
) -> flags.FlagHolder[list[int]]:
    """A flag of whole numbers, separated by commas."""

    def one(value: Any) -> int:
        if not str(value).isdecimal() or int(value) < lower_bound:
            raise ValueError(f"{value!r} is not a whole number from {lower_bound} on")
        return int(value)

    return _define(name, default, text, _Several(one))


def define_numbers(
    name: str, default: Sequence[float], text: str
) -> flags.FlagHolder[list[float]]:
    """A flag of positive numbers, separated by commas."""

    def one(value: Any) -> float:
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            raise ValueError(f"{value!r} is not a positive number")
        return number

    return _define(name, default, text, _Several(one))


def define_choices(
    name: str,
    default: Sequence[str],
    text: str,
    *,
    choices: Iterable[str] | None = None,
    least: int = 1,
) -> flags.FlagHolder[list[str]]:
    """A flag of names, separated by commas, each one of the `choices`.

    Args:
      name: of the flag.
      default: what it is when it is not given.
      text: for `--help`.
      choices: what may be named; by default what `default` has.
      least: how many have to be named.
    """
    known = list(choices or default)

    def one(value: Any) -> str:
        if value not in known:
            raise ValueError(f"no {value!r}; there are: {', '.join(known)}")
        return value

    return _define(name, default, text, _Several(one, least=least))


def define_seeds(default: Sequence[int] = (0, 1, 2)) -> flags.FlagHolder[list[int]]:
    """Defines `--seeds`."""
    text = "Seeds; a table wants at least three."
    return define_integers("seeds", default, text, lower_bound=0)


def define_splits() -> flags.FlagHolder[list[str]]:
    """Defines `--splits`."""
    text = "Splits to report; leave test out when choosing."
    return define_choices("splits", ("validation", "test"), text)


def define_record_flags() -> None:
    """Defines `--again` and `--directory`, which every command with records has."""
    flags.DEFINE_bool("again", False, "Measure anew what is on record, and replace it.")
    flags.DEFINE_string(
        "directory", None, "Root of the records. Default: experiments/results."
    )


def define_minutes() -> None:
    """Defines `--minutes`, for commands whose runs go on where they were stopped."""
    flags.DEFINE_float(
        "minutes",
        None,
        "Stop after so many, with everything saved and status 143; the same command "
        "goes on.",
        lower_bound=0.0,
    )


def directory() -> Path:
    """Where the records are."""
    return Path(flags.FLAGS.directory or records.RESULTS)


@functools.cache
def check_data(name: str) -> None:
    """Looks whether the files of a data set are there, before any work.

    Raises:
      ddjax.data.DataError: they are missing or damaged; the message says which.
    """
    folder = data_dir()
    place = Path(folder or "local_data")
    registry.read_source(name, registry.Request(place, explicit=folder is not None))


def measure(
    cells: Sequence[Cell],
    *,
    tables: Sequence[str] = (),
    finish: Callable[[Sequence[Record]], object] | None = None,
) -> None:
    """Makes the records that are missing, and prints the tables that they fill.

    Any number of processes, on one machine or on several that share the folders, may
    make the cells that have a `claim` together, without a server. Each takes a cell by
    the exclusive lock on its folder (`ddjax.storage.lock.exclusive`) and passes over
    those that another one holds; at the end it waits for them, and makes what a process
    that ended without a record has left. The lock is the system's and ends with the
    process that held it, killed or not: nothing has to be cleaned up. On a network file
    system `flock` has to reach the other machines: NFS 4 and NFS 3 with its lock
    manager do (not mounted with `nolock` or `local_lock`), Lustre mounted with `flock`
    does; a machine that dies frees its locks when the server notices (the lease of NFS
    4, some 90 s). Where locks are local to a machine, give each machine cells of its
    own.

    Args:
      cells: the records of the command; with `--again` all of them are made (of those
        with a claim, the ones that no other process has replaced in the meantime).
      tables: names of the tables that are made of them.
      finish: called with all records when anything has been measured, to draw figures.

    Raises:
      ConfigError: a `Cell.check` that failed.
      CannotWrite: the records cannot be written.
    """
    root = directory()
    missing = [
        cell
        for cell in cells
        if flags.FLAGS.again or not records.on_record(cell.name, directory=root)
    ]
    if len(missing) < len(cells):
        kept = [cell for cell in cells if cell not in missing]
        print(_on_record(kept, len(cells), tables, root), flush=True)
    with users_mistakes():
        for cell in missing:
            cell.check()
    for folder in {(root / cell.name).parent for cell in missing}:
        _make_folder(folder)
    if missing:
        minutes = flags.FLAGS.minutes if "minutes" in flags.FLAGS else None
        with _stopping_after(minutes) as is_over:
            _measure(missing, root, is_over)
    found = records.read_records(root)
    if missing and finish is not None:
        finish(found)
    # It has a flag of its own, which is no flag of this command.
    from experiments.fill_tables import TABLES

    for name in tables:
        print(f"\nTable {name}:\n\n{TABLES[name](found)}")


def _make_folder(folder: Path) -> None:
    """Makes sure that records can be written there, before they cost anything."""
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(
            f"{_shown(folder)} is no folder: {one_line(error)}"
        ) from error


@contextlib.contextmanager
def _stopping_after(minutes: float | None) -> Iterator[Callable[[], bool]]:
    """Asks a run to stop, as SIGTERM does, when time is over; tells whether it is."""
    if minutes is None:
        yield lambda: False
        return
    ends = time.monotonic() + 60 * minutes
    not_listening = signal.getsignal(signal.SIGTERM)

    def over(signum: int, frame: object) -> None:
        if signal.getsignal(signal.SIGTERM) == not_listening:
            # No loop is at work, and nobody else can stop halfway: a little later.
            signal.setitimer(signal.ITIMER_REAL, 0.2)
        else:
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(60 * minutes, 1e-3))
    try:
        yield lambda: time.monotonic() > ends
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _measure(cells: Sequence[Cell], root: Path, is_over: Callable[[], bool]) -> None:
    """Cell after cell; those that others hold are tried again until none is left."""
    progress = _Progress(cells, root, is_over)
    waiting, told = list(cells), False
    while waiting:
        held = {}
        for cell in waiting:
            with _claimed(cell) as holder:
                if holder is None:
                    progress.measure(cell)
                else:
                    held[cell.name] = holder
        if len(held) == len(waiting):
            if not told:
                print(f"waiting for {_others(held)}", flush=True)
            told = True
            time.sleep(_POLL_SECONDS)
            if is_over():
                progress.stop(signal.SIGTERM, f"; with others: {_others(held)}")
        waiting = [cell for cell in waiting if cell.name in held]


@contextlib.contextmanager
def _claimed(cell: Cell) -> Iterator[str | None]:
    """Holds the cell's folder; gives None, or who holds it if somebody else does."""
    with contextlib.ExitStack() as holding:
        holder = None
        if cell.claim is not None:
            with writing(cell.claim):
                cell.claim.mkdir(parents=True, exist_ok=True)
            try:
                holding.enter_context(exclusive(cell.claim))
            except WorkdirInUse as error:
                holder = str(error)
        yield holder


def _others(held: Mapping[str, str]) -> str:
    """The records that others are making, and who makes them."""
    return "; ".join(f"{name} ({holder})" for name, holder in held.items())


class _Progress:
    """Measures cells, part after part, and says how far the command is."""

    def __init__(
        self, cells: Sequence[Cell], root: Path, is_over: Callable[[], bool]
    ) -> None:
        self.root, self.is_over = root, is_over
        self.kept = {cell.name: _Kept(cell, root) for cell in cells}
        self.files = {cell.name: _version(root, cell) for cell in cells}
        self.count = sum(len(cell.parts) for cell in cells)
        self.done = self.before = sum(len(each.found) for each in self.kept.values())
        self.began = time.perf_counter()

    def measure(self, cell: Cell) -> None:
        """The parts that are missing; each is kept, the record written with the last.

        Of a cell with a claim only what no other process has made since.
        """
        mine = self.kept[cell.name]
        if cell.claim is not None:
            self.done -= len(mine.found)
            if _version(self.root, cell) != self.files[cell.name]:
                self.done += len(cell.parts)
                return
            mine.read()
            self.done += len(mine.found)
        for part, compute in cell.parts.items():
            if part in mine.found:
                continue
            name = f"{cell.name}, {part}" if part else cell.name
            left = ""
            if self.done > self.before:
                each = (time.perf_counter() - self.began) / (self.done - self.before)
                left = f" (about {_duration(each * (self.count - self.done))} left)"
            print(f"[{self.done + 1} of {self.count}] {name}{left}", flush=True)
            try:
                with users_mistakes(only_ours=True):
                    mine.measure(part, compute)
            except (KeyboardInterrupt, runtime.Interrupted) as error:
                self.stop(getattr(error, "signum", signal.SIGINT))
            self.done += 1
            if len(mine.found) == len(cell.parts):
                print(f"wrote {_shown(mine.write())}", flush=True)
            if self.is_over() and self.done < self.count:
                self.stop(signal.SIGTERM)

    def stop(self, signum: int, why: str = "") -> NoReturn:
        """Ends the command, which is not done."""
        again = " without --again" if flags.FLAGS.again else ""
        end(
            f"stopped; {self.done} of {self.count} are measured, the same command goes "
            f"on{again}{why}",
            128 + signum,
        )


def _version(root: Path, cell: Cell) -> tuple[int, int] | None:
    """Tells a record from the one that replaces it; None where there is none."""
    try:
        found = (root / f"{cell.name}.json").stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


class _Kept:
    """The parts of a record that are measured, in a file until all are."""

    def __init__(self, cell: Cell, root: Path) -> None:
        self.cell, self.root = cell, root
        self.path = root / f"{cell.name}.parts"
        self.about = {
            "config": records.plain(cell.config, "config"),
            "commit": commit("ddjax", "experiments/*.py", "configs"),
        }
        self.read()

    def read(self) -> None:
        self.found: dict[str, Any] = {}
        self.seconds = 0.0
        with contextlib.suppress(FileNotFoundError, ValueError):
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            # Of another commit or other settings, they would not go together.
            if kept["about"] == records.plain(self.about, "about"):
                self.found, self.seconds = kept["found"], kept["seconds"]

    def measure(self, part: str, compute: Callable[[], Any]) -> None:
        began = time.perf_counter()
        self.found[part] = records.plain(compute(), f"results of {self.cell.name}")
        self.seconds += time.perf_counter() - began
        if len(self.found) < len(self.cell.parts):
            kept = {"about": self.about, "found": self.found, "seconds": self.seconds}
            atomic.replace_file(self.path, json.dumps(kept).encode("utf-8"))

    def write(self) -> Path:
        results, scale, reduced = self.cell.result(self.found)
        path = records.write_record(
            self.cell.name,
            self.cell.config,
            results,
            scale=scale,
            reduced=reduced,
            wall_seconds=self.seconds,
            directory=self.root,
        )
        self.path.unlink(missing_ok=True)
        return path


def _on_record(
    kept: Sequence[Cell], count: int, tables: Sequence[str], root: Path
) -> str:
    """What there is, where, what it is for, and how to measure it anew."""
    places = {str((root / cell.name).parent) for cell in kept}
    where = _shown(Path(os.path.commonpath(places)))
    if len(kept) == 1:
        where = _shown(root / f"{kept[0].name}.json")
    fills = f", for the table {' and '.join(tables)}" if tables else ""
    differing: set[str] = set()
    for cell in kept:
        text = (root / f"{cell.name}.json").read_text(encoding="utf-8")
        there, asked = json.loads(text)["config"], records.plain(cell.config, "config")
        differing |= {key for key in there if asked.get(key, there[key]) != there[key]}
    other = (
        f"They were measured with other settings ({', '.join(sorted(differing))}). "
        if differing
        else ""
    )
    return (
        f"{len(kept)} of {count} records are there: {where}{fills}. {other}"
        "--again measures anew and replaces them, --directory=DIR measures beside them."
    )


def _shown(path: Path) -> str:
    """A path, from here where it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def run(main: Callable[[], object]) -> None:
    """Parses the flags, does `main`, and turns every expected end into a status."""

    def guarded(argv: Sequence[str]) -> None:
        del argv
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        keep_compiled_programs()
        with expected_ends(), enough_memory():
            main()

    warnings.showwarning = warn
    app.run(guarded, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    """Flags; a mistake is one line and exit status 2."""
    try:
        rest = flags.FLAGS(list(argv))
    except SystemExit:
        # Absl has shown the help, and calls that a failure.
        sys.exit(0)
    except flags.Error as error:
        end(f"error: {one_line(error)}", 2)
    if len(rest) > 1:
        end(f"error: unknown argument {rest[1]!r}; --help shows what there is", 2)
    return rest
