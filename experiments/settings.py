"""From a configuration to the objects of a run, and mistakes as one line."""

import collections.abc
import contextlib
import difflib
import functools
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NamedTuple,
    SupportsIndex,
    get_args,
    get_origin,
    get_type_hints,
)

import ml_collections

import ddjax
from ddjax import data, evaluation, methods, runtime
from ddjax.data.problem import Problem
from ddjax.evaluation.base import Evaluation
from ddjax.methods.base import Method
from ddjax.methods.descent import Descent
from ddjax.models import encoders
from ddjax.solvers import erm
from ddjax.storage.writing import full_or_read_only
from experiments import completion

__all__ = ["ConfigError", "Run", "one_line", "resolve", "users_mistakes"]

_SECTIONS = ("seed", "data", "method", "train", "evaluate")


class ConfigError(ValueError):
    """The user's mistake, in one line."""


class Run(NamedTuple):
    """A configuration made into objects; nothing is loaded or computed yet.

    Attributes:
      config: the configuration, plain.
      seed: of the run.
      method: the method.
      load: loads the data.
      evaluations: label -> evaluation, for the test split.
      load_other: label -> loads what that evaluation judges on, where it is not the
        data that are distilled.
      validate: labels of those that are done on the validation split along the way.
      train: further keywords of `ddjax.runtime.train`.
    """

    config: dict[str, Any]
    seed: int
    method: Method
    load: Callable[[], Problem]
    evaluations: dict[str, Evaluation]
    load_other: dict[str, Callable[[], Problem]]
    validate: list[str]
    train: dict[str, Any]


def resolve(config: ml_collections.ConfigDict) -> Run:
    """Makes the objects; what is wrong in a configuration is found here, before work.

    Args:
      config: see `experiments.launch.train_and_evaluate`.

    Raises:
      ValueError: an unknown or missing key, name or keyword, or a value out of range.
    """
    known = (*_SECTIONS, "encoder")
    whole = completion.as_config(config).copy_and_resolve_references()
    _check_names("config", whole.to_dict(), known, required=_SECTIONS)
    completion.complete(whole)
    plain = whole.to_dict()
    for name in ("data", "method", "train", "evaluate"):
        _check_section(name, plain[name])
    for label, settings in plain["evaluate"].items():
        _check_section(f"evaluate.{label}", settings)
    if plain.get("encoder") is not None:
        _check_section("encoder", plain["encoder"])
        _check_types("encoder", plain["encoder"], encoders.load)
    shared = dict(plain.get("encoder") or {})
    if shared:
        directory = shared.pop("features_directory", None)
        shared = {"encoder": shared, "features_directory": directory}
    train, named = dict(plain["train"]), dict(plain["method"])
    validate = train.pop("validate", None) or list(plain["evaluate"])
    if not isinstance(validate, list | tuple):
        raise ValueError(f"train.validate is a list of evaluations, got {validate!r}")
    validate = [str(label) for label in validate]
    _check_names("train.validate", validate, plain["evaluate"])
    allowed = set(completion.keywords(runtime.train)) - set(completion.NOT_IN_TRAIN)
    _check_names("train", train, allowed, required=["steps"])
    _check_types("train", train, runtime.train)
    _check_types("config", {"seed": plain["seed"]}, runtime.train)
    given = _data("data", plain["data"])
    if "name" not in named:
        raise ValueError(f"method.name is missing; known: {', '.join(methods.METHODS)}")
    name = str(named.pop("name"))
    keywords = _with_shared(named, shared, methods.METHODS, name)
    if name in methods.METHODS:
        _check_types("method", named, methods.METHODS[name])
        if isinstance(named.get("descent"), Mapping):
            _check_types("method.descent", named["descent"], Descent)
    return Run(
        config=plain,
        seed=plain["seed"],
        method=_made("method", methods.make, name, keywords),
        load=lambda: data.load(**given),
        evaluations={
            label: _evaluation(label, settings, shared)
            for label, settings in plain["evaluate"].items()
        },
        load_other={
            label: functools.partial(
                data.load, **_data(f"evaluate.{label}.data", settings["data"])
            )
            for label, settings in plain["evaluate"].items()
            if settings.get("data")
        },
        validate=validate,
        train=train,
    )


def _data(where: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    _check_section(where, settings)
    _check_names(where, settings, completion.keywords(data.load), required=["name"])
    _check_types(where, settings, data.load)
    return {key: value for key, value in settings.items() if value is not None}


def _evaluation(
    label: str, settings: Mapping[str, Any], shared: Mapping[str, Any]
) -> Evaluation:
    settings = {key: value for key, value in settings.items() if key != "data"}
    name = str(settings.pop("name", label))
    known = evaluation.EVALUATIONS
    if name not in known:
        raise ValueError(
            f"unknown evaluation {name!r} in evaluate.{label}; "
            f"known: {', '.join(sorted(known))}"
        )
    where = f"evaluate.{label}"
    _check_names(where, settings, completion.keywords(known[name]))
    _check_types(where, settings, known[name])
    keywords = _with_shared(settings, shared, known, name)
    return _made(where, evaluation.make, name, keywords)


def _made(
    where: str, make: Callable[..., Any], name: str, keywords: Mapping[str, Any]
) -> Any:
    """What a factory makes; a value of a type that it cannot take is the user's."""
    try:
        return make(name, **keywords)
    except (TypeError, AttributeError, LookupError, OverflowError) as error:
        raise ValueError(
            f"{where}: {name} cannot be made of these settings, one of which has a "
            f"wrong type: {one_line(error)}"
        ) from error


def _with_shared(
    settings: Mapping[str, Any],
    shared: Mapping[str, Any],
    factories: Mapping[str, Callable[..., Any]],
    name: str,
) -> dict[str, Any]:
    """The keywords of a factory, with those of the section `encoder` that it takes."""
    if name not in factories:
        return dict(settings)
    taken = {
        key: value
        for key, value in shared.items()
        if key in completion.keywords(factories[name]) and settings.get(key) is None
    }
    return {**settings, **taken}


def _check_section(where: str, given: Any) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{where} is a section of the configuration, a dict of keywords; got "
            f"{given!r}"
        )


def _check_types(
    where: str, given: Mapping[str, Any], function: Callable[..., Any]
) -> None:
    """Compares values with the annotations of a function's parameters."""
    hints = get_type_hints(function)
    for name, value in given.items():
        wanted = hints.get(name, Any)
        # What is not given is a placeholder's None.
        if value is not None and not _fits(value, wanted):
            raise ValueError(
                f"{where}.{name} is {value!r}, of type {type(value).__name__}; it "
                f"takes {_type_name(wanted)}"
            )


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value is of a type; True wherever the type says nothing simple."""
    options = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    for option in options:
        kind = get_origin(option) or option
        if option is float and isinstance(value, int) and not isinstance(value, bool):
            return True
        if option is Any or kind is Literal or not isinstance(kind, type):
            return True
        if isinstance(value, bool) and kind is not bool:
            continue
        if isinstance(value, str) and kind is collections.abc.Sequence:
            continue
        if isinstance(value, kind):
            return True
    return False


def _type_name(wanted: Any) -> str:
    if wanted is SupportsIndex:
        return "a whole number"
    options = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    return " or ".join(
        str(getattr(each, "__name__", each)) for each in options if each is not NoneType
    )


def _check_names(
    where: str,
    given: Mapping[str, Any] | Sequence[str],
    allowed: Any,
    *,
    required: Sequence[str] = (),
) -> None:
    known = sorted(allowed)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            there = f" There are: {', '.join(known)}" if known else ""
            raise ValueError(f"{where} has no {name!r}.{hint}{there}")
    for name in required:
        if name not in given:
            raise ValueError(f"{where}.{name} is missing")


@contextlib.contextmanager
def users_mistakes(*, only_ours: bool = False) -> Iterator[None]:
    """Turns what the library raises about its input into a `ConfigError`.

    With `only_ours`, errors raised within other packages stay what they are: in the
    midst of the work they are more likely faults than mistakes.
    """
    try:
        yield
    except (ValueError, OSError, ImportError, erm.NotConverged) as error:
        if full_or_read_only(error) is not None:
            raise
        frames = traceback.extract_tb(error.__traceback__)
        ours = Path(frames[-1].filename).is_relative_to(Path(ddjax.__file__).parent)
        if only_ours and not (
            ours and isinstance(error, ValueError | erm.NotConverged)
        ):
            raise
        raise ConfigError(one_line(error)) from error


def one_line(error: BaseException) -> str:
    """An error's message as one line."""
    # A KeyError prints its message in quotes, an OSError its number first.
    first = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = str(first).strip().splitlines()
    if any(line.startswith("Traceback") for line in lines):
        # ml_collections puts the traceback of a config file into its message.
        lines = lines[-1:]
    text = " ".join(line.strip() for line in lines)
    return text or type(error).__name__
