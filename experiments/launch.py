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

Exit status: 0 finished; 1 the loss became NaN or infinite; 2 a mistake in the command,
the configuration or the data; 130 and 143 stopped by Ctrl-C or SIGTERM with everything
saved.
"""

import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import ml_collections
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from ddjax import runtime
from ddjax.data.problem import Problem
from ddjax.runtime import devices, workdir
from experiments.completion import CompletedConfigParser
from experiments.outcome import Outcome, finish, finished, sizes, summary
from experiments.settings import ConfigError, Run, one_line, resolve, users_mistakes

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

_GROWING = ("train.steps",)


def train_and_evaluate(
    config: ml_collections.ConfigDict,
    folder: str | os.PathLike[str],
    *,
    command: str | None = None,
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
      folder: the run's folder: new, empty, or of the same configuration.
      command: how to run it again, for the report.

    Returns:
      What the run has; read back from the folder when it had been finished before.

    Raises:
      ConfigError: a mistake in the configuration, the data or the folder.
      ddjax.runtime.Diverged: the loss became NaN or infinite.
      ddjax.runtime.Interrupted: SIGTERM or Ctrl-C; everything is saved.
      ddjax.runtime.WorkdirInUse: another process works in the folder.
    """
    with users_mistakes():
        run = resolve(config)
        plain = _without_places(run.config)
        path = workdir.open_workdir(folder)
    with runtime.exclusive(path):
        with users_mistakes():
            workdir.refuse_another(
                path / workdir.RUN_FILE, plain, growing=_GROWING, part="config"
            )
        before = finished(path, run.train["steps"])
        if before is not None:
            print(f"{path} has been finished:\n\n{summary(before)}")
            return before
        with users_mistakes():
            problem = run.load()
        print(_description(run, problem), flush=True)
        with users_mistakes(only_ours=True):
            trained = runtime.train(
                run.method,
                problem,
                seed=run.seed,
                workdir=path,
                evaluations=[run.evaluations[label] for label in run.validate],
                config=plain,
                **run.train,
            )
            outcome = finish(run, problem, trained, path, command)
    print(f"\n{summary(outcome)}")
    return outcome


def _description(run: Run, problem: Problem) -> str:
    machine = devices.hardware()
    return (
        f"{run.config['method']['name']} on {problem.name} ({_task(problem)}; "
        f"{sizes(problem)}), {run.train['steps']} steps, seed {run.seed}, "
        f"on {', '.join(machine['devices'])} ({machine['cores']} cores)"
    )


def _task(problem: Problem) -> str:
    targets = problem.train.targets
    if problem.classes:
        return f"{problem.classes} classes"
    if targets is None:
        return "without labels"
    names = problem.columns.targets if problem.columns else ()
    return f"regression of {', '.join(names) or f'{np.shape(targets)[1]} target(s)'}"


def _without_places(config: Any) -> Any:
    """A configuration without where things lie on this machine."""
    if not isinstance(config, dict):
        return config
    return {
        key: _without_places(value)
        for key, value in config.items()
        if not key.endswith("directory")
    }


def _parse(argv: Sequence[str]) -> list[str]:
    """Flags and the configuration; a mistake is one line and exit status 2."""
    try:
        rest = flags.FLAGS(list(argv))
        if len(rest) > 1:
            raise ValueError(f"unknown argument {rest[1]!r}")
        for flag in (_CONFIG, _WORKDIR):
            if not flags.FLAGS[flag.name].present:
                raise ValueError(f"--{flag.name} is missing; --help shows an example")
        _CONFIG.value.to_dict()
    except SystemExit:
        # Absl has shown the help, and calls that a failure.
        sys.exit(0)
    # A config file is code: it may raise anything.
    except Exception as error:
        _end(f"error: {_context(error)}{one_line(error)}", 2)
    return rest


def _context(error: Exception) -> str:
    """What the error is about, where its own message does not say."""
    if isinstance(error, (OSError, SyntaxError, ImportError)):
        return "cannot read the configuration file: "
    if isinstance(error, (KeyError, AttributeError)) and "get_config" not in str(error):
        return "no such configuration key: "
    return ""


def _end(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


def _warn(message: Any, *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main(argv: Sequence[str]) -> None:
    """Runs what the flags say and turns every expected end into an exit status."""
    del argv
    warnings.showwarning = _warn
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    command = shlex.join(["python", "-m", "experiments.launch", *sys.argv[1:]])
    folder = flags.FLAGS.workdir
    try:
        train_and_evaluate(_CONFIG.value, folder, command=command)
    except (ConfigError, runtime.WorkdirInUse) as error:
        _end(f"error: {error}", 2)
    except runtime.Diverged as error:
        _end(f"error: {error}", 1)
    except runtime.Interrupted as error:
        _end(str(error), 128 + error.signum)
    except KeyboardInterrupt:
        _end("stopped by Ctrl-C; run the same command again to go on", 130)


if __name__ == "__main__":
    jax.config.config_with_absl()
    app.run(main, flags_parser=_parse)
