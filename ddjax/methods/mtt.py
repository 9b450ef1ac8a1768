r"""MTT: samples that lead a network along the trajectories of experts.

A student starts from an expert's parameters after an epoch drawn from 0 to `max_start`,
takes N steps on the set with a learned step size, and is to end where the expert was M
epochs later; the loss is that of `ddjax.methods.trajectory_matching`. Targets are
one-hot and stay so.

Source: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories"
(CVPR 2022), Algorithm 1. The defaults are those published for CIFAR-10 with one image a
class, which is ZCA-whitened there: N = 50, M = 2, starts up to epoch 2, images at rate
1000 and momentum 0.5, a step size from 0.01 at rate 1e-5, 5000 steps. Sets are judged
by `network_training.PROTOCOLS["dc_long"]` with `dsa` and `learning_rate="learned"`.
"""

from collections.abc import Mapping
from typing import Any

from ddjax.data import augment as augmentations
from ddjax.methods import class_samples, learned_set, trajectory_matching
from ddjax.methods.base import Method
from ddjax.methods.descent import Descent
from ddjax.methods.experts import ExpertTraining
from ddjax.methods.trajectory_matching import GROUP, Starts
from ddjax.synthetic.decoders.base import Decoder
from ddjax.synthetic.targets import one_hot

__all__ = ["DESCENT", "mtt"]

DESCENT = Descent("sgd", 1000.0, rates={GROUP: 0.1}, settings={"momentum": 0.5})
"""What MTT's authors descend with; 0.1 is their 1e-5 over the square of 0.01."""


def mtt(
    *,
    per_class: int = 1,
    architecture: str = "convnet",
    settings: Mapping[str, Any] | None = None,
    student_steps: int = 50,
    student_batch: int | None = None,
    expert_epochs: int = 2,
    max_start: int = 2,
    step_size: float = 0.01,
    augment: augmentations.PlainSetting | None = "dsa",
    experts: Mapping[str, Any] | ExpertTraining = ExpertTraining(),  # noqa: B008
    experts_directory: str | None = None,
    initialization: str = "balanced",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    r"""Builds MTT as a `Method`.

    Args:
      per_class: see `ddjax.methods.datm.datm`, as the next five.
      architecture: of experts and students.
      settings: its own.
      student_steps: N.
      student_batch: samples in each of them.
      expert_epochs: M.
      max_start: the latest epoch that a student may start from; experts have at least
        `max_start + expert_epochs` epochs.
      step_size: see `ddjax.methods.datm.datm`, as the next three.
      augment: of batches and samples.
      experts: their training.
      experts_directory: of a cache on disk.
      initialization: one of `ddjax.methods.class_samples.BALANCED`; or `decoder_noise`.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`; its
        group is `log_step_size`.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, a problem
        without classes, or a network with running statistics.
    """
    given = dict(locals())

    return trajectory_matching.build(
        "mtt",
        given,
        starts=Starts(0, max_start, max_start, 1.0),
        soft=False,
        default=DESCENT,
        known=class_samples.BALANCED,
        init=lambda parts, extra: learned_set.class_init(
            parts,
            one_hot,
            per_class=per_class,
            initialization=initialization,
            extra=extra,
        ),
    )
