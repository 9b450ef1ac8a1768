"""Distils a data set: one configuration, one run, one folder.

  python -m experiments.launch --config=configs/dgkip/digits.py --workdir=runs/digits

A configuration may take an argument after a colon, and any of its values can be set:

  ... --config=configs/dgkip/digits.py:runlocal --workdir=runs/quick
  ... --config=configs/dgkip/digits.py:ipc=10,loss=hinge --config.train.steps=2000

Run the same command again to go on after an interruption; the result is the same, bit
by bit, as without it. A larger --config.train.steps lengthens a run. The folder holds
the distilled set (distilled/), exports for NumPy and PyTorch (exports/), report.html,
report.md, results.json, metrics.jsonl, tensorboard/, run.json (the configuration, every
keyword that was not given included) and the checkpoints.

--profile=STEPS traces so many steps into the folder (profile/), for TensorBoard and
Perfetto; it changes nothing of the run.

Data are looked for in --data_dir (or --config.data.directory, the same), else in the
environment's DDJAX_DATA_DIR, else in ./local_data.

Exit status: 0 finished; 1 the loss became NaN or infinite; 2 a mistake in the command,
the configuration or the data; 3 the disk is full or read-only, with everything kept
that had been saved; 4 the memory does not suffice; 70 a fault of the program, with a
traceback; 130 and 143 stopped by Ctrl-C or SIGTERM with everything saved.
"""

import os
import signal
import sys

if __name__ == "__main__":
    # Until `main`: what is imported below takes seconds, and a Ctrl-C is no fault.
    signal.signal(
        signal.SIGINT, lambda *_: os._exit(os.write(2, b"stopped by Ctrl-C\n") and 130)
    )

import shlex
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from ddjax.command.compilation import keep_compiled_programs
from ddjax.command.ending import (
    ConfigError,
    end,
    expected_ends,
    faults,
    one_line,
    users_mistakes,
    warn,
)
from ddjax.command.execution import execute
from ddjax.runtime.outcome import Outcome
from experiments.completion import CompletedConfigParser, as_config
from experiments.data_flag import define_data_dir
from experiments.settings import resolve

__all__ = ["ConfigError", "Outcome", "train_and_evaluate"]

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Configuration file, with an argument after a colon if it takes one.",
)
flags.FLAGS[_CONFIG.name].parser = CompletedConfigParser(_CONFIG.name)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: new, empty, or the one to go on in."
)
_PROFILE = flags.DEFINE_integer(
    "profile",
    None,
    "Trace so many steps into WORKDIR/profile, for TensorBoard and Perfetto.",
)

define_data_dir()


def train_and_evaluate(
    config: ml_collections.ConfigDict,
    folder: str | os.PathLike[str],
    *,
    command: str | None = None,
    profile: int | None = None,
) -> Outcome:
    """Does all of one run, or what is left of it.

    Args:
      config: with the sections
        `seed`: of the run (not of the data's split, which `data.seed` draws);
        `data`: keywords of `ddjax.data.load`;
        `method`: `name` in `ddjax.methods.METHODS`, and its keywords;
        `train`: keywords of `ddjax.runtime.train`, and `validate`: which evaluations to
        do on the validation split along the way (all, if absent or empty);
        `evaluate`: label -> keywords of an evaluation; its `name` in
        `ddjax.evaluation.EVALUATIONS` is the label unless given, and `data` names other
        data to judge on (keywords of `ddjax.data.load`);
        `encoder`, where there is one: keywords of
        `ddjax.models.encoders.settings.as_encoder` and `features_directory`, for the
        method and every evaluation that takes an encoder and names none.
      folder: the run's folder: new, empty, or of the same configuration. What is only
        done on the test split may differ: a finished run is then measured again.
      command: how to run it again, for the report.
      profile: how many steps to trace, see `ddjax.runtime.train`.

    Returns:
      What the run has; read back from the folder when it had been finished before.

    Raises:
      ConfigError: a mistake in the configuration, the data or the folder. What else
        ends a run is raised by `ddjax.command.execution.execute`.
    """
    with users_mistakes():
        run = resolve(config)
    return execute(run, folder, command=command, profile=profile)


def _use_data_dir(config: ml_collections.ConfigDict) -> None:
    """`--data_dir` stands wherever a configuration looks for data and names no place.

    Raises:
      ValueError: `--config.data.directory` names another place.
    """
    place = flags.FLAGS.data_dir
    if place is None:
        return

    def section(whole: Any, name: str) -> ml_collections.ConfigDict:
        # What is no section is told of later; until then an empty one serves.
        found = (
            whole.get(name) if isinstance(whole, ml_collections.ConfigDict) else None
        )
        empty = ml_collections.ConfigDict()
        return found if isinstance(found, ml_collections.ConfigDict) else empty

    data, judged = section(config, "data"), section(config, "evaluate").values()
    given = data.get("directory")
    if given not in (None, place):
        raise ValueError(
            f"--data_dir={place} and config.data.directory={given} are two names of "
            "one thing; give one of them"
        )
    encoders = section(config, "encoder"), section(section(config, "method"), "teacher")
    others = (section(each, "data") for each in judged)
    with config.unlocked():
        for each in (data, *encoders, *others):
            if each.get("directory") is None:
                each.directory = place


def _parse(argv: Sequence[str]) -> list[str]:
    """Flags and the configuration; a mistake is one line and exit status 2."""
    try:
        rest = flags.FLAGS(list(argv))
        if len(rest) > 1:
            raise ValueError(f"unknown argument {rest[1]!r}")
        for flag in (_CONFIG, _WORKDIR):
            if not flags.FLAGS[flag.name].present:
                raise ValueError(f"--{flag.name} is missing; --help shows an example")
        _use_data_dir(as_config(_CONFIG.value))
    except SystemExit:
        # Absl has shown the help, and calls that a failure.
        sys.exit(0)
    # A config file is code: it may raise anything.
    except Exception as error:
        end(f"error: {_context(error)}{one_line(error)}", 2)
    return rest


def _context(error: Exception) -> str:
    """What the error is about, where its own message does not say."""
    if isinstance(error, (OSError, SyntaxError, ImportError)):
        return "cannot read the configuration file: "
    if isinstance(error, (KeyError, AttributeError)) and "get_config" not in str(error):
        return "no such configuration key: "
    return ""


def main(argv: Sequence[str]) -> None:
    """Runs what the flags say and turns every expected end into an exit status."""
    del argv
    warnings.showwarning = warn
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    command = shlex.join(["python", "-m", "experiments.launch", *sys.argv[1:]])
    folder = flags.FLAGS.workdir
    signal.signal(signal.SIGINT, signal.default_int_handler)
    keep_compiled_programs()
    kept = ". What was saved is kept: with room to write, the same command goes on"
    with faults(), expected_ends(when_full=kept):
        train_and_evaluate(
            _CONFIG.value, folder, command=command, profile=_PROFILE.value
        )


if __name__ == "__main__":
    jax.config.config_with_absl()
    app.run(main, flags_parser=_parse)
