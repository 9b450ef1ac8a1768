"""`ddjax distil`: a data set, a method and its keywords make a distilled set."""

import functools
import shlex
import textwrap
import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from ddjax import data, runtime
from ddjax.command.artefact import load_keywords
from ddjax.command.configuration import configuration, presets
from ddjax.command.ending import users_mistakes
from ddjax.command.execution import description, execute
from ddjax.command.keywords import (
    check_names,
    check_types,
    merged,
    parameters,
    read,
    split,
)
from ddjax.command.named import data_keywords, make_evaluation, make_method
from ddjax.command.run import NOT_IN_TRAIN, Run
from ddjax.runtime import devices
from ddjax.runtime.memory import in_units, refuse_too_large
from ddjax.runtime.progress import duration
from ddjax.runtime.runs import seed_folders

__all__ = ["run", "wanted"]


def run(arguments: Namespace) -> None:
    """Distils into `--workdir`, or goes on there, and prints the scores.

    Raises:
      ConfigError: a mistake in the command, the data or the folder.
    """
    if arguments.list:
        for name, text in presets().items():
            print(f"{name}\n{textwrap.indent(text, '    ')}\n")
        return
    with users_mistakes():
        asked_for = wanted(arguments)
        folders = {} if arguments.dry_run else _folders(arguments)
    if arguments.dry_run:
        _say_memory(asked_for)
        return
    command = shlex.join(["ddjax", *arguments.words])
    distil = functools.partial(execute, command=command, profile=arguments.profile)
    if folders is None:
        distil(asked_for, arguments.workdir)
        return
    for seed, folder in folders.items():
        config = {**asked_for.config, "seed": seed}
        distil(asked_for._replace(config=config, seed=seed), folder)
        print(flush=True)
    print(runtime.table_of_runs(*folders.values()))


def wanted(arguments: Namespace) -> Run:
    """The run that the arguments describe; nothing is loaded or computed yet.

    Flags stand in place of what the configuration says: keywords one by one,
    evaluations all together, and another method without the keywords of that of the
    configuration.

    Raises:
      ValueError: an unknown name or keyword, a value of a wrong type, or no data,
        method or steps.
    """
    known = configuration(arguments)
    of_flags = not known
    given = _data(arguments, known.get("data", {}), of_flags)
    name, keywords = _method(arguments, known.get("method", {}))
    steps = known.get("steps") if arguments.steps is None else arguments.steps
    seed = known.get("seed", 0) if arguments.seed is None else arguments.seed
    if steps is None:
        raise ValueError("--steps is missing")
    train = merged(known.get("train", {}), read("--train", arguments.train))
    where = "--train" if of_flags else "train"
    allowed = set(parameters(runtime.train)) - {*NOT_IN_TRAIN, "steps"}
    check_names(where, train, allowed)
    check_types(where, train, runtime.train)
    train["steps"] = steps
    evaluate = _evaluations(arguments, known.get("evaluate", {}))
    return Run(
        config={
            "seed": seed,
            "data": given,
            "method": {"name": name, **keywords},
            "train": train,
            "evaluate": evaluate,
        },
        seed=seed,
        method=make_method("--set" if of_flags else "method", name, keywords),
        load=functools.partial(data.load, **given),
        evaluations={
            label: make_evaluation(
                f"evaluate.{label}", settings["name"], _without_name(settings)
            )
            for label, settings in evaluate.items()
        },
        load_other={},
        validate=list(evaluate),
        train=train,
    )


def _data(
    arguments: Namespace, known: Mapping[str, Any], of_flags: bool
) -> dict[str, Any]:
    flags = {"name": arguments.data, "directory": arguments.directory}
    given = {key: value for key, value in flags.items() if value is not None}
    whole = merged(known, given | load_keywords(arguments))
    if "name" not in whole:
        raise ValueError("--data is missing: the name of the real data")
    return data_keywords("--load" if of_flags else "data", whole)


def _method(
    arguments: Namespace, known: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The method's name and keywords."""
    before = _without_name(known)
    name = known.get("name") if arguments.method is None else arguments.method
    if name is None:
        raise ValueError("--method is missing; ddjax distil --list shows presets")
    if name != known.get("name"):
        before = {}
    keywords = read("--set", arguments.set)
    if "name" in keywords:
        raise ValueError("--set name: give the method's name as --method")
    found = merged(before, keywords)
    if arguments.dry_run:
        # What is kept on disk between runs is computed in memory.
        found = {key: v for key, v in found.items() if not key.endswith("_directory")}
    return str(name), found


def _evaluations(
    arguments: Namespace, known: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Label -> settings with the name."""
    if not arguments.evaluate:
        return {label: {"name": label, **each} for label, each in known.items()}
    found = dict(_evaluation(text) for text in arguments.evaluate)
    if len(found) < len(arguments.evaluate):
        raise ValueError(
            "--evaluate: two of one name; tell them apart by label=..., as in "
            "--evaluate probe:label=other"
        )
    return found


def _evaluation(text: str) -> tuple[str, dict[str, Any]]:
    """The label of `NAME:KEY=VALUE,...`, and the settings with the name."""
    name, _, rest = text.partition(":")
    settings = read(f"--evaluate {name}", split(rest) if rest else ())
    if "name" in settings:
        raise ValueError(f"--evaluate {text}: the name stands before the colon")
    label = f"{name}_{settings['label']}" if settings.get("label") else name
    return label, {"name": name, **settings}


def _without_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "name"}


def _folders(arguments: Namespace) -> dict[int, Any] | None:
    """Seed -> folder for `--seeds`, None without it."""
    if arguments.workdir is None:
        raise ValueError("--workdir is missing: the folder of the run")
    if arguments.seeds is None:
        return None
    if arguments.seed is not None:
        raise ValueError("--seed and --seeds: give one of them")
    try:
        seeds = [int(each) for each in arguments.seeds.split(",")]
    except ValueError:
        raise ValueError(
            f"--seeds is {arguments.seeds!r}; it is whole numbers with commas between "
            "them, such as 0,1,2"
        ) from None
    return seed_folders(arguments.workdir, seeds)


def _say_memory(run: Run) -> None:
    """Prepares and compiles the run's steps, and prints what they need."""
    with users_mistakes():
        problem = run.load()
    print(description(run, problem), flush=True)
    began = time.perf_counter()
    chunk = {"chunk": run.train["chunk"]} if "chunk" in run.train else {}
    with users_mistakes(only_ours=True):
        memory = runtime.memory_of_steps(run.method, problem, seed=run.seed, **chunk)
    seconds = duration(time.perf_counter() - began)
    print(f"prepared and compiled in {seconds}; nothing was written\n")
    peak = f"{devices.peak_memory_mib():,.0f} MiB"
    rows = [("this process so far, at most", peak)]
    if memory is not None:
        free = "not known" if memory.free is None else in_units(memory.free)
        rows += [
            ("state and data, there already", in_units(memory.arguments)),
            ("a step, besides these", in_units(memory.needed)),
            ("free where it runs", free),
        ]
    print("\n".join(f"{what:<32}{value:>14}" for what, value in rows), flush=True)
    refuse_too_large(memory)
