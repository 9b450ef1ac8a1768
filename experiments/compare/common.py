"""What the comparison of methods shares: scales, methods, evaluations, sets.

To enter a method, write a function from a `Task` to a `Plan` and give it a row in
`METHODS` (and a title in `experiments.compare.tables.TITLES`, if it has none yet); the
grid and the tables know it from then on.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from configs.condensation.settings import (
    CONDENSATION,
    GREY,
    Condensed,
    Wanted,
    condensation,
)
from configs.dgkip.images import image_config
from ddjax import data, evaluation, methods, runtime, synthetic
from ddjax.data.problem import Problem
from ddjax.evaluation.base import Evaluation
from ddjax.runtime import devices
from ddjax.storage import atomic
from ddjax.storage.cache import Cache
from ddjax.synthetic import budget
from ddjax.synthetic.decoders import Pairs, pixels
from ddjax.synthetic.distilled import DistilledSet, distilled_set
from ddjax.synthetic.files import DistilledSetError
from ddjax.synthetic.targets import one_hot
from experiments.compare.tables import BOUNDS
from experiments.data_flag import data_dir
from experiments.ssl_dd.common import ARCHITECTURES

# Flags belong to the command that asks for them, and so stand in its --help.
flags.disclaim_key_flags()

__all__ = [
    "EVALUATIONS",
    "METHODS",
    "SCALES",
    "WIDTHS",
    "Plan",
    "Scale",
    "Task",
    "distil",
    "evaluation_of",
    "load",
    "real_set",
    "reduction",
    "run_folder",
]

WIDTHS = {**ARCHITECTURES, "fully_connected": 128}
"""Networks that sets are judged by, and their published widths."""

EVALUATIONS = ("network", "kernel", "kernel_fully_connected")
"""Which learner is trained on a set, a column each: `network`, a finite network from
scratch; `kernel`, kernel ridge regression with convolutional random features;
`kernel_fully_connected`, with the exact neural tangent kernel of a fully connected
network."""


class Scale(NamedTuple):
    """How large the runs are.

    Attributes:
      limit: images that are loaded, validation included; None for all.
      width_share: of the networks' published widths, those that distil and those that
        judge.
      networks: that judge a set; None for the protocol's 20.
      epochs: protocol -> epochs of the networks that judge; empty for the protocol's.
      full_data_epochs: of the networks that are trained on all real images.
      kernel_width: channels of the random features that judge.
      kernel_networks: random networks of a draw.
      kernel_draws: of them.
      reduced: what is less than published for every method; None for nothing.
    """

    limit: int | None
    width_share: float
    networks: int | None
    epochs: Mapping[str, int]
    full_data_epochs: int
    kernel_width: int
    kernel_networks: int
    kernel_draws: int
    reduced: str | None

    @property
    def is_full(self) -> bool:
        """Whether methods have their published settings."""
        return self.reduced is None


SCALES = {
    "full": Scale(
        limit=None,
        width_share=1.0,
        networks=None,
        epochs={},
        full_data_epochs=100,
        kernel_width=256,
        kernel_networks=8,
        kernel_draws=3,
        reduced=None,
    ),
    "reduced": Scale(
        limit=20_000,
        width_share=0.125,
        networks=1,
        epochs={"dc": 150, "dc_long": 200, "frepo": 300},
        full_data_epochs=10,
        kernel_width=32,
        kernel_networks=4,
        kernel_draws=2,
        reduced="at most 20 000 training images, a tenth of them for validation",
    ),
}
"""`full` is the papers'; `reduced` is for two CPU cores."""


class Task(NamedTuple):
    """What a method is asked for.

    Attributes:
      dataset: name for `ddjax.data.load`.
      per_class: images a class.
      scale: how large the runs are.
    """

    dataset: str
    per_class: int
    scale: Scale

    @property
    def wanted(self) -> Wanted:
        """The same, as the configurations have it."""
        width = network_settings("convnet", self.scale)["width"]
        return Wanted(
            dataset=self.dataset,
            per_class=self.per_class,
            reduced=not self.scale.is_full,
            width=width,
        )


Plan = Condensed
"""How a method makes its set, and how networks are trained on it."""


def _selection(task: Task, *, how: str, as_dm: bool = False) -> Plan:
    """Real images with hard labels; `as_dm`: judged by networks as DM's sets are."""
    return Plan(
        {"name": "selection", "how": how, "per_class": task.per_class},
        steps=0,
        protocol="dc_long" if as_dm else "dc",
        augment=task.wanted.dsa if as_dm else None,
        loss="cross_entropy",
    )


def _condensed(task: Task, *, name: str) -> Plan:
    """The configurations' settings."""
    plan = condensation(name, task.wanted)
    if not plan.reduced:
        return plan
    return plan._replace(reduced=f"{name.upper()}: {plan.reduced}")


def _kip(task: Task) -> Plan:
    full = task.scale.is_full
    kind = "convolutional" if full else "fully_connected"
    return Plan(
        {
            "name": "kip",
            "per_class": task.per_class,
            "features": {"kind": "ntk", "architecture": {"kind": kind}},
            "batch_size": 5000 if full else 1000,
            "descent": {} if full else {"schedule": "cosine"},
        },
        steps=5000 if full else 300,
        preprocessing=task.wanted.whitening,
        protocol="dc",
        reduced=""
        if full
        else "KIP: the kernel of a fully connected network (of a "
        "convolutional one), 300 steps of 1000 images (5000), float32",
    )


def _rfad(task: Task) -> Plan:
    full = task.scale.is_full
    settings: dict[str, Any] = {"loss": "platt"}
    if not full:
        settings |= {
            "architecture": {"kind": "convolutional", "width": 32},
            "networks": 2,
            "batch_size": 500,
            "descent": {"learning_rate": 1e-2, "schedule": "cosine"},
        }
    return Plan(
        {"name": "rfad", "per_class": task.per_class, **settings},
        steps=10_000 if full else 300,
        preprocessing=task.wanted.whitening,
        protocol="dc",
        reduced=""
        if full
        else "RFAD: 2 networks a step (8) of 32 channels (256), 300 "
        "steps of 500 images (5120) at rate 1e-2 (1e-3)",
    )


def _dgkip(task: Task) -> Plan:
    """The configurations' settings for ten classes."""
    full, colour = task.scale.is_full, task.dataset not in GREY
    sizes = "paper" if full else f"networks=2,width={64 if colour else 512}"
    config: Any = image_config(
        f"ten,ipc={task.per_class},{sizes}",
        dataset=task.dataset,
        defaults={"arch": "convolutional" if colour else "fully_connected"},
    )
    method = config.method.to_dict()
    if not full:
        method["solver_tolerance"] = 1e-3
    return Plan(
        method,
        steps=1000 if full else 300,
        protocol="dc",
        reduced=""
        if full
        else "DGKIP: 2 random networks (30, convolutional 8) of "
        "half the width or less, 300 steps (1000)",
    )


def _full_data(task: Task) -> Plan:
    """A random set stands for the data's shape and preprocessing; see `real_set`."""
    return _selection(task, how="balanced")


METHODS: dict[str, Callable[[Task], Plan]] = {
    "full_data": _full_data,
    "random": functools.partial(_selection, how="balanced"),
    "random_dsa": functools.partial(_selection, how="balanced", as_dm=True),
    "kmeans": functools.partial(_selection, how="kmeans_nearest"),
    "herding": functools.partial(_selection, how="herding"),
    "k_center": functools.partial(_selection, how="k_center"),
    **{name: functools.partial(_condensed, name=name) for name in CONDENSATION},
    "kip": _kip,
    "rfad": _rfad,
    "dgkip": _dgkip,
}
"""Row of the comparison -> how its sets are made."""


def network_settings(architecture: str, scale: Scale) -> dict[str, Any]:
    """Of a network in `WIDTHS`, at a scale."""
    return {"width": round(scale.width_share * WIDTHS[architecture])}


def evaluation_of(
    row: str, plan: Plan, *, kind: str, architecture: str, scale: Scale
) -> Evaluation:
    """Judges sets of a row in one of `EVALUATIONS`, networks being one of `WIDTHS`.

    Raises:
      ValueError: another `kind`, or settings that the evaluation refuses.
    """
    if kind == "network":
        epochs = scale.epochs.get(plan.protocol)
        return evaluation.network(
            architecture=architecture,
            settings=network_settings(architecture, scale),
            protocol=plan.protocol,
            epochs=scale.full_data_epochs if row in BOUNDS else epochs,
            networks=scale.networks,
            loss=plan.loss,
            augment=plan.augment,
            learning_rate=plan.learning_rate,
        )
    settings: dict[str, Any] = {
        "kernel": {
            "architecture": {"kind": "convolutional", "width": scale.kernel_width},
            "networks": scale.kernel_networks,
            "draws": scale.kernel_draws,
        },
        "kernel_fully_connected": {"architecture": "fully_connected"},
    }
    if kind not in settings:
        known = ", ".join(EVALUATIONS)
        raise ValueError(f"unknown evaluation {kind!r}; known: {known}")
    chosen = "random_features" if kind == "kernel" else "ntk"
    if row in BOUNDS:
        return evaluation.full_data(loss="squared", features=chosen, **settings[kind])
    return evaluation.kernel_regression(kernel=chosen, **settings[kind])


def reduction(
    row: str, plan: Plan, *, kind: str, scale: Scale, steps: int
) -> str | None:
    """What is less than published, parts joined by `; `; None for nothing.

    Of a row that is judged in one of `EVALUATIONS`, after so many steps.
    """
    parts = [scale.reduced or "", plan.reduced]
    if steps != plan.steps:
        parts.append(f"{row}: {steps} steps in place of {plan.steps}")
    if kind == "network" and not scale.is_full:
        counts = f"{scale.networks} (20)"
        lengths = ", ".join(f"{name} {count}" for name, count in scale.epochs.items())
        epochs = f"epochs by protocol {lengths} (dc 300, others 1000)"
        if row in BOUNDS:
            epochs = f"on all images {scale.full_data_epochs} epochs"
        share = f"{scale.width_share:g} of the published width"
        parts.append(f"networks that judge: {share}, {counts}, {epochs}")
    return "; ".join(filter(None, parts)) or None


@functools.lru_cache(maxsize=2)
def load(name: str, preprocessing: str, limit: int | None) -> Problem:
    """Images on the device, a tenth held out; the split is the same for all seeds."""
    return data.load(
        name,
        directory=data_dir(),
        preprocessing=preprocessing,
        validation=0.1,
        seed=0,
        limit=limit,
    )


def stem(row: str, *, dataset: str, per_class: int | None, seed: int) -> str:
    """Part of the names of runs and records; `per_class` is None for a bound."""
    of_data = re.sub(r"[^A-Za-z0-9._=-]", "-", dataset)
    count = "" if per_class is None else f"_ipc{per_class}"
    return f"{of_data}{count}_{row}_seed{seed}"


def run_folder(
    sets: str, name: str, row: str, *, dataset: str, per_class: int | None, seed: int
) -> Path:
    """Where a run is kept; `name` is the folder of the records."""
    run = stem(row, dataset=dataset, per_class=per_class, seed=seed)
    return Path(sets) / name.replace("/", "_") / run


def distil(
    plan: Plan, problem: Problem, *, steps: int, seed: int, workdir: Path, cache: Cache
) -> tuple[DistilledSet, dict[str, Any]]:
    """The set of a run, which goes on where its folder was left, and facts about it.

    A run that is done is read from its folder, `workdir`.

    Raises:
      ValueError: a folder that holds another run.
    """
    about = {
        "method": json.loads(json.dumps(plan.method)),
        "data": problem.fingerprint,
        "preprocessing": plan.preprocessing,
        "steps": steps,
        "seed": seed,
    }
    facts_file, set_folder = workdir / "facts.json", workdir / "distilled"
    try:
        kept = json.loads(facts_file.read_text(encoding="utf-8"))
        if kept["about"] == about:
            return synthetic.load(set_folder), kept["facts"]
    except (FileNotFoundError, DistilledSetError):
        pass
    devices.reset_peak_memory()
    result = runtime.train(
        methods.make(**plan.method),
        problem,
        seed=seed,
        steps=steps,
        workdir=workdir,
        cache=cache,
        checkpoint_every=min(500, max(1, steps // 10)),
        log_every=50,
        choose="last",
    )
    facts: dict[str, Any] = {
        "distilling_seconds": result.seconds + result.preparation_seconds,
        "seconds_per_step": result.seconds_per_step,
        "peak_memory_mib": devices.peak_memory_mib(),
        "device_peak_memory_mib": devices.device_peak_memory_mib(),
        "floats": budget.floats(result.distilled),
        "floats_with_targets": budget.floats(result.distilled, targets=True),
        "digest": synthetic.digest(result.distilled),
    }
    if steps:
        losses = [row["loss"] for row in result.history]
        facts |= {"first_loss": losses[0], "last_loss": losses[-1]}
    synthetic.save(set_folder, result.distilled)
    text = json.dumps({"about": about, "facts": facts}, indent=2) + "\n"
    atomic.replace_file(facts_file, text.encode())
    return result.distilled, facts


def real_set(problem: Problem) -> DistilledSet:
    """All training images with their hard labels."""
    labels = jnp.asarray(np.asarray(problem.train.labels))
    targets = one_hot(labels, problem.classes).astype(
        jax.dtypes.canonicalize_dtype(np.dtype(problem.train.inputs.dtype))
    )
    decoder = pixels()
    images = jnp.asarray(problem.train.inputs[:])
    return distilled_set(
        decoder.init(Pairs(images, targets), {}),
        decoder,
        problem,
        recipe={"targets_kind": "probabilities"},
        labels=labels,
    )
