"""What a user names, with its keywords: data, a method, an evaluation.

`where` is what messages call the settings.
"""

from collections.abc import Mapping
from typing import Any

from ddjax import data, evaluation, methods
from ddjax.command.keywords import check_names, check_types, made, parameters
from ddjax.evaluation.base import Evaluation
from ddjax.methods.base import Method
from ddjax.methods.descent import Descent

__all__ = ["data_keywords", "make_evaluation", "make_method"]


def data_keywords(where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of `ddjax.data.load`, without those that are None.

    Raises:
      ValueError: an unknown keyword, or a value of a wrong type.
    """
    check_names(where, given, parameters(data.load), required=["name"])
    check_types(where, given, data.load)
    return {key: value for key, value in given.items() if value is not None}


def make_method(where: str, name: str, keywords: Mapping[str, Any]) -> Method:
    """As `ddjax.methods.make`, of keywords of any type.

    Raises:
      ValueError: an unknown name or keyword, or a value that the method does not take.
    """
    if name in methods.METHODS:
        check_types(where, keywords, methods.METHODS[name])
        if isinstance(keywords.get("descent"), Mapping):
            check_types(f"{where}.descent", keywords["descent"], Descent)
    return made(where, methods.make, name, keywords)


def make_evaluation(where: str, name: str, keywords: Mapping[str, Any]) -> Evaluation:
    """As `ddjax.evaluation.make`, of keywords of any type.

    Raises:
      ValueError: an unknown name or keyword, or a value that it does not take.
    """
    if name in evaluation.EVALUATIONS:
        check_types(where, keywords, evaluation.EVALUATIONS[name])
    return made(where, evaluation.make, name, keywords)
