"""The ceiling of pretraining: real images with a teacher's representations."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray
from numpy import ndarray

from ddjax.data.pixels import pixel_blocks
from ddjax.data.preprocess import rows_per_block
from ddjax.data.problem import Problem, identity
from ddjax.evaluation.base import Evaluation, Score
from ddjax.evaluation.checks import check_resizable, chosen_split
from ddjax.evaluation.encoded_images import encoded
from ddjax.evaluation.matching import matched_blocks
from ddjax.evaluation.pretraining import pretrained_scores, pretraining_rules
from ddjax.models.encoders.base import Encoder
from ddjax.models.encoders.resized import resized
from ddjax.models.encoders.settings import EncoderSetting, as_encoder
from ddjax.storage.cache import Cache, no_cache
from ddjax.storage.checksum import checksum
from ddjax.synthetic.decoders.base import Pairs
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.initialization import chosen_rows
from ddjax.synthetic.json_text import plain

__all__ = ["real_pretraining"]


def real_pretraining(
    *,
    teacher: EncoderSetting,
    teacher_size: int | None = None,
    count: int | None = None,
    architecture: str = "convnet",
    settings: Mapping[str, Any] | None = None,
    epochs: int = 1000,
    steps: int | None = None,
    batch_size: int = 256,
    learning_rate: float = 0.1,
    weight_decay: float = 1e-3,
    networks: int = 3,
    probes: Mapping[str, Any] | None = None,
    limit: int | None = None,
    block: int = 256,
    label: str = "",
) -> Evaluation:
    """`pretraining.pretraining` on real images with a teacher's representations.

    On all training images it is the ceiling: all that the teacher knows of them. On a
    few it is what random images with their representations are worth, each network
    having images of its own. The images are those of the problem that is judged on, at
    the set's resolution and behind its preprocessing; the teacher sees them in natural
    units, at `teacher_size`. Of the set nothing else counts.

    Scalars are those of `pretraining` under `full_data_pretraining_<architecture>/` or,
    where `count` is given, `random_real_pretraining_<architecture>/`. The images that
    are trained on lie on the device. The cache keeps the representations.

    Args:
      teacher: see `ddjax.models.encoders.settings.as_encoder`.
      teacher_size: see `ddjax.models.encoders.resized.resized`.
      count: how many random training images; None for all.
      architecture: see `pretraining.pretraining`, as all that follows.
      settings: of the architecture.
      epochs: passes over the images.
      steps: in place of `epochs`.
      batch_size: images a step.
      learning_rate: of SGD.
      weight_decay: coefficient of the squared norm's gradient.
      networks: how many are pretrained.
      probes: fields of `frozen.Probes`.
      limit: training rows that probes see.
      block: images through a network, or the teacher, at once.
      label: appended to the name.

    Raises:
      ValueError: what `pretraining` refuses, a `count` below 1, or, when it is
        evaluated, fewer training images than `count`.
      EncoderError: a teacher that cannot be loaded.
    """
    keywords = plain(locals(), "settings")
    rules = pretraining_rules(keywords)
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1 or None, got {count}")
    encoder = as_encoder(teacher)
    keywords["teacher"] = encoder.setting
    sized = resized(encoder, teacher_size)
    of_teacher = sized.setting
    whose = "full_data" if count is None else "random_real"
    name = f"{whose}_pretraining_{architecture}" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        chosen_split(problem, split)
        check_resizable(distilled, problem)

        def pairs(rows: Int[ndarray, " k"] | None) -> Pairs:
            held = rows_per_block(problem.train.inputs.shape[1:])
            parts = matched_blocks(distilled, problem, "train", rows=rows, block=held)
            inputs = jnp.asarray(np.concatenate(list(parts)))
            targets = _representations(sized, of_teacher, problem, rows, block, cache)
            return Pairs(inputs, jnp.asarray(targets, inputs.dtype))

        def random_pairs(key: PRNGKeyArray) -> Pairs:
            assert count is not None
            return pairs(chosen_rows(key, problem, count=count, how="uniform"))

        everything = pairs(None) if count is None else None

        return pretrained_scores(
            name,
            key,
            rules,
            distilled,
            problem,
            split,
            pairs_of=random_pairs if everything is None else lambda key: everything,
            loss="mean_squared",
        )

    return Evaluation(name, keywords, evaluate)


def _representations(
    teacher: Encoder,
    setting: dict[str, Any],
    problem: Problem,
    rows: Int[ndarray, " k"] | None,
    block: int,
    cache: Cache,
) -> Float[ndarray, "n p"]:
    """The teacher's, of some rows of the training split or of all."""
    about: dict[str, Any] = {"teacher": setting, "problem": identity(problem)}
    name, inputs = "representations", problem.train.inputs
    if rows is not None:
        name, inputs = "representations_of_rows", inputs[rows]
        about["rows"] = checksum({"rows": rows})

    def compute() -> dict[str, Any]:
        parts = pixel_blocks(problem.preprocessing, inputs, rows=16 * block)
        return {
            "targets": np.concatenate(
                [encoded(teacher, part, block=block) for part in parts]
            )
        }

    return np.asarray(cache(name, about, compute)["targets"])
