"""Commands in the process of the tests, each with its own set of absl's flags."""

import contextlib
import importlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from absl import app, flags, logging

from ddjax.storage.lock import exclusive
from experiments import commands

_MODULES: dict[str, ModuleType] = {}
_FLAGS: dict[str, flags.FlagValues] = {}


class Ended(NamedTuple):
    """The exit status of a command, and what it printed."""

    status: int
    out: str
    err: str


def load(name: str) -> Any:
    """A command's module; its flags leave room for those of the next one."""
    if name not in _MODULES:
        with flags_of(flags.FlagValues()) as own:
            _MODULES[name] = importlib.import_module(f"experiments.{name}")
        _FLAGS[name] = own
    return _MODULES[name]


def run(name: str, *arguments: str, capsys: pytest.CaptureFixture[str]) -> Ended:
    """Does what `python -m experiments.NAME ARGUMENTS` does."""
    module = load(name)
    return run_main(module.main, *arguments, own=_FLAGS[name], capsys=capsys)


def run_main(
    main: Callable[[], object],
    *arguments: str,
    own: flags.FlagValues,
    capsys: pytest.CaptureFixture[str],
) -> Ended:
    """Runs a command's main function with its flags."""
    capsys.readouterr()
    with app_run_in_process(arguments), flags_of(own):
        try:
            commands.run(main)
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
    return Ended(status, *capsys.readouterr())


@contextlib.contextmanager
def held(
    folder: Path,
    *,
    left: threading.Event | None = None,
    then: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Another one holds a folder until `left` or the end, and then does `then`."""
    taken, left = threading.Event(), left or threading.Event()

    def hold() -> None:
        with exclusive(folder):
            taken.set()
            left.wait()
            then()

    other = threading.Thread(target=hold)
    other.start()
    taken.wait()
    try:
        yield
    finally:
        left.set()
        other.join()


@contextlib.contextmanager
def app_run_in_process(arguments: tuple[str, ...]) -> Iterator[None]:
    """`absl.app.run` with these arguments, without what it changes for good."""

    def run(main: Any, flags_parser: Any = flags.FLAGS) -> None:
        main(flags_parser(sys.argv))

    app.define_help_flags()
    verbosity = logging.get_verbosity()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(app, "run", run)
        patch.setattr(sys, "argv", ["command", *arguments])
        yield
    logging.set_verbosity(verbosity)


@contextlib.contextmanager
def flags_of(own: flags.FlagValues) -> Iterator[flags.FlagValues]:
    """Puts these flags, as not given, in the place of all that are not absl's."""
    others = _detached()
    for name in own:
        own[name].unparse()
    flags.FLAGS.append_flag_values(own)
    try:
        yield own
    finally:
        taken = _detached()
        for name in set(taken) - set(own):
            own[name] = taken[name]
        flags.FLAGS.append_flag_values(others)


def _detached() -> flags.FlagValues:
    """Takes all flags away that are not absl's."""
    taken = flags.FlagValues()
    for name in list(flags.FLAGS):
        module = flags.FLAGS.find_module_defining_flag(name, "")
        if not module.startswith("absl."):
            taken[name] = flags.FLAGS[name]
    flags.FLAGS.remove_flag_values(taken)
    return taken
