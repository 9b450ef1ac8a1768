"""Finite networks trained on a distilled set."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy import ndarray

from ddjax.checks import check_counts, check_names
from ddjax.data import augment as augmentations
from ddjax.data.problem import Problem
from ddjax.evaluation import checks, learning_targets, network_training
from ddjax.evaluation.accuracy import accuracy, mean_squared_error
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.matching import learning_pairs, matched_problem
from ddjax.evaluation.network_training import PROTOCOLS, Protocol
from ddjax.kernels.blocks import map_in_blocks
from ddjax.models.networks import check_name, make_for
from ddjax.storage.cache import Cache, cached_tree, no_cache
from ddjax.storage.checksum import checksum
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.json_text import plain

__all__ = ["network"]

_LOSS_OF_KIND = {
    "scores": "squared",
    "margin": "squared",
    "regression": "squared",
    "probabilities": "soft_cross_entropy",
}
_INNER = "inner"
_LEARNED = "learned"
_CLASS_LOSSES = ("cross_entropy", "soft_cross_entropy")


def network(
    *,
    architecture: str = "convnet",
    settings: Mapping[str, Any] | None = None,
    protocol: str = "dc",
    epochs: int | None = None,
    networks: int | None = None,
    learning_rate: float | str | None = None,
    loss: str = "auto",
    augment: augmentations.PlainSetting | None = None,
    at_once: int = 1,
    block: int = 256,
    label: str = "",
) -> Evaluation:
    """Accuracy of finite networks trained from scratch on the distilled set.

    Each draw is one network: its initialisation and the order of its batches. Scalars:
    `network_<architecture>/accuracy` for classes, `network_<architecture>/mse` for
    regression targets.

    Args:
      architecture: a name in `ddjax.models.networks.NETWORKS`.
      settings: its own, e.g. `{"depth": 3, "width": 128}`.
      protocol: a name in `PROTOCOLS`: `dc` (300 epochs), `dc_long` or `frepo`; or
        `inner`: plain SGD on the whole set with the step sizes that the set's recipe
        holds (`inner.step_sizes`, of `ddjax.methods.dd`), one step for each.
      epochs: in place of the protocol's; not for `inner`.
      networks: how many networks, in place of the protocol's.
      learning_rate: in place of the protocol's; not for `inner`. `learned` takes the
        one that the set's recipe holds (`inner.learning_rate`, of `ddjax.methods.mtt`
        and `datm`). The protocol's was found with the cross entropy; see `loss` on why
        `squared` may need another.
      loss: `cross_entropy` on the stored targets' hard labels, `soft_cross_entropy` on
        their probabilities, `squared` on the targets as stored, or `auto`:
        `soft_cross_entropy` for stored probabilities and else `squared`, so that
        learned targets are used as they were learned.
      augment: applied to each training batch, drawn for each image, see
        `ddjax.data.augment.make`; None for none. The published numbers of DSA and DM
        are `dc_long` with `dsa`.
      at_once: networks trained side by side (see `network_training.train`).
      block: real inputs predicted at once.
      label: appended to the name, to tell two such evaluations apart.

    Raises:
      ValueError: an unknown name, or a number below its least value; when it is
        evaluated, targets that the loss cannot be given, a set without the learning
        rate or step sizes that are asked for, or a split without the labels or targets
        to measure against.
    """
    keywords = plain(locals(), "settings")
    check_name(architecture)
    check_names(loss=(loss, ("auto", *network_training.LOSSES)))
    augmenter = (
        None if augment is None else augmentations.augmenter(augment, shared=False)
    )
    rules = _rules(protocol, epochs, networks, learning_rate)
    check_counts(at_once=at_once, block=block)
    name = f"network_{architecture}" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        checks.chosen_split(problem, split)
        rates = _learned_rates(distilled, protocol, learning_rate)
        trained = rules
        if protocol == _INNER and rates is not None:
            trained = rules._replace(steps=len(rates))
        problem = matched_problem(distilled, problem, split)
        kind, pairs = distilled.targets_kind, learning_pairs(distilled, problem)
        chosen = _LOSS_OF_KIND.get(kind, loss) if loss == "auto" else loss
        targets = _targets(pairs.targets, kind, chosen, problem.classes)
        student = make_for(
            architecture,
            settings,
            outputs=targets.shape[1],
            shape=pairs.inputs.shape[1:],
            gray_padding=rules.gray_padding,
        )
        train = functools.partial(
            network_training.train,
            jax.random.split(key, rules.networks),
            pairs.inputs,
            targets,
            network=student,
            protocol=trained,
            loss=chosen,
            augment=augmenter,
            at_once=min(at_once, rules.networks),
            learning_rates=None if rates is None else rates.astype(pairs.inputs.dtype),
        )
        # They serve every split, and other problems.
        students = cached_tree(
            cache,
            "trained_networks",
            {
                **keywords,
                "protocol": trained._asdict(),
                "learning_rates": None if rates is None else rates.tolist(),
                "loss": chosen,
                "pairs": checksum({"inputs": pairs.inputs, "targets": targets}),
                "key": np.asarray(jax.random.key_data(key)).tolist(),
            },
            train,
            like=jax.eval_shape(
                lambda key: network_training.untrained(key, student, pairs.inputs), key
            ),
        )
        outputs = map_in_blocks(
            network_training.predictor(student),
            getattr(problem, split).inputs,
            block=block,
            arguments=(students,),
        )
        return _scores(name, outputs, problem, split, kind == "regression")

    return Evaluation(name, keywords, evaluate)


def _rules(
    protocol: str,
    epochs: int | None,
    networks: int | None,
    learning_rate: float | str | None,
) -> Protocol:
    known = {**PROTOCOLS, _INNER: network_training.INNER}
    check_names(protocol=(protocol, known))
    given = {"epochs": epochs, "networks": networks, "learning_rate": learning_rate}
    if protocol == _INNER:
        for field in ("epochs", "learning_rate"):
            if given[field] is not None:
                raise ValueError(
                    f"protocol {_INNER!r} takes the steps of the set's recipe, and no "
                    f"{field}; got {given[field]!r}"
                )
    if isinstance(learning_rate, str):
        if learning_rate != _LEARNED:
            raise ValueError(
                f"learning_rate must be a number or {_LEARNED!r}, got {learning_rate!r}"
            )
        given["learning_rate"] = None
    for field, value in given.items():
        least = 0 if field == "learning_rate" else 1
        if value is not None and not (value > 0 and value >= least):
            raise ValueError(f"{field} must be positive, got {value}")
    given = {field: value for field, value in given.items() if value is not None}
    return known[protocol]._replace(**given)


def _learned_rates(
    distilled: DistilledSet, protocol: str, learning_rate: float | str | None
) -> Float[Array, "*steps"] | None:
    """What the set's recipe says of learning rates, where that is asked for."""
    if protocol == _INNER:
        wanted, name = f"protocol {_INNER!r}", "step_sizes"
    elif learning_rate == _LEARNED:
        wanted, name = f"learning_rate {_LEARNED!r}", "learning_rate"
    else:
        return None
    inner = distilled.recipe.get("inner", {})
    if name not in inner:
        raise ValueError(
            f"{wanted} needs a set whose recipe has inner.{name}; the recipe's inner "
            f"holds: {', '.join(inner) or 'nothing'}"
        )
    return jnp.asarray(inner[name], jnp.result_type(float))


def _targets(
    stored: Float[Array | ndarray, "m *c"], kind: str, loss: str, classes: int
) -> Float[Array, "m k"]:
    """Stored targets in the units of the loss, one column an output."""
    if loss not in _CLASS_LOSSES:
        values = learning_targets.as_stored(stored, kind)
        return values.reshape(values.shape[0], -1)
    if classes == 0:
        raise ValueError(f"loss {loss!r} needs classes, but the problem has none")
    soft = learning_targets.probabilities(stored, kind, classes)
    if loss == "soft_cross_entropy":
        return soft
    return jax.nn.one_hot(jnp.argmax(soft, axis=1), classes, dtype=soft.dtype)


def _scores(
    name: str, outputs: ndarray, problem: Problem, split: str, of_targets: bool
) -> dict[str, Score]:
    draws = [outputs[:, draw] for draw in range(outputs.shape[1])]
    if not of_targets:
        labels = checks.known_labels(problem, split)
        return {f"{name}/accuracy": score([accuracy(each, labels) for each in draws])}
    wanted = checks.known_targets(problem, split).reshape(len(outputs), -1)
    errors = [mean_squared_error(each, wanted) for each in draws]
    return {f"{name}/mse": score(errors)}
