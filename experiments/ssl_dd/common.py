"""What the experiments on self-supervised distillation share: scales, rows, sets."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from ddjax import data, methods, runtime, synthetic
from ddjax.data.problem import Problem
from ddjax.methods.base import Method
from ddjax.models.encoders.settings import as_encoder
from ddjax.storage.cache import Cache
from ddjax.synthetic.distilled import DistilledSet
from experiments import commands
from experiments.data_flag import data_dir

# Flags belong to the command that asks for them, and so stand in its --help.
flags.disclaim_key_flags()

__all__ = [
    "ARCHITECTURES",
    "BOUNDS",
    "LEARNED",
    "OTHERS",
    "ROWS",
    "SCALES",
    "Scale",
    "check",
    "distil",
    "load",
    "method_of",
    "network_settings",
    "run_folder",
    "settings_of",
    "teacher_of",
    "weight_decay",
]

ARCHITECTURES = {
    "convnet": 128,
    "vgg11": 64,
    "resnet18": 64,
    "alexnet": 64,
    "mobilenetv2": 32,
    "vit_small": 384,
}
"""Of Table 1, in its order, and their published widths."""


class Scale(NamedTuple):
    """How large the runs are.

    Attributes:
      limit: images of the source that are loaded, validation included; None for all.
      target_limit: of another data set that is transferred to; None for all.
      widths: channels of the students' blocks, and of the ConvNet that is evaluated.
      width: factor of the other architectures' widths, 1 for the published ones.
      students: in the pool.
      student_steps: Z.
      bases: budgets N with the numbers U and V of image and target bases.
      learning_rate: of KRR-ST's pixels; bases have the papers' 1e-3.
      steps: of the distillation.
      batch_size: real images a step.
      pretraining_steps: of the networks that are evaluated; None for 1000 epochs.
      real_steps: of those that are trained on thousands of real images, the ceilings.
      probes: kinds, see `ddjax.evaluation.frozen`.
      probe_limit: real images that probes train on; None for all.
      networks: pretrained for each set.
      reduced: what is less than the papers' protocol, None for nothing.
    """

    limit: int | None
    target_limit: int | None
    widths: tuple[int, ...]
    width: float
    students: int
    student_steps: int
    bases: tuple[tuple[int, int, int], ...]
    learning_rate: float
    steps: int
    batch_size: int
    pretraining_steps: int | None
    real_steps: int
    probes: tuple[str, ...]
    probe_limit: int | None
    networks: int
    reduced: str | None


SCALES = {
    "full": Scale(
        limit=None,
        target_limit=None,
        widths=(128, 256, 512),
        width=1.0,
        students=10,
        student_steps=1000,
        # Table 5 of the paper, for representations of 512 numbers.
        bases=(
            (25, 50, 50),
            (50, 100, 100),
            (100, 200, 200),
            (200, 400, 400),
            (250, 500, 500),
            (1000, 500, 500),
            (5000, 700, 500),
        ),
        learning_rate=1e-3,
        steps=30_000,
        batch_size=1024,
        pretraining_steps=None,
        real_steps=20_000,
        probes=("closed_form", "gradient", "nearest"),
        probe_limit=None,
        networks=1,
        reduced=None,
    ),
    "reduced": Scale(
        limit=25_000,
        target_limit=12_500,
        widths=(16, 32, 64),
        width=0.25,
        students=5,
        student_steps=100,
        # For 1280 numbers; the samples that are left are as many as with Table 5's.
        bases=((25, 46, 25), (50, 94, 50), (100, 190, 100)),
        learning_rate=1e-2,
        steps=250,
        batch_size=256,
        pretraining_steps=500,
        real_steps=500,
        probes=("closed_form", "nearest"),
        probe_limit=10_000,
        networks=1,
        reduced="20 000 images of CIFAR-100; students of 16-32-64 channels "
        "(128-256-512), 5 of up to 100 steps (10, 1000); 250 steps of 256 images "
        "(30 000 of 1024) at rate 1e-2 (1e-3); 190 image and 100 target bases (200, "
        "200) for 100 images; pretraining of 500 steps (1000 epochs); probes on 10 000 "
        "images; other architectures of a quarter of the width",
    ),
}
"""`full` is the papers'; `reduced` is for two CPU cores."""

OTHERS: dict[str, dict[str, Any]] = {
    "full": {},
    "reduced": {"steps": 50, "limit": 2000},
}
"""What evaluations of other architectures than the ConvNet have in place of a scale's
steps of pretraining and training rows of probes."""

_BOOSTED = {"name": "ssl_dd", "views": "rotation", "shift": "network", "hidden": 4}
_FROM_NOISE = {"initialization": "decoder_noise"}

LEARNED: dict[str, dict[str, Any]] = {
    "krr_st": {"name": "krr_st"},
    "parameterization": {"name": "ssl_dd", "views": "none"},
    "boosted": _BOOSTED,
    "random_bases": {**_BOOSTED, "basis_start": "random", **_FROM_NOISE},
    "real_bases": {**_BOOSTED, "basis_start": "real", **_FROM_NOISE},
    "same": {**_BOOSTED, "shift": "same"},
    "bias": {**_BOOSTED, "shift": "bias"},
    "network_2": {**_BOOSTED, "hidden": 2},
    "network_8": {**_BOOSTED, "hidden": 8},
    "ideal": {**_BOOSTED, "shift": "stored"},
    "jigsaw": {**_BOOSTED, "views": "jigsaw"},
    "crop": {**_BOOSTED, "views": "crop"},
}
"""Rows that are distilled, and what makes them these."""

SELECTED = {
    "random": {"how": "uniform"},
    "kmeans": {"how": "kmeans"},
    "random_5000": {"how": "uniform", "count": 5000},
}
"""Rows of real images with their representations."""

BOUNDS = ("untrained", "full_data")
"""The floor, and what all real images are worth."""

ROWS = (*BOUNDS, *SELECTED, *LEARNED)
"""Short names of all rows."""


def check(source: str, target: str, teacher: str) -> None:
    """Looks whether images and the teacher are there, before any work."""
    for name in {source, target}:
        commands.check_data(name)
    as_encoder(teacher_of(teacher)["teacher"])


def is_large(source: str) -> bool:
    """Whether a source has the paper's settings for TinyImageNet and ImageNet.

    Appendix A.1 there: bases of a quarter of the height and width, networks of width
    16, four blocks in a ConvNet, and a weight decay of 5e-3 in pretraining.
    """
    return "imagenet" in source


def weight_decay(source: str, budget: int) -> float:
    """Of the pretraining on a set: Table 5 of the paper."""
    if is_large(source):
        return 5e-3
    return 1e-3 if budget <= 100 else 1e-4


def network_settings(architecture: str, scale: Scale, source: str) -> dict[str, Any]:
    """Of a network that is trained on a set of a source."""
    if architecture == "convnet":
        more = scale.widths[-1:] if is_large(source) else ()
        widths = (*scale.widths, *more)
        return {"widths": widths, "depth": len(widths), "norm": "batch"}
    return {"width": round(scale.width * ARCHITECTURES[architecture])}


@functools.lru_cache(maxsize=2)
def load(name: str, scale: Scale, *, is_source: bool) -> Problem:
    """Standardised images on the device; the split is the same for all seeds."""
    return data.load(
        name,
        directory=data_dir(),
        preprocessing="standardize",
        validation=0.2 if scale.limit else 0.1,
        seed=0,
        limit=scale.limit if is_source else scale.target_limit,
    )


def teacher_of(name: str) -> dict[str, Any]:
    """Keywords of methods and evaluations for a teacher.

    Args:
      name: a registered encoder, which sees images at 64 x 64; or the path of a
        network that `experiments.ssl_dd.teacher` trained.
    """
    if name.endswith(".safetensors"):
        return {"teacher": {"name": "network_file", "weights": name}}
    return {"teacher": {"name": name, "directory": data_dir()}, "teacher_size": 64}


def settings_of(
    row: str, *, budget: int, scale: Scale, source: str = "cifar100"
) -> dict[str, Any]:
    """All settings of a row's method but its teacher."""
    if row in SELECTED:
        return {"name": "pair_selection", "count": budget, **SELECTED[row]}
    pool = {
        "settings": network_settings("convnet", scale, source),
        "students": scale.students,
        "steps": scale.student_steps,
    }
    settings = {**LEARNED[row], "pool": pool, "batch_size": scale.batch_size}
    if settings["name"] == "krr_st":
        descent = {"learning_rate": scale.learning_rate}
        return {**settings, "count": budget, "descent": descent}
    counts = {images: numbers for images, *numbers in scale.bases}
    if budget not in counts:
        known = ", ".join(map(str, counts))
        raise ValueError(f"no bases for a budget of {budget} images; known: {known}")
    image_bases, target_bases = counts[budget]
    bases = {"image_bases": image_bases, "target_bases": target_bases}
    if is_large(source):
        bases["downscale"] = 4
        if settings.get("hidden") == _BOOSTED["hidden"]:
            bases["hidden"] = 16
    return {**settings, "images": budget, **bases}


def method_of(settings: Mapping[str, Any], teacher: str) -> Method:
    """The method of what `settings_of` gives."""
    directory = str(Path(data_dir() or "local_data") / "features")
    return methods.make(
        **teacher_of(teacher), representations_directory=directory, **settings
    )


def run_folder(
    sets: str, name: str, *, source: str, teacher: str, budget: int, row: str, seed: int
) -> Path:
    """Where a run is kept; `name` is the folder of the records."""
    stem = f"{source}_{Path(teacher).stem}_n{budget}_{row}_seed{seed}"
    return Path(sets) / name.replace("/", "_") / stem


def distil(
    settings: Mapping[str, Any],
    problem: Problem,
    *,
    teacher: str,
    steps: int,
    seed: int,
    workdir: Path,
    cache: Cache,
) -> tuple[DistilledSet, dict[str, Any]]:
    """The set of a run, which goes on where its folder was left, and facts about it."""
    learns = settings["name"] != "pair_selection"
    result = runtime.train(
        method_of(settings, teacher),
        problem,
        seed=seed,
        steps=steps if learns else 0,
        workdir=workdir,
        cache=cache,
        checkpoint_every=500,
        log_every=50,
        choose="last",
    )
    synthetic.save(workdir / "distilled", result.distilled)
    if not learns:
        return result.distilled, {}
    losses = [row["loss"] for row in result.history]
    return result.distilled, {
        "seconds_per_step": result.seconds_per_step,
        "distilling_seconds": result.seconds + result.preparation_seconds,
        "first_loss": losses[0],
        "last_loss": sum(losses[-10:]) / len(losses[-10:]),
    }
