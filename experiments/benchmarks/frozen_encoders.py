"""Frozen encoders, and steps of CLP-DD and LGM through them, against PyTorch.

    python -m experiments.benchmarks.frozen_encoders [--again] [--toy]

Needs PyTorch (`pip install torch`). Both forms start from the same numbers, do the same
(see `encoder_step`), and take turns in one process, each with all its threads. Peak
memory and the processor time of the first step are of processes of their own. Twenty
minutes on two cores; writes
`experiments/results/benchmarks/frozen_encoders.json`.
"""

from experiments import commands
from experiments.benchmarks import against_torch, common, encoder_step

__all__ = ["main"]

_OPTIONS = common.define_flags()


def main() -> None:
    """Measures times and memory."""
    toy = _OPTIONS.toy.value
    against_torch.compare(
        "frozen_encoders",
        encoder_step.STEPS,
        toy=toy,
        repeats=_OPTIONS.repeats.value,
        scale="10 classes, 10 copies and 10 real images a class; float32",
    )


if __name__ == "__main__":
    commands.run(main)
