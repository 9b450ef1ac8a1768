"""One run, whatever it was described by: distilled, measured, and reported."""

import functools
import os
import warnings
from typing import Any

import numpy as np

from ddjax import runtime
from ddjax.command.ending import users_mistakes
from ddjax.command.run import Run
from ddjax.data.problem import Problem
from ddjax.models.encoders.settings import as_encoder
from ddjax.runtime import devices, workdir
from ddjax.runtime.memory import enough_memory
from ddjax.runtime.outcome import Outcome, finish, finished, sizes, summary
from ddjax.runtime.profiling import check_profile
from ddjax.storage.writing import writing
from ddjax.synthetic import json_text

__all__ = ["description", "execute", "identity"]

_GROWING = ("train.steps",)


def execute(
    run: Run,
    folder: str | os.PathLike[str],
    *,
    command: str | None = None,
    profile: int | None = None,
) -> Outcome:
    """Does all of one run, or what is left of it.

    Args:
      run: what to do.
      folder: the run's folder: new, empty, or of the same configuration. What is only
        done on the test split may differ: a finished run is then measured again.
      command: how to run it again, for the report.
      profile: how many steps to trace, see `ddjax.runtime.train`.

    Returns:
      What the run has; read back from the folder when it had been finished before.

    Raises:
      ConfigError: a mistake in the settings, the data or the folder.
      ddjax.runtime.Diverged, ddjax.runtime.Interrupted, ddjax.runtime.WorkdirInUse,
        ddjax.runtime.CannotWrite, ddjax.runtime.NotEnoughMemory: as
        `ddjax.runtime.train`.
    """
    with users_mistakes():
        check_profile(profile, run.train["steps"], folder)
        plain = identity(run)
        path = workdir.open_workdir(folder)
        held = workdir.refuse_another(
            path / workdir.RUN_FILE,
            plain,
            growing=_GROWING,
            free=functools.partial(_only_measured, run=run),
            part="config",
        )
    # Nothing is written for this: it may be a folder to read only.
    before = finished(path, run.train["steps"])
    if before is not None and held is not None and held["config"] == plain:
        if profile is not None:
            warnings.warn(f"{path} has no step left to profile", stacklevel=2)
        print(f"{path} has been finished:\n\n{summary(before)}")
        return before
    with runtime.exclusive(path), writing(path), enough_memory():
        with users_mistakes():
            problem = run.load()
        print(description(run, problem), flush=True)
        with users_mistakes(only_ours=True):
            trained = runtime.train(
                run.method,
                problem,
                seed=run.seed,
                workdir=path,
                evaluations=[run.evaluations[label] for label in run.validate],
                config=plain,
                profile=profile,
                **run.train,
            )
            outcome = finish(
                path,
                trained,
                problem,
                config=run.config,
                evaluations=run.evaluations,
                judged_on=run.load_other,
                seed=run.seed,
                command=command or "train_and_evaluate(config, workdir)",
            )
    print(f"\n{summary(outcome)}")
    return outcome


def description(run: Run, problem: Problem) -> str:
    """What is about to be done, in one line."""
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


def identity(run: Run) -> dict[str, Any]:
    """What makes a run this one: its configuration, and which weights encoders have."""
    settings = {
        "method": run.method.settings,
        **{label: each.settings for label, each in run.evaluations.items()},
    }
    weights = {
        where: [_checksum(each) for each in _listed(given["encoder"])]
        for where, given in settings.items()
        if given.get("encoder")
    }
    known = _without_places(run.config) | ({"weights": weights} if weights else {})
    return json_text.plain(known, "config")


def _checksum(encoder: Any) -> str:
    """The checksum of an encoder's weights, from its settings or how to load it."""
    known = encoder.get("sha256") if isinstance(encoder, dict) else None
    return known or as_encoder(encoder).setting["sha256"]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _only_measured(key: str, run: Run) -> bool:
    """Whether a key is of an evaluation that has no part in choosing the step."""
    section, _, rest = key.partition(".")
    validate_is_all = not run.config["train"].get("validate")
    if section not in ("evaluate", "weights") or validate_is_all:
        return False
    return rest.split(".")[0] not in ("method", *run.validate)


def _without_places(config: Any) -> Any:
    """A configuration without where things lie on this machine."""
    if not isinstance(config, dict):
        return config
    return {
        key: _without_places(value)
        for key, value in config.items()
        # Weights are known by their checksum.
        if not (key.endswith("directory") or key == "weights")
    }
