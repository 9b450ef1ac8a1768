"""What methods of the dataset-condensation line are run with, for images.

`condensation` is read by `configs/condensation/images.py` and by the comparison of
methods; each method has the settings of its paper, and settings that two CPU cores can
run (`reduced`), which were chosen on the validation split of MNIST.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

__all__ = ["CONDENSATION", "GREY", "Condensed", "Wanted", "condensation"]

GREY = ("digits", "mnist", "fashion_mnist")
"""Data sets of images with one channel, which are not whitened."""

_DIGITS = ("digits", "mnist")


class Wanted(NamedTuple):
    """What a method is asked for.

    Attributes:
      dataset: name for `ddjax.data.load`.
      per_class: images a class.
      reduced: whether two CPU cores are to run it.
      width: channels of the ConvNet-3; 128 in the papers.
      experts_directory: where experts are kept; None for the run's own cache.
    """

    dataset: str
    per_class: int
    reduced: bool
    width: int
    experts_directory: str | None = None

    @property
    def network(self) -> dict[str, Any]:
        """Settings of the ConvNet-3."""
        return {"width": self.width}

    @property
    def dsa(self) -> dict[str, Any]:
        """DSA's transforms: all six, for digits without the flip."""
        operations = ("flip", "scale", "rotate", "crop", "cutout", "color")
        chosen = operations[1:] if self.dataset in _DIGITS else operations
        return {"name": "dsa", "strategy": "_".join(chosen)}

    @property
    def whitening(self) -> str:
        """ZCA of colour images."""
        return "standardize" if self.dataset in GREY else "zca"


class Condensed(NamedTuple):
    """How a method makes its set, and how networks are trained on it.

    Attributes:
      method: its name and keywords, for `ddjax.methods.make`.
      steps: of the distillation.
      preprocessing: see `ddjax.data.load`.
      protocol: see `ddjax.evaluation.network`.
      augment: see `ddjax.evaluation.network`.
      loss: see `ddjax.evaluation.network`.
      learning_rate: see `ddjax.evaluation.network`.
      reduced: what of the method is less than published, parts joined by `; `; empty
        for nothing.
    """

    method: dict[str, Any]
    steps: int
    preprocessing: str = "standardize"
    protocol: str = "dc_long"
    augment: dict[str, Any] | None = None
    loss: str = "auto"
    learning_rate: float | str | None = None
    reduced: str = ""


def _dm(wanted: Wanted) -> Condensed:
    method = {"settings": wanted.network, "augment": wanted.dsa}
    if not wanted.reduced:
        return Condensed(method, 20_000, augment=wanted.dsa)
    return Condensed(
        method | {"real_per_class": 64},
        400,
        augment=wanted.dsa,
        reduced="400 steps (20 000) of 64 real images a class (256)",
    )


def _gradient_matching(wanted: Wanted, *, augment: bool) -> Condensed:
    method: dict[str, Any] = {"settings": wanted.network}
    judged: dict[str, Any] = {"protocol": "dc"}
    if augment:
        method["augment"] = wanted.dsa
        judged = {"protocol": "dc_long", "augment": wanted.dsa}
    if not wanted.reduced:
        # A thousand networks, each for as many steps as `gradient_matching.loops` says.
        outer = 1 if wanted.per_class == 1 else 50 if wanted.per_class >= 50 else 10
        return Condensed(method, 1000 * outer, **judged)
    method |= {"real_per_class": 64, "descent": {"learning_rate": 1.0}}
    reduced = "200 steps (1000 networks) of 64 real images a class (256), rate 1 (0.1)"
    if wanted.per_class > 1:
        method |= {"outer_steps": 10, "network_steps": 10}
        reduced += ", 10 steps of the network between two (50 epochs)"
        if not augment:
            # From noise 200 steps lead to less than random real images are worth.
            method["initialization"] = "balanced"
            reduced += ", real images at the start (noise)"
    return Condensed(method, 200, reduced=reduced, **judged)


def _idm(wanted: Wanted) -> Condensed:
    method: dict[str, Any] = {
        "pool": {"settings": wanted.network},
        "augment": wanted.dsa,
    }
    if not wanted.reduced:
        return Condensed(method, 20_000, augment=wanted.dsa)
    method["pool"] |= {"students": 5, "steps": 40}
    method |= {"real_per_class": 64, "descent": {"learning_rate": 2.0}}
    return Condensed(
        method,
        200,
        augment=wanted.dsa,
        reduced="200 steps (20 000) of 64 real images a class (256) at rate 2 (0.2), 5 "
        "networks of up to 40 steps (20, 100)",
    )


def _frepo(wanted: Wanted) -> Condensed:
    flips = wanted.dataset not in _DIGITS
    judged: dict[str, Any] = {
        "preprocessing": wanted.whitening,
        "protocol": "frepo",
        "augment": wanted.dsa,
    }
    if not wanted.reduced:
        return Condensed({"mirrored": flips}, 100_000, **judged)
    width = wanted.width
    network = {"widths": (width, 2 * width, 4 * width), "norm": "batch"}
    pool = {"settings": network, "students": 5, "steps": 50, "learning_rate": 1e-3}
    return Condensed(
        {
            "mirrored": flips,
            "pool": pool,
            "batch_size": 512,
            "descent": {"learning_rate": 1e-2},
        },
        400,
        learning_rate=3e-3,
        reduced="400 steps (100 000) of 512 real images (1024) at rate 1e-2 (3e-4), 5 "
        "networks (10) of up to 50 steps (100) at rate 1e-3 (3e-4), judged at rate "
        "3e-3 (3e-4)",
        **judged,
    )


def _dd(wanted: Wanted) -> Condensed:
    method: dict[str, Any] = {"settings": wanted.network}
    if not wanted.reduced:
        return Condensed(method | {"networks_per_step": 4}, 20_000, protocol="inner")
    method |= {
        "batch_size": 256,
        "descent": {"learning_rate": 0.05, "rates": {"log_step_sizes": 0.03}},
    }
    return Condensed(
        method,
        150,
        protocol="inner",
        reduced="150 steps (20 000) of one network (4) and 256 real images (1024), "
        "rates 0.05 and 0.03 (0.01)",
    )


def _trajectories(wanted: Wanted, *, soft: bool) -> Condensed:
    method: dict[str, Any] = {
        "settings": wanted.network,
        "augment": wanted.dsa,
        "experts_directory": wanted.experts_directory,
    }
    judged: dict[str, Any] = {"augment": wanted.dsa, "learning_rate": "learned"}
    few = wanted.per_class == 1
    if not wanted.reduced:
        if soft:
            method |= {"first_max_start": 4 if few else 10}
            method |= {"max_start": 4 if few else 20}
        elif not few:
            method |= {
                "student_steps": 30,
                "max_start": 20,
                "descent": {"learning_rate": 1e5},
            }
        else:
            method["descent"] = {"learning_rate": 100.0}
        return Condensed(method, 5000, preprocessing=wanted.whitening, **judged)
    rates: dict[str, float] = {"log_step_size": 0.02}
    starts = {"max_start": 3}
    if soft:
        rates["targets"] = 0.05
        starts = {"first_max_start": 1, "max_start": 4}
    method |= {
        **starts,
        "experts": {"experts": 6, "epochs": 6, "momentum": 0.9},
        "student_steps": 15,
        "expert_epochs": 1,
        "step_size": 0.05,
        # At 100 the samples of MNIST end below random ones.
        "descent": {"learning_rate": 20.0, "rates": rates},
    }
    return Condensed(
        method,
        150,
        reduced="150 steps (5000) of 15 student steps towards one epoch on, 6 experts "
        "of 6 epochs with momentum (100 of 50, without), rate 20, standardised images "
        "(ZCA)",
        **judged,
    )


CONDENSATION: dict[str, Callable[[Wanted], Condensed]] = {
    "dm": _dm,
    "idm": _idm,
    "dc": partial(_gradient_matching, augment=False),
    "dsa": partial(_gradient_matching, augment=True),
    "dd": _dd,
    "mtt": partial(_trajectories, soft=False),
    "datm": partial(_trajectories, soft=True),
    "frepo": _frepo,
}
"""Methods of the line, by name."""


def condensation(name: str, wanted: Wanted) -> Condensed:
    """How a method is run.

    Raises:
      ValueError: an unknown name, with the known ones.
    """
    if name not in CONDENSATION:
        known = ", ".join(CONDENSATION)
        raise ValueError(f"unknown method {name!r}; known: {known}")
    found = CONDENSATION[name](wanted)
    method = {"name": name, "per_class": wanted.per_class, **found.method}
    return found._replace(method=method)
