"""What the representations of a trained network are worth, during a run or after it.

It measures a network in place of a distilled set, and so is not among the evaluations
by name: it goes with methods that train one (`ddjax.methods.barlow_twins`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, PRNGKeyArray
from numpy import ndarray

from ddjax.checks import check_counts
from ddjax.data.pixels import pixel_blocks
from ddjax.data.problem import Problem
from ddjax.evaluation import frozen
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.checks import chosen_split, known_labels
from ddjax.evaluation.encoded_images import encoded
from ddjax.models.encoders.base import Encoder
from ddjax.models.trained import TrainedNetwork, as_encoder
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.json_text import plain

__all__ = ["trained_network"]


def trained_network(
    *, kinds: Sequence[str] = ("closed_form", "nearest"), block: int = 256
) -> Evaluation:
    """Accuracy of linear models and neighbours on a trained network's representations.

    The network and the problem's labelled images are all there is: the training split
    trains the probes, the other one judges them. Scalars:
    `trained_network/<kind>_accuracy`.

    Args:
      kinds: which of `ddjax.evaluation.frozen.KINDS`.
      block: images through the network at once.

    Raises:
      ValueError: an unknown kind, a block below 1; when it is evaluated, something
        other than a trained network, or a split without labels.
    """
    keywords = plain(locals(), "settings")
    chosen = frozen.probes({"kinds": tuple(kinds)})
    check_counts(block=block)

    def evaluate(
        key: PRNGKeyArray,
        distilled: Any,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        del cache  # everything depends on the network
        if not isinstance(distilled, TrainedNetwork):
            raise ValueError(
                "the evaluation trained_network measures a TrainedNetwork, got a "
                f"{type(distilled).__name__}"
            )
        judged = chosen_split(problem, split)
        encoder = as_encoder(distilled)
        found = frozen.scores(
            key,
            _representations(encoder, problem, problem.train.inputs, block),
            known_labels(problem, "train"),
            _representations(encoder, problem, judged.inputs, block),
            known_labels(problem, split),
            classes=problem.classes,
            **chosen._asdict(),
        )
        return {
            f"trained_network/{name}": score([value]) for name, value in found.items()
        }

    return Evaluation("trained_network", keywords, evaluate)


def _representations(
    encoder: Encoder, problem: Problem, inputs: Any, block: int
) -> Float[ndarray, "n p"]:
    blocks = pixel_blocks(problem.preprocessing, inputs)
    return np.concatenate([encoded(encoder, each, block=block) for each in blocks])
