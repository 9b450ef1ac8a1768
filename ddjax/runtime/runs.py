"""Runs from beginning to end: trained, measured on the test split, reported."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

from ddjax.data.problem import Problem
from ddjax.evaluation.base import Evaluation
from ddjax.methods.base import Method
from ddjax.runtime.loop import (
    check_types,
    checked_evaluations,
    run_record,
    train,
    whole_number,
)
from ddjax.runtime.memory import enough_memory
from ddjax.runtime.outcome import Outcome, finish, finished
from ddjax.runtime.workdir import RUN_FILE, open_workdir
from ddjax.storage.lock import exclusive
from ddjax.storage.writing import writing
from ddjax.synthetic.json_text import plain

__all__ = ["seed_folders", "sweep", "train_and_report"]


def train_and_report(
    method: Method,
    problem: Problem,
    *,
    workdir: str | os.PathLike[str],
    steps: SupportsIndex,
    seed: SupportsIndex = 0,
    evaluations: Sequence[Evaluation] = (),
    **keywords: Any,
) -> Outcome:
    """Distils as `train` does, reads the test split once, and writes the report.

    The evaluations choose the step on the validation split, and measure the set that
    was chosen on the test split. The folder then has what a run of `ddjax distil` has:
    `distilled/`, `exports/`, `results.json`, `report.html`. The same call goes on where
    it was stopped, finishes a folder that `train` filled, and says of a finished run
    what it found. The arguments are those of `train`, but for `config` and `cache`.

    Returns:
      The set and its scores; `ddjax.runtime.report(workdir)` has them as text.

    Raises:
      TypeError: a keyword that `train` does not have.
      ValueError: as `train`, and two evaluations of one name.
      ddjax.storage.WorkdirInUse, ddjax.storage.CannotWrite, NotEnoughMemory, Diverged,
        Interrupted: as `train`.
    """
    check_types(method=method, problem=problem, workdir=workdir)
    steps, seed = whole_number("steps", steps, 0), whole_number("seed", seed, 0)
    evaluations = checked_evaluations(evaluations)
    labelled = {each.name: each for each in evaluations}
    if len(labelled) < len(evaluations):
        names = ", ".join(each.name for each in evaluations)
        raise ValueError(
            f"two of the evaluations {names} have one name; tell them apart by "
            "label=..."
        )
    verbose = keywords.pop("verbose", True)
    config = plain(
        {
            "seed": seed,
            "data": {"name": problem.name},
            "method": {"name": method.name, **method.settings},
            "train": {"steps": steps, **keywords},
            "evaluate": {name: each.settings for name, each in labelled.items()},
        },
        "config",
    )
    record = run_record(
        method,
        problem,
        seed=seed,
        steps=steps,
        evaluations=evaluations,
        monitor=keywords.get("monitor"),
        config=config,
    )
    path = open_workdir(workdir)
    before = finished(path, steps) if _is_of(path / RUN_FILE, record) else None
    if before is not None:
        return before
    with exclusive(path), writing(path), enough_memory():
        trained = train(
            method,
            problem,
            steps=steps,
            seed=seed,
            workdir=path,
            evaluations=evaluations,
            config=config,
            verbose=verbose,
            **keywords,
        )
        return finish(
            path,
            trained,
            problem,
            config=config,
            evaluations=labelled,
            judged_on={},
            seed=seed,
            command=f"runtime.train_and_report(method, problem, {steps=}, {seed=})",
            verbose=verbose,
        )


def sweep(
    method: Method,
    problem: Problem,
    *,
    seeds: Iterable[SupportsIndex],
    workdir: str | os.PathLike[str],
    **keywords: Any,
) -> list[Outcome]:
    """The same run with several seeds, each in a folder of its own, one after another.

    `ddjax.runtime.table_of_runs(workdir)` is their mean and standard deviation. The
    same call goes on where it was stopped; more seeds add to those that are there. The
    split of the data is the problem's, the same for all. Seed 0 lies in
    `workdir/seed_0`, and so on; the other arguments are those of `train_and_report`.

    Returns:
      What `train_and_report` returns, in the order of the seeds.

    Raises:
      ValueError: no seeds, or one twice; otherwise as `train_and_report`.
    """
    folders = seed_folders(workdir, seeds)
    return [
        train_and_report(method, problem, workdir=folder, seed=seed, **keywords)
        for seed, folder in folders.items()
    ]


def seed_folders(
    workdir: str | os.PathLike[str], seeds: Iterable[SupportsIndex]
) -> dict[int, Path]:
    """Seed -> the folder of its run in that of a sweep.

    Raises:
      ValueError: no seeds, one that is no whole number in [0, 2^32) or is there twice,
        or a folder that is a run's own.
    """
    chosen = [whole_number("seed", seed, 0) for seed in seeds]
    for seed in chosen:
        if seed >= 2**32 or chosen.count(seed) > 1:
            raise ValueError(
                f"seeds are different whole numbers in [0, 2^32), got {chosen}"
            )
    if not chosen:
        raise ValueError("there are no seeds; give one or more, such as range(3)")
    path = Path(workdir)
    if (path / RUN_FILE).exists():
        raise ValueError(
            f"{path} is the folder of one run; give another one for several seeds"
        )
    return {seed: path / f"seed_{seed}" for seed in chosen}


def _is_of(run_file: Path, record: dict[str, Any]) -> bool:
    """Whether a folder is that of just this run; where it is not, `train` says why."""
    try:
        held = json.loads(run_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return held == json.loads(json.dumps(record))
