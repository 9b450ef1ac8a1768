r"""DATM: matched trajectories of fitting difficulty, and soft labels.

What experts do early is easy and what they do late is hard; few samples can only hold
the easy part. Students therefore start from epochs of a window whose upper end grows
along the run (`ddjax.methods.trajectory_matching.latest_start`), and targets are
learned. They start as what an expert says of the real samples that the set starts from,
which are chosen among those that this expert gets right; in a class where these are too
few, among all. The loss is that of `ddjax.methods.trajectory_matching`.

Source: Guo et al., "Towards Lossless Dataset Distillation via Difficulty-Aligned
Trajectory Matching" (ICLR 2024), sections 3.2 and 3.3. Where this differs: they learn
logits, here the stored probabilities are learned and projected onto the simplex after
each step; their experts are trained to flat minima (FTD), here by plain SGD; and they
judge a running mean of the samples, here the last or best ones are.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PRNGKeyArray
from numpy import ndarray

from ddjax import checks
from ddjax.data import augment as augmentations
from ddjax.data.feed import gather
from ddjax.data.problem import Problem, Split
from ddjax.methods import learned_set, trajectory_matching
from ddjax.methods.base import InitFn, Method
from ddjax.methods.descent import Descent
from ddjax.methods.experts import ExpertTraining
from ddjax.methods.learned_set import DescentState, LearnedSet
from ddjax.methods.trajectory_matching import GROUP, Starts, TrajectoryData
from ddjax.synthetic.decoders.base import Decoder, Pairs
from ddjax.synthetic.initialization import chosen_by_class

__all__ = ["DESCENT", "INITIALIZATIONS", "datm"]

DESCENT = Descent(
    "sgd",
    100.0,
    rates={"targets": 0.1, GROUP: 0.1},
    settings={"momentum": 0.5},
)
"""What DATM's authors descend with, but for the targets (theirs are logits)."""

INITIALIZATIONS = ("balanced", "kmeans_nearest", "herding", "k_center")
"""Starts from as many real samples of each class, see
`ddjax.synthetic.initialization.select`."""


def datm(
    *,
    per_class: int = 1,
    architecture: str = "convnet",
    settings: Mapping[str, Any] | None = None,
    student_steps: int = 80,
    student_batch: int | None = None,
    expert_epochs: int = 2,
    min_start: int = 0,
    first_max_start: int = 4,
    max_start: int = 4,
    growth: float = 1.0,
    step_size: float = 0.01,
    augment: augmentations.PlainSetting | None = "dsa",
    experts: Mapping[str, Any] | ExpertTraining = ExpertTraining(),  # noqa: B008
    experts_directory: str | None = None,
    initialization: str = "balanced",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    r"""Builds DATM as a `Method`.

    The defaults are those published for CIFAR-10 (ZCA-whitened) with one image a class.

    Args:
      per_class: samples a class (IPC).
      architecture: of experts and students, a name in
        `ddjax.models.networks.NETWORKS`; without running statistics of batches.
      settings: its own.
      student_steps: N >= 1.
      student_batch: samples of the set in each of them; None for all.
      expert_epochs: M >= 1.
      min_start: the earliest epoch that a student may start from.
      first_max_start: the latest at the start of the run.
      max_start: the latest at its end; experts have at least `max_start +
        expert_epochs` epochs.
      growth: share of the run after which the latest is `max_start`, in (0, 1].
      step_size: :math:`\alpha` at the start, > 0.
      augment: of the experts' batches and of the samples in each step of a student,
        drawn for each image, see `ddjax.data.augment.make`; None for none.
      experts: fields of `ddjax.methods.experts.ExpertTraining`.
      experts_directory: see `directory` of `ddjax.methods.experts.trajectories`.
      initialization: one of `INITIALIZATIONS`.
      decoder: one that stores targets as they are, see
        `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`; its
        groups are `targets` and `log_step_size`.

    Raises:
      ValueError: an unknown name or a number out of range; a decoder whose targets
        cannot be kept on the simplex; when a run starts, a problem without classes, or
        a network with running statistics.
    """
    given = dict(locals())
    # Others than real samples have no predictions to start from.
    checks.check_names(initialization=(initialization, INITIALIZATIONS))

    def init(parts: LearnedSet, extra: Callable[[], dict[str, Any]]) -> InitFn:
        def start(
            key: PRNGKeyArray, problem: Problem, data: TrajectoryData
        ) -> DescentState:
            number = per_class * parts.decoder.parts
            rows = _chosen(
                key, problem, data, per_class=number, initialization=initialization
            )
            assert data.predictions is not None  # asked for by `soft`
            inputs = jnp.asarray(gather(problem.train, rows).inputs)
            targets = jnp.asarray(data.predictions)[rows].astype(inputs.dtype)
            stored = parts.decoder.init(Pairs(inputs, targets), data.fitted)
            labels = learned_set.class_labels(problem.train)[rows]
            return parts.start(stored, labels, extra())

        return start

    return trajectory_matching.build(
        "datm",
        given,
        starts=Starts(min_start, first_max_start, max_start, growth),
        soft=True,
        default=DESCENT,
        known=INITIALIZATIONS,
        init=init,
    )


def _chosen(
    key: PRNGKeyArray,
    problem: Problem,
    data: TrajectoryData,
    *,
    per_class: int,
    initialization: str,
) -> Int[ndarray, " m"]:
    """Positions of the real samples to start from, ordered by class."""
    labels = np.asarray(learned_set.class_labels(problem.train))
    right = np.asarray(data.predictions).argmax(axis=1) == labels
    enough = np.bincount(labels[right], minlength=problem.classes) >= per_class
    rows = np.flatnonzero(right | ~enough[labels])
    among = gather(problem.train, rows)
    positions = chosen_by_class(
        key,
        problem._replace(train=Split(among.inputs, among.labels)),
        per_class=per_class,
        how=initialization,
    )
    return rows[positions]
