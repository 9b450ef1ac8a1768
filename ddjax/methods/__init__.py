"""Distillation methods: one file each, every one a `Method`."""

from collections.abc import Callable
from typing import Any

from ddjax.checks import check_names
from ddjax.kernels._keywords import check_keywords
from ddjax.methods.analytic import analytic
from ddjax.methods.base import Method, Progress
from ddjax.methods.clp import clp
from ddjax.methods.datm import datm
from ddjax.methods.dc import dc
from ddjax.methods.dd import dd
from ddjax.methods.descent import Descent
from ddjax.methods.dgkip import dgkip
from ddjax.methods.dm import dm
from ddjax.methods.dsa import dsa
from ddjax.methods.frepo import frepo
from ddjax.methods.idm import idm
from ddjax.methods.kip import kip
from ddjax.methods.krr_st import krr_st
from ddjax.methods.lgm import lgm
from ddjax.methods.mtt import mtt
from ddjax.methods.nystrom import nystrom
from ddjax.methods.pair_selection import pair_selection
from ddjax.methods.regression import regression
from ddjax.methods.rfad import rfad
from ddjax.methods.row_selection import row_selection
from ddjax.methods.selection import selection
from ddjax.methods.ssl_dd import ssl_dd

__all__ = [
    "METHODS",
    "Descent",
    "Method",
    "Progress",
    "analytic",
    "clp",
    "datm",
    "dc",
    "dd",
    "dgkip",
    "dm",
    "dsa",
    "frepo",
    "idm",
    "kip",
    "krr_st",
    "lgm",
    "make",
    "mtt",
    "nystrom",
    "pair_selection",
    "regression",
    "rfad",
    "row_selection",
    "selection",
    "ssl_dd",
]

METHODS: dict[str, Callable[..., Method]] = {
    "analytic": analytic,
    "clp": clp,
    "datm": datm,
    "dc": dc,
    "dd": dd,
    "dgkip": dgkip,
    "dm": dm,
    "dsa": dsa,
    "frepo": frepo,
    "idm": idm,
    "kip": kip,
    "krr_st": krr_st,
    "lgm": lgm,
    "mtt": mtt,
    "nystrom": nystrom,
    "pair_selection": pair_selection,
    "regression": regression,
    "rfad": rfad,
    "row_selection": row_selection,
    "selection": selection,
    "ssl_dd": ssl_dd,
}
"""Every method by name, as a factory of keyword-only hyperparameters."""


def make(name: str, **hyperparameters: Any) -> Method:
    """Builds a method by name.

    Raises:
      ValueError: an unknown method, with the known ones; an unknown hyperparameter,
        with those that the method takes; one that it needs and was not given.
    """
    check_names(method=(name, sorted(METHODS)))
    check_keywords(f"method {name!r}", METHODS[name], hyperparameters)
    return METHODS[name](**hyperparameters)
