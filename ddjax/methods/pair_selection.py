"""Selection baselines without labels: real images with a teacher's representations.

Nothing is learned: a step changes nothing. They are what a distilled set of the same
size has to beat.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ddjax import checks
from ddjax.data.problem import Problem, Split
from ddjax.data.stored import on_host
from ddjax.methods import teacher as teachers
from ddjax.methods.base import Method, without_steps
from ddjax.models.encoders.settings import EncoderSetting, as_encoder
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Pairs, Stored, pixels
from ddjax.synthetic.distilled import DistilledSet, distilled_set
from ddjax.synthetic.initialization import chosen_rows

__all__ = ["HOW", "ChosenPairs", "pair_selection"]

HOW = ("uniform", "kmeans", "herding", "k_center")
"""Random images; in the teacher's space those nearest to the centres of k-means, and
the coresets of `ddjax.synthetic.initialization`."""


class ChosenPairs(NamedTuple):
    """The pairs that were chosen."""

    stored: Stored


def pair_selection(
    *,
    count: int = 100,
    how: str = "uniform",
    teacher: EncoderSetting | None = None,
    teacher_size: int | None = None,
    representations_directory: str | None = None,
) -> Method:
    """Builds a selection baseline for unlabelled images as a `Method`.

    Args:
      count: pairs m, each of another image.
      how: one of `HOW`.
      teacher: see `ddjax.methods.krr_st.krr_st`, as the rest.
      teacher_size: height and width for the teacher.
      representations_directory: of a cache on disk that runs share.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, fewer
        images than `count`, or neither a teacher nor targets.
      EncoderError: a teacher that cannot be made.
    """
    given = dict(locals())
    checks.check_names(how=(how, HOW))
    checks.check_counts(count=count)
    guide = teachers.as_teacher(teacher, teacher_size)
    decoder = pixels()

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> dict[str, Any]:
        seen = teachers.represented(
            problem, guide, cache=cache, directory=representations_directory
        )
        return {"targets": seen.train.targets}

    def init(key: PRNGKeyArray, problem: Problem, data: dict[str, Any]) -> ChosenPairs:
        seen = problem
        if how != "uniform":
            seen = problem._replace(train=Split(np.asarray(data["targets"])))
        way = "kmeans_nearest" if how == "kmeans" else how
        rows = chosen_rows(key, seen, count=count, how=way)
        images = jnp.asarray(on_host(problem.train.inputs[rows]))
        targets = jnp.asarray(np.asarray(data["targets"])[rows], images.dtype)
        return ChosenPairs(decoder.init(Pairs(images, targets), {}))

    def distilled(
        key: PRNGKeyArray, state: ChosenPairs, problem: Problem, data: Any
    ) -> DistilledSet:
        del key, data
        recipe: dict[str, Any] = {"targets_kind": "representation"}
        if guide is not None:
            recipe["teacher"] = guide.setting
        return distilled_set(state.stored, decoder, problem, recipe=recipe)

    known = None if teacher is None else as_encoder(teacher).setting
    return without_steps(
        "pair_selection",
        given | {"teacher": known},
        prepare=prepare,
        init=init,
        distilled=distilled,
    )
