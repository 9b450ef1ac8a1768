"""`ddjax evaluate`: what a distilled set is worth on real data."""

import json
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import jax

from ddjax import data, synthetic
from ddjax.command.artefact import data_of, fingerprint, opened
from ddjax.command.ending import users_mistakes
from ddjax.command.keywords import read
from ddjax.command.named import make_evaluation
from ddjax.data.problem import Problem
from ddjax.evaluation.base import Score
from ddjax.runtime.loop import run_keys
from ddjax.runtime.outcome import measured_certificate
from ddjax.runtime.progress import table
from ddjax.runtime.scores import (
    HEADER,
    Measured,
    certificate_rows,
    not_converged,
    score_rows,
)
from ddjax.storage.cache import in_memory
from ddjax.synthetic.distilled import DistilledSet

__all__ = ["run"]

_CACHE_BYTES = 2**30


def run(arguments: Namespace) -> None:
    """Evaluates a set and prints the scores.

    The draws are those of the first evaluation of a run with the same seed.

    Raises:
      ConfigError: a mistake in the set, the data or the settings.
    """
    with users_mistakes():
        distilled = opened(arguments.folder)
        evaluation = make_evaluation(
            "--set", arguments.evaluation, read("--set", arguments.set)
        )
        if not 0 <= arguments.seed < 2**32:
            raise ValueError(f"--seed is {arguments.seed}; it is in [0, 2^32)")
        problem = data.load(**data_of(arguments, distilled))
    key = jax.random.fold_in(getattr(run_keys(arguments.seed), arguments.split), 0)
    with users_mistakes(only_ours=True):
        scores = evaluation.evaluate(
            key, distilled, problem, arguments.split, in_memory(limit=_CACHE_BYTES)
        )
    if arguments.json:
        print(json.dumps(_as_json(arguments, distilled, problem, scores), indent=2))
    else:
        print(_as_text(arguments.split, distilled, problem, scores))


def _as_json(
    arguments: Namespace,
    distilled: DistilledSet,
    problem: Problem,
    scores: Mapping[str, Score],
) -> dict[str, Any]:
    return {
        "digest": synthetic.digest(distilled),
        "data": {"name": problem.name, "fingerprint": problem.fingerprint},
        "split": arguments.split,
        "seed": arguments.seed,
        "scores": {name: score._asdict() for name, score in scores.items()},
    }


def _as_text(
    split: str, distilled: DistilledSet, problem: Problem, scores: Mapping[str, Score]
) -> str:
    same = fingerprint(distilled) == problem.fingerprint
    nothing: dict[str, Score] = {}
    measured = Measured(
        distilled,
        real_samples=len(problem.train.inputs),
        validation=dict(scores) if split == "validation" else nothing,
        test=dict(scores) if split == "test" else nothing,
        other_data={} if same else dict.fromkeys(scores, problem.name),
    )
    lines = []
    if not same:
        lines.append("These are not the data (or the split) that were distilled.\n")
    rows = score_rows(measured)
    if rows:
        column = HEADER.index(split)
        found = [(row[0], row[column]) for row in rows]
        lines.append(table((HEADER[0], split), found))
    certificate = measured_certificate(distilled, scores, split)
    if any(name.startswith("certificate/") for name in scores) and certificate:
        lines.append(table(("certificate", split), certificate_rows(certificate)))
        lines.append(f"\n{certificate['says']}")
    elif not rows:
        lines.append(
            table(
                ("scalar", split),
                [(name, f"{each.mean:.6g}") for name, each in scores.items()],
            )
        )
    lines += [f"\n{note}" for note in not_converged(measured)]
    return "\n".join(lines)
