"""What each choice in CLP-DD is worth, on the validation split.

    python -m experiments.clp_dd.ablation --data_dir=DIR [--datasets=imagenette]

One setting at a time is changed from the default: the outer loss, its temperature, what
is normalised or centred, lambda, learned labels. Every variant is probed with its own
settings (closed form) and by gradient. The test split is not read. One record a variant
and seed; what is on record is not run again (`--redo` does).
"""

import time
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging

from ddjax.evaluation import linear_probe
from experiments import records
from experiments.clp_dd import common

__all__ = ["VARIANTS"]

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "squared outer loss": {"outer": "squared"},
    "temperature 0.03": {"temperature": 0.03},
    "temperature 0.3": {"temperature": 0.3},
    "temperature 1": {"temperature": 1.0},
    "temperature learned": {"learn_temperature": True},
    "features as they are": {"normalize_features": False},
    "cosine logits": {"normalize_anchors": True},
    "centred": {"centring": "real"},
    "intercept": {"centring": "intercept"},
    "lambda 1e-4": {"ridge": 1e-4},
    "lambda 0.1": {"ridge": 0.1},
    "lambda 1": {"ridge": 1.0},
    "lambda learned": {"learn_ridge": True},
    "labels learned": {"learn_targets": True},
}
"""What is changed from the default, by name."""

_VARIANTS = flags.DEFINE_list("variants", list(VARIANTS), "Which variants.")
_STEPS = flags.DEFINE_integer("steps", 1000, "Of distillation.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 1e-2, "Of the images.")
_VIEWS = flags.DEFINE_integer(
    "views", -1, "Of each image for the probe's training; -1: new ones in each epoch."
)
_NAME = flags.DEFINE_string("name", "clp_dd/ablation", "Folder of the records.")
_REDUCED = flags.DEFINE_string("reduced", None, "How this is less than the protocol.")
_REDO = flags.DEFINE_bool("redo", False, "Run again what is on record.")


def main(argv: Sequence[str]) -> None:
    """Runs what is not on record yet."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    dataset, encoder = flags.FLAGS.datasets[0], flags.FLAGS.encoders[0]
    problem, network = common.load(dataset), common.encoder(encoder)
    evaluation = linear_probe(
        encoder=network,
        features_directory=common.cache_directory(),
        views=None if _VIEWS.value < 0 else _VIEWS.value,
    )
    for variant in _VARIANTS.value:
        if variant not in VARIANTS:
            raise app.UsageError(f"unknown variant {variant!r}; known: {VARIANTS}")
        name = f"{_NAME.value}/{dataset}_{encoder}_{variant.replace(' ', '_')}"
        seeds = [int(each) for each in flags.FLAGS.seeds]
        todo = common.seeds_to_run(name, seeds, redo=_REDO.value)
        if not todo:
            logging.info("%s is on record", name)
            continue
        settings = {
            **common.settings_of("clp", per_class=1, learning_rate=_RATE.value),
            **VARIANTS[variant],
        }
        began = time.perf_counter()
        for run in common.distil(
            settings, network, problem, seeds=todo, steps=_STEPS.value
        ):
            results: dict[str, Any] = common.worth(
                [evaluation],
                run.distilled,
                problem,
                seed=run.seed,
                splits=("validation",),
            )
            results["seconds_per_step"] = run.seconds_per_step
            logging.info("%s seed %d: %s", variant, run.seed, results)
            records.write_record(
                f"{name}_seed{run.seed}",
                {
                    "dataset": dataset,
                    "encoder": encoder,
                    "variant": variant,
                    "seed": run.seed,
                    "method": settings,
                    "views": _VIEWS.value,
                },
                results,
                scale=f"{len(problem.train.inputs)} real images, 1 distilled image a "
                f"class, {_STEPS.value} steps",
                reduced=_REDUCED.value,
                wall_seconds=time.perf_counter() - began,
            )
            began = time.perf_counter()


if __name__ == "__main__":
    common.define_data_flags(("imagenette",), ("mobilenetv2",))
    app.run(main)
