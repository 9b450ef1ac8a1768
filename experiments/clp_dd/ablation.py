"""What each choice in CLP-DD is worth, on the validation split.

    python -m experiments.clp_dd.ablation --data_dir=DIR [--dataset=imagenette]

One setting at a time is changed from the default: the outer loss, its temperature, what
is normalised or centred, lambda, learned labels. Every variant is probed with its own
settings (closed form) and by gradient. The test split is not read. One record a variant
and seed, under `experiments/results/clp_dd/ablation`; what is on record is not measured
again (`--again` does). The committed records took 35 minutes on two cores.
"""

import functools
from typing import Any

from absl import flags

from ddjax.evaluation import linear_probe
from ddjax.evaluation.base import Evaluation
from ddjax.methods.base import Method
from ddjax.models import encoders
from ddjax.storage.cache import in_memory
from experiments import commands
from experiments.clp_dd import common
from experiments.commands import Cell, Measured

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

common.define_data_flags()
_DATASET = flags.DEFINE_enum(
    "dataset", "imagenette", ("imagenette", "cub50"), "Data set."
)
_ENCODER = flags.DEFINE_enum(
    "encoder", "mobilenetv2", list(encoders.ENTRIES), "Encoder to distil with."
)
_SEEDS = commands.define_seeds()
_VARIANTS = commands.define_choices("variants", list(VARIANTS), "Which variants.")
_STEPS = flags.DEFINE_integer("steps", 1000, "Of distillation.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 1e-2, "Of the images.")
_VIEWS = flags.DEFINE_integer(
    "views", -1, "Of each image for the probe's training; -1: new ones in each epoch."
)
_NAME = flags.DEFINE_string("name", "clp_dd/ablation", "Folder of the records.")
_REDUCED = flags.DEFINE_string("reduced", None, "How this is less than the protocol.")
commands.define_record_flags()


def main() -> None:
    """Measures what is not on record yet."""
    dataset, encoder, cache = _DATASET.value, _ENCODER.value, in_memory(limit=2**31)

    @functools.cache
    def evaluation() -> Evaluation:
        return linear_probe(
            encoder=common.encoder(encoder),
            features_directory=common.cache_directory(),
            views=None if _VIEWS.value < 0 else _VIEWS.value,
        )

    @functools.cache
    def method(variant: str) -> Method:
        return common.method_of(settings(variant), common.encoder(encoder))

    def settings(variant: str) -> dict[str, Any]:
        default = common.settings_of("clp", per_class=1, learning_rate=_RATE.value)
        return {**default, **VARIANTS[variant]}

    def cell(variant: str, seed: int) -> Cell:
        def worth() -> dict[str, Any]:
            problem = common.load(dataset)
            run = common.distil(
                method(variant), problem, seed=seed, steps=_STEPS.value, cache=cache
            )
            found = common.worth(
                [evaluation()],
                run.distilled,
                problem,
                seed=seed,
                splits=("validation",),
            )
            return {**found, "seconds_per_step": run.seconds_per_step}

        stem = f"{dataset}_{encoder}_{variant.replace(' ', '_')}"
        return Cell(
            f"{_NAME.value}/{stem}_seed{seed}",
            {
                "dataset": dataset,
                "encoder": encoder,
                "variant": variant,
                "seed": seed,
                "method": settings(variant),
                "views": _VIEWS.value,
            },
            commands.whole(worth),
            lambda found: Measured(
                found[""],
                f"{len(common.load(dataset).train.inputs)} real images, 1 distilled "
                f"image a class, {_STEPS.value} steps",
                _REDUCED.value,
            ),
            check=lambda: common.check(dataset, [encoder]),
        )

    commands.measure(
        [cell(variant, seed) for variant in _VARIANTS.value for seed in _SEEDS.value],
        tables=["clp_ablation"] if _NAME.value == "clp_dd/ablation" else [],
    )


if __name__ == "__main__":
    commands.run(main)
