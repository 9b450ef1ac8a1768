"""Steps of methods, and frozen encoders, against PyTorch.

    python -m experiments.benchmarks.against_torch --steps=NAME [--again] [--toy]

`--steps` is one of

    condensation     a step of DM and of DSA (see `condensation_step`); ten minutes on
                     two cores
    frozen_encoders  encoders forward and to pixels, a step of CLP-DD and of LGM through
                     them (`encoder_step`); twenty minutes
    students         a step of FRePo, of KRR-ST and of its boosted form
                     (`student_step`); fifteen

Needs PyTorch (`pip install torch`). Both forms start from the same numbers, do the same
step, and take turns in one process, each with all its threads. Peak memory and the
processor time of the first step are of processes of their own. Writes
`experiments/results/benchmarks/NAME.json`.
"""

import functools
import importlib.util
from collections.abc import Mapping
from typing import Any

from absl import flags

from experiments import commands
from experiments.benchmarks import (
    common,
    condensation_step,
    encoder_step,
    paired_steps,
    student_step,
)
from experiments.commands import Cell, Measured

__all__ = ["STEPS", "main"]

STEPS = {
    "condensation": condensation_step.STEPS,
    "frozen_encoders": encoder_step.STEPS,
    "students": student_step.STEPS,
}
"""Name of the record and its table -> what is measured."""

_OPTIONS = common.define_flags()
_STEPS = flags.DEFINE_enum("steps", None, list(STEPS), "Which steps.", required=True)


def main() -> None:
    """Measures times and memory of all methods at all sizes."""
    name, repeats = str(_STEPS.value), _OPTIONS.repeats.value
    steps = STEPS[name]
    named = steps.toy if _OPTIONS.toy.value else steps.sizes
    parts = {
        f"{sizes}, {method}": functools.partial(
            paired_steps.times, steps, method, named[sizes], repeats=repeats
        )
        for sizes in named
        for method in steps.methods
    }
    memory = {
        f"memory, {sizes}, {method}, {form}": functools.partial(
            common.in_a_process,
            steps.module,
            f"--form={form}",
            f"--method={method}",
            f"--sizes={sizes}",
        )
        for sizes in named
        for method in steps.methods
        for form in paired_steps.FORMS
    }

    def result(found: Mapping[str, Any]) -> Measured:
        entries = [
            {
                "sizes": sizes,
                "method": method,
                **found[f"{sizes}, {method}"],
                "memory": {
                    form: found[f"memory, {sizes}, {method}, {form}"]
                    for form in paired_steps.FORMS
                },
            }
            for sizes in named
            for method in steps.methods
        ]
        return Measured(
            {"entries": entries},
            steps.scale(named),
            "toy shapes" if _OPTIONS.toy.value else None,
        )

    cell = Cell(
        f"benchmarks/{name}",
        {"repeats": repeats, "sizes": named},
        {**parts, **memory},
        result,
        check=_check,
    )
    commands.measure([cell], tables=[name])


def _check() -> None:
    if importlib.util.find_spec("torch") is None:
        raise ValueError("this benchmark compares with PyTorch: pip install torch")


if __name__ == "__main__":
    commands.run(main)
