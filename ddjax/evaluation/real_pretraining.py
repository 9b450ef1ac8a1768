"""The ceiling of pretraining: real images with a teacher's representations."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
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
from ddjax.synthetic.decoders.base import Pairs
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.json_text import plain

__all__ = ["real_pretraining"]


def real_pretraining(
    *,
    teacher: EncoderSetting,
    teacher_size: int | None = None,
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

    The ceiling: all that the teacher knows of the training images of the problem that
    is judged on. They are taken at the set's resolution and behind its preprocessing;
    the teacher sees them in natural units, at `teacher_size`. Of the set nothing else
    counts. What some of the images are worth, `methods.pair_selection` and
    `pretraining` tell.

    Scalars are those of `pretraining` under `full_data_pretraining_<architecture>/`.
    The images lie on the device. The cache keeps the representations and the networks.

    Settings are those of `pretraining.pretraining`; and `teacher`, see
    `ddjax.models.encoders.settings.as_encoder`, with its `teacher_size`, see
    `ddjax.models.encoders.resized.resized`.

    Raises:
      ValueError: what `pretraining` refuses.
      EncoderError: a teacher that cannot be loaded.
    """
    keywords = plain(locals(), "settings")
    rules = pretraining_rules(keywords)
    encoder = as_encoder(teacher)
    keywords["teacher"] = encoder.setting
    sized = resized(encoder, teacher_size)
    of_teacher = sized.setting
    name = f"full_data_pretraining_{architecture}" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        chosen_split(problem, split)
        check_resizable(distilled, problem)

        held = rows_per_block(problem.train.inputs.shape[1:])
        parts = matched_blocks(distilled, problem, "train", rows=None, block=held)
        inputs = jnp.asarray(np.concatenate(list(parts)))
        targets = _representations(sized, of_teacher, problem, block, cache)
        return pretrained_scores(
            name,
            key,
            rules,
            distilled,
            problem,
            split,
            pairs=Pairs(inputs, jnp.asarray(targets, inputs.dtype)),
            loss="mean_squared",
            cache=cache,
        )

    return Evaluation(name, keywords, evaluate)


def _representations(
    teacher: Encoder,
    setting: dict[str, Any],
    problem: Problem,
    block: int,
    cache: Cache,
) -> Float[ndarray, "n p"]:
    """The teacher's, of the training split."""
    about: dict[str, Any] = {"teacher": setting, "problem": identity(problem)}

    def compute() -> dict[str, Any]:
        parts = pixel_blocks(
            problem.preprocessing, problem.train.inputs, rows=16 * block
        )
        return {
            "targets": np.concatenate(
                [encoded(teacher, part, block=block) for part in parts]
            )
        }

    return np.asarray(cache("representations", about, compute)["targets"])
