"""What a finished run leaves in its folder, and how it is read back."""

import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ddjax import synthetic
from ddjax.data.errors import one_line
from ddjax.data.problem import Problem
from ddjax.evaluation.base import Evaluation, Score
from ddjax.evaluation.certificate import in_words
from ddjax.evaluation.wording import is_certificate
from ddjax.runtime import dataset_card, devices, run_report, workdir
from ddjax.runtime.loop import TrainResult, run_keys
from ddjax.runtime.progress import duration, table
from ddjax.runtime.scores import (
    HEADER,
    NOTHING_MEASURED,
    Measured,
    not_converged,
    score_rows,
)
from ddjax.storage.cache import in_memory
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.files import RUN_SUBFOLDER

__all__ = [
    "RESULTS",
    "Outcome",
    "finish",
    "finished",
    "measured_certificate",
    "read_outcome",
    "report",
    "sizes",
    "summary",
]

RESULTS = "results.json"
"""What a finished run's folder has, and another one not."""

# What the evaluations of a finished run may share in memory.
_CACHE_BYTES = 2**30


class Outcome(NamedTuple):
    """What a finished run has.

    Attributes:
      workdir: its folder.
      distilled: the distilled set, as saved.
      validation: scalar -> Score.
      test: scalar -> Score.
      results: the content of `results.json`.
    """

    workdir: Path
    distilled: DistilledSet
    validation: dict[str, Score]
    test: dict[str, Score]
    results: dict[str, Any]


def finish(
    path: Path,
    trained: TrainResult,
    problem: Problem,
    *,
    config: Mapping[str, Any],
    evaluations: Mapping[str, Evaluation],
    judged_on: Mapping[str, Callable[[], Problem]],
    seed: int,
    command: str,
    verbose: bool = True,
) -> Outcome:
    """Reads the test split, completes and saves the distilled set, reports.

    Args:
      path: the run's folder.
      trained: what `ddjax.runtime.train` left of `problem`.
      problem: what was distilled.
      config: what the run was configured with; `config["method"]["name"]` is the
        method's.
      evaluations: label -> what to measure on the test split.
      judged_on: label -> loads the data to measure that on, where they are others.
      seed: of the run.
      command: how to run it again, for the report.
      verbose: say on stdout what is done.
    """
    distilled, test, other_data = trained.distilled, {}, {}
    keys, cache = run_keys(seed), in_memory(limit=_CACHE_BYTES)
    for i, (label, each) in enumerate(evaluations.items()):
        if verbose:
            print(f"test split: {label}", flush=True)
        key = jax.random.fold_in(keys.test, i)
        data = judged_on.get(label, lambda: problem)()
        found = each.evaluate(key, distilled, data, "test", cache)
        test |= found
        if label in judged_on:
            other_data |= dict.fromkeys(found, data.name)
    distilled = distilled._replace(certificate=measured_certificate(distilled, test))
    synthetic.save(path / RUN_SUBFOLDER, distilled)
    exports = path / "exports"
    synthetic.to_npz(exports / "distilled.npz", distilled)
    synthetic.to_torch_safetensors(exports / "distilled.safetensors", distilled)
    inputs = synthetic.decoded(distilled).inputs
    if distilled.targets_kind == "regression" and inputs.ndim == 2:
        synthetic.to_csv(exports / "distilled.csv", distilled)
    chosen_by = "the last one"
    if trained.monitor is not None:
        chosen_by = f"the best by validation {trained.monitor}"
    facts = _facts(problem)
    results = {
        "step": trained.step,
        "steps": trained.steps,
        "chosen_by": chosen_by,
        "monitor": trained.monitor,
        "real_samples": len(problem.train.inputs),
        "other_data": other_data,
        "evaluations": {each.name: each.settings for each in evaluations.values()},
        "seconds": round(trained.seconds, 3),
        "preparation_seconds": round(trained.preparation_seconds, 3),
        "validation": {k: s._asdict() for k, s in trained.validation.items()},
        "test": {k: s._asdict() for k, s in test.items()},
        "digest": synthetic.digest(distilled),
        "run": facts,
    }
    outcome = Outcome(path, distilled, trained.validation, test, results)
    report = run_report.Report(
        title=f"{config['method']['name']} on {problem.name}",
        measured=_measured(outcome),
        start=trained.start,
        step=trained.step,
        steps=trained.steps,
        chosen_by=chosen_by,
        seconds=trained.seconds,
        preparation_seconds=trained.preparation_seconds,
        config=config,
        metrics=trained.history,
        run=facts,
        command=command,
    )
    run_report.write_report(path, report)
    dataset_card.write_card(path / "distilled", report)
    # Written last: it is what makes the run a finished one.
    workdir.write_json(path / RESULTS, results)
    return outcome


def measured_certificate(
    distilled: DistilledSet, scores: Mapping[str, Score], split: str = "test"
) -> dict[str, Any] | None:
    """What the certificate evaluations found on a split, with what it holds for.

    Returns:
      JSON-able; what the set has, where no certificate is among the scores.
    """
    found = {
        name.removeprefix("certificate/"): score.mean
        for name, score in scores.items()
        if is_certificate(name)
    }
    if not found:
        return distilled.certificate
    about = ("loss", "real_ridge", "ridge")
    known = {k: distilled.recipe[k] for k in about if k in distilled.recipe}
    says = {"says": in_words(found)} if "proves_something" in found else {}
    before = distilled.certificate or {}
    return {**before, **says, "split": split, **known, **found}


def _facts(problem: Problem) -> dict[str, str]:
    """What the report says of the data, the machine and the software."""
    machine, (commit, modified) = devices.hardware(), devices.commit(".")
    device_peak = devices.device_peak_memory_mib()
    memory = f"{devices.peak_memory_mib():.0f} MiB"
    facts = {
        "data": f"{problem.name}: {sizes(problem)}",
        "data fingerprint": problem.fingerprint,
        "processor": f"{machine['processor']}, {machine['cores']} cores",
        "devices": f"{machine['backend']}: {', '.join(machine['devices'])}",
        "peak memory": memory
        + (f", {device_peak:.0f} MiB on the device" if device_peak else ""),
        "versions": ", ".join(f"{k} {v}" for k, v in devices.versions().items()),
    }
    if commit:
        facts["commit"] = commit + (" with changes" if modified else "")
    return facts


def finished(path: Path, steps: int) -> Outcome | None:
    """The outcome of a run that has all its steps behind it, or None."""
    try:
        outcome = read_outcome(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        warnings.warn(f"{error}; finishing again", stacklevel=2)
        return None
    return outcome if outcome.results["steps"] == steps else None


def read_outcome(folder: str | os.PathLike[str]) -> Outcome:
    """What a finished run has left in its folder.

    Raises:
      FileNotFoundError: there is no finished run.
      ValueError: it is damaged, or another version wrote it.
    """
    path = Path(folder)
    text = (path / RESULTS).read_text(encoding="utf-8")
    try:
        results = json.loads(text)
        scores = {
            split: {name: Score(**score) for name, score in results[split].items()}
            for split in ("validation", "test")
        }
        distilled = synthetic.load(path / RUN_SUBFOLDER)
        if synthetic.digest(distilled) != results["digest"]:
            raise ValueError(f"{path / RUN_SUBFOLDER} is not what it speaks of")
        outcome = Outcome(path, distilled, results=results, **scores)
        _measured(outcome)  # refuses what another version wrote
        for key in ("steps", "seconds", "preparation_seconds"):
            float(results[key])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path / RESULTS}: {one_line(error)}") from error
    return outcome


def report(folder: str | os.PathLike[str]) -> str:
    """What a finished run found, as a table in plain text, and where its files are.

    Args:
      folder: of the run, as `train_and_report`, `sweep` or `ddjax distil` left it.

    Raises:
      ValueError: no finished run is there, or it is damaged.
    """
    try:
        return summary(read_outcome(folder))
    except FileNotFoundError:
        raise ValueError(
            f"{folder} holds no finished run (there is no {RESULTS}); "
            "ddjax.runtime.train_and_report finishes what ddjax.runtime.train began"
        ) from None


def sizes(problem: Problem) -> str:
    """`1294 train, 143 validation, 360 test`."""
    return ", ".join(
        f"{len(getattr(problem, split).inputs)} {split}"
        for split in ("train", "validation", "test")
    )


def summary(outcome: Outcome) -> str:
    """The table at the end, and where things are."""
    measured, results = _measured(outcome), outcome.results
    rows = score_rows(measured)
    says = (outcome.distilled.certificate or {}).get("says")
    notes = [*not_converged(measured), *([says] if says else [])]
    return "\n".join(
        [
            table(HEADER, rows) if rows else NOTHING_MEASURED,
            *(f"\n{note}" for note in notes),
            "",
            f"step {results['step']} of {results['steps']}, {results['chosen_by']}; "
            f"{duration(results['preparation_seconds'])} of preparation, "
            f"{duration(results['seconds'])} of distillation",
            f"distilled set: {outcome.workdir / RUN_SUBFOLDER}",
            f"report:        {outcome.workdir / 'report.html'}",
        ]
    )


def _measured(outcome: Outcome) -> Measured:
    results = outcome.results
    return Measured(
        outcome.distilled,
        real_samples=results["real_samples"],
        validation=outcome.validation,
        test=outcome.test,
        monitor=results["monitor"],
        other_data=results["other_data"],
    )
