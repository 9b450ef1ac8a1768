"""Tables of self-supervised distillation: rows, budgets, targets, architectures.

    python -m experiments.ssl_dd.table --data_dir=DIR --table=3 [--scale=reduced] ...

A set is distilled (or selected) for every row, budget and seed; networks of every
architecture are pretrained on it, frozen, and probed on every target. `--table` names
what a table of the paper (Yu, Yao and Chiu, ICLR 2025) needs; other flags override it:

    1   the methods on other data sets and architectures
    2   storage budgets
    3   the ladder: KRR-ST, + bases, + views and networks
    4   what bases start from
    11  where the targets of views come from
    12  which views
    13  cost: seconds a step and memory, in the records of the ladder

Tables 6 to 10 are of TinyImageNet and ImageNet: prepare them for TensorFlow Datasets
and give `--source=tfds:...`. Floor (untrained networks) and ceiling (5000 real images
or all of them) stand in every table. Runs and pretrained networks are kept in `--sets`
and go on where they were left; `--minutes=9` stops in time. Settings are chosen with
`--splits=validation`.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from ddjax import evaluation, runtime
from ddjax.evaluation.base import Evaluation
from ddjax.storage.cache import Cache, on_disk
from ddjax.synthetic.distilled import DistilledSet, decoded_shapes
from experiments import commands
from experiments.commands import Cell, Measured
from experiments.data_flag import define_data_dir
from experiments.ssl_dd import common
from experiments.ssl_dd.common import SCALES

__all__ = ["PRESETS"]

_REAL = (*common.BOUNDS, "random_5000")
_LADDER = (*_REAL, "random", "kmeans", "krr_st", "parameterization", "boosted")

PRESETS: dict[str, dict[str, tuple[Any, ...]]] = {
    "1": {
        "rows": ("untrained", "random_5000", "random", "kmeans", "krr_st", "boosted"),
        "targets": ("cifar100", "cifar10", "cub50", "imagenette"),
        "architectures": tuple(common.ARCHITECTURES),
    },
    "2": {"rows": (*_REAL, "random", "kmeans", "krr_st", "boosted")},
    "3": {"rows": _LADDER},
    "4": {"rows": ("untrained", "random_bases", "real_bases", "boosted")},
    "11": {"rows": ("same", "bias", "network_2", "boosted", "network_8", "ideal")},
    "12": {"rows": ("parameterization", "boosted", "jigsaw", "crop")},
    "13": {"rows": ("krr_st", "boosted")},
}
"""Table -> what it needs beside one budget of 100, CIFAR-100 and the ConvNet; Table 2
needs all budgets of the scale."""

_DEFAULTS = {
    "rows": _LADDER,
    "budgets": (100,),
    "targets": ("cifar100",),
    "architectures": ("convnet",),
}

define_data_dir()
_TABLE = flags.DEFINE_enum("table", "3", list(PRESETS), "Of the paper.")
_SCALE = flags.DEFINE_enum("scale", "reduced", list(SCALES), "How large the runs are.")
_SOURCE = flags.DEFINE_string("source", "cifar100", "What is distilled.")
_TEACHER = flags.DEFINE_string(
    "teacher",
    "mobilenetv2",
    "A registered encoder, or the file that experiments.ssl_dd.teacher wrote.",
)
_ROWS = commands.define_choices("rows", (), "Rows.", choices=common.ROWS, least=0)
_BUDGETS = flags.DEFINE_list("budgets", [], "Budgets N, in images.")
_TARGETS = flags.DEFINE_list("targets", [], "Data sets to probe on.")
_ARCHITECTURES = commands.define_choices(
    "architectures", (), "Networks to pretrain.", choices=common.ARCHITECTURES, least=0
)
_SEEDS = commands.define_seeds()
_STEPS = flags.DEFINE_integer("steps", None, "In place of the scale's.", lower_bound=1)
_SPLITS = commands.define_splits()
_SETS = flags.DEFINE_string("sets", "runs/ssl_dd", "Folder of the runs.")
_NAME = flags.DEFINE_string("name", None, "Folder of the records. Default: by scale.")
commands.define_minutes()
commands.define_record_flags()


def _wanted(what: str) -> tuple[Any, ...]:
    """What a flag says, or else the table."""
    given = getattr(flags.FLAGS, what)
    if given:
        return tuple(int(each) if what == "budgets" else each for each in given)
    if what == "budgets" and _TABLE.value == "2":
        return tuple(images for images, *_ in SCALES[_SCALE.value].bases)
    return PRESETS[str(_TABLE.value)].get(what) or _DEFAULTS[what]


def _evaluation(row: str, architecture: str, budget: int) -> Evaluation:
    scale = SCALES[_SCALE.value]
    settings: dict[str, Any] = {
        "architecture": architecture,
        "settings": common.network_settings(architecture, scale, _SOURCE.value),
        "steps": scale.pretraining_steps,
        "weight_decay": common.weight_decay(_SOURCE.value, budget),
        "networks": scale.networks,
        "limit": scale.probe_limit,
        "probes": {"kinds": scale.probes},
    }
    if row in ("random_5000", "full_data"):
        settings |= {"weight_decay": 1e-4, "steps": scale.real_steps}
    if architecture != "convnet":
        settings |= common.OTHERS[_SCALE.value]
    if row == "untrained":
        return evaluation.make("pretraining", **{**settings, "steps": 0})
    if row == "full_data":
        return evaluation.make(
            "real_pretraining", **settings, **common.teacher_of(_TEACHER.value)
        )
    return evaluation.make("pretraining", **settings)


Sets = Callable[[str, int, int], tuple[DistilledSet, dict[str, Any]]]
"""`(row, budget, seed) -> set, facts`; the last one is at hand."""


def _root() -> str:
    return _NAME.value or f"ssl_dd/{_SCALE.value}"


def _steps() -> int:
    return _STEPS.value or SCALES[_SCALE.value].steps


def _sets(cache: Cache) -> Sets:
    """Runs, each of which is asked for by every target and architecture in turn."""

    @functools.lru_cache(maxsize=1)
    def distilled(row: str, budget: int, seed: int):
        scale = SCALES[_SCALE.value]
        workdir = common.run_folder(
            *(_SETS.value, _root()),
            source=_SOURCE.value,
            teacher=_TEACHER.value,
            budget=budget,
            row=row,
            seed=seed,
        )
        return common.distil(
            common.settings_of(row, budget=budget, scale=scale, source=_SOURCE.value),
            common.load(_SOURCE.value, scale, is_source=True),
            teacher=_TEACHER.value,
            steps=_steps(),
            seed=seed,
            workdir=workdir,
            cache=cache,
        )

    return distilled


def _cell(
    row: str,
    budget: int,
    target: str,
    architecture: str,
    seed: int,
    *,
    distilled: Sets,
    cache: Cache,
) -> Cell:
    scale = SCALES[_SCALE.value]
    bound = row in common.BOUNDS
    # A bound looks at the data; any set stands for their shape and preprocessing.
    of_set = "random" if bound else row
    settings = common.settings_of(
        of_set, budget=budget, scale=scale, source=_SOURCE.value
    )
    teacher = Path(_TEACHER.value).stem
    name = f"{_SOURCE.value}_{teacher}_n{budget}_{row}_{target}_{architecture}"
    steps = _steps()

    def worth() -> dict[str, Any]:
        found, facts = distilled(of_set, budget, seed)
        problem = common.load(target, scale, is_source=target == _SOURCE.value)
        judge = _evaluation(row, architecture, budget)
        key = runtime.run_keys(seed).test
        scores = {}
        for split in _SPLITS.value:
            each = judge.evaluate(key, found, problem, split, cache)
            scores[split] = {
                name.rpartition("/")[2]: score.mean for name, score in each.items()
            }
        return {
            "scores": scores,
            **facts,
            "pairs": decoded_shapes(found).targets.shape[0],
        }

    def result(found: Mapping[str, Any]) -> Measured:
        images = len(common.load(_SOURCE.value, scale, is_source=True).train.inputs)
        reduced, others = scale.reduced, common.OTHERS[_SCALE.value]
        if architecture != "convnet" and others:
            reduced = (
                f"{reduced}; for them pretraining of {others['steps']} steps, probes "
                f"on {others['limit']} images"
            )
        return Measured(
            found[""], f"{images} images, {steps} steps of distillation", reduced
        )

    return Cell(
        f"{_root()}/{name}_seed{seed}",
        {
            "source": _SOURCE.value,
            "target": target,
            "teacher": _TEACHER.value,
            "row": row,
            "budget": budget,
            "architecture": architecture,
            "seed": seed,
            "scale": _SCALE.value,
            "sizes": scale._asdict(),
            "steps": steps,
            "method": settings,
            **({} if architecture == "convnet" else common.OTHERS[_SCALE.value]),
        },
        commands.whole(worth),
        result,
        check=lambda: common.check(_SOURCE.value, target, _TEACHER.value),
    )


def main() -> None:
    """Measures what is not on record yet."""
    # Networks that are pretrained once serve all targets, and all tables.
    cache = on_disk(Path(_SETS.value) / "cache", limit=2**28)
    distilled = _sets(cache)
    commands.measure(
        [
            _cell(
                *(row, budget, target, architecture, seed),
                distilled=distilled,
                cache=cache,
            )
            for seed in _SEEDS.value
            for budget in _wanted("budgets")
            for row in _wanted("rows")
            for target in _wanted("targets")
            for architecture in _wanted("architectures")
        ],
        tables=[f"ssl_dd_table_{_TABLE.value}"],
    )


if __name__ == "__main__":
    commands.run(main)
