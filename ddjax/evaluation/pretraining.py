"""Networks pretrained on a distilled set, frozen, and probed on real data."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray
from numpy import ndarray

from ddjax.checks import check_counts, check_positive
from ddjax.data.preprocess import rows_per_block
from ddjax.data.problem import Problem
from ddjax.evaluation import checks, frozen, learning_targets, network_training
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.frozen import Probes
from ddjax.evaluation.matching import learning_pairs, matched_blocks
from ddjax.evaluation.network_training import Protocol, Student
from ddjax.kernels.blocks import map_in_blocks
from ddjax.models.networks import check_name, make_for
from ddjax.storage.cache import Cache, cached_tree, no_cache
from ddjax.storage.checksum import checksum
from ddjax.synthetic.decoders.base import Pairs
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.initialization import chosen_rows
from ddjax.synthetic.json_text import plain

__all__ = ["Pretraining", "pretrained_scores", "pretraining", "pretraining_rules"]


class Pretraining(NamedTuple):
    """What is pretrained, how, and how it is probed.

    Attributes:
      architecture: a name in `ddjax.models.networks.NETWORKS`.
      settings: its own.
      protocol: of the pretraining; its `networks` are the draws.
      probes: on the frozen features.
      limit: training rows that probes see, or None for all.
      block: images through a network at once.
    """

    architecture: str
    settings: dict[str, Any]
    protocol: Protocol
    probes: Probes
    limit: int | None
    block: int


def pretraining(
    *,
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
    r"""Linear evaluation of networks pretrained on a distilled set.

    Each draw is one network :math:`h \circ f`, a linear head on features, which is
    trained on the set's pairs: for representations y, of p entries, by

    .. math:: \frac{1}{m p} \sum_i \| h(f(x_i)) - y_i \|^2,

    with SGD, momentum 0.9 and a constant learning rate. The equation's source has the
    mean over the m samples of the squared norm; the mean over the p entries as well is
    what the learning rate goes with. A set of classes trains by the cross entropy of
    its targets as probabilities. Then f is frozen, in evaluation mode, and
    `frozen.scores` are taken of its features: the probes train on the problem's
    training split and are judged on the other.

    The problem may be another than the set was distilled from, with other classes and
    images of another size, which are brought to the set's (`matching.matched_blocks`).
    Scalars: `pretraining_<architecture>/<kind>_accuracy` for each kind of probe, over
    networks.

    Source: Yu et al. (2025), section 3.4 and appendix A.1, after Lee et al. (ICLR
    2024). Table 5 has the weight decay: 1e-3 for CIFAR-100 with a budget of up to 100
    images and 1e-4 from 1000 images on, 5e-3 for TinyImageNet and ImageNet.

    Args:
      architecture: a name in `ddjax.models.networks.NETWORKS`.
      settings: its own, e.g. `{"widths": (128, 256, 512), "norm": "batch"}`.
      epochs: passes over the set; 0 leaves the networks untrained, the floor.
      steps: in place of `epochs`, whatever the size of the set.
      batch_size: pairs a step; the last batch of an epoch holds the rest.
      learning_rate: of SGD.
      weight_decay: coefficient of the squared norm's gradient.
      networks: how many are pretrained, one after the other.
      probes: fields of `frozen.Probes` where they are not the defaults.
      limit: probes train on so many random training rows, the same for every network
        and every call; None for all. For reduced runs.
      block: images through a network at once.
      label: appended to the name, to tell two such evaluations apart.

    Raises:
      ValueError: an unknown name or a number out of range; when it is evaluated, a
        problem without labels or with other inputs than images of the set's channels,
        or a set of regression targets.
    """
    keywords = plain(locals(), "settings")
    rules = pretraining_rules(keywords)
    name = f"pretraining_{architecture}" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        checks.check_resizable(distilled, problem)
        pairs, loss = _learned_pairs(distilled, problem)
        return pretrained_scores(
            name,
            key,
            rules,
            distilled,
            problem,
            split,
            pairs=pairs,
            loss=loss,
            cache=cache,
        )

    return Evaluation(name, keywords, evaluate)


def pretraining_rules(keywords: Mapping[str, Any]) -> Pretraining:
    """What the keywords of `pretraining` say.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    check_name(keywords["architecture"])
    check_counts(least=0, epochs=keywords["epochs"], steps=keywords["steps"])
    counts = ("batch_size", "networks", "limit", "block")
    check_counts(**{name: keywords[name] for name in counts})
    check_positive(required=True, learning_rate=keywords["learning_rate"])
    if not keywords["weight_decay"] >= 0:
        raise ValueError(f"weight_decay must be >= 0, got {keywords['weight_decay']}")
    protocol = Protocol(
        epochs=keywords["epochs"],
        steps=keywords["steps"],
        batch=keywords["batch_size"],
        learning_rate=keywords["learning_rate"],
        weight_decay=keywords["weight_decay"],
        networks=keywords["networks"],
        drop_factor=1.0,
    )
    rules = Pretraining(
        keywords["architecture"],
        dict(keywords["settings"] or {}),
        protocol,
        frozen.probes(keywords["probes"]),
        keywords["limit"],
        keywords["block"],
    )
    _network(rules, outputs=1, shape=(8, 8, 3))  # refuses mistakes here
    return rules


def pretrained_scores(
    name: str,
    key: PRNGKeyArray,
    rules: Pretraining,
    distilled: DistilledSet,
    problem: Problem,
    split: str,
    *,
    pairs: Pairs,
    loss: str,
    cache: Cache,
) -> dict[str, Score]:
    """Pretrains networks, freezes them, and probes their features.

    Args:
      name: prefix of the scalars.
      key: one network a key that is split from it.
      rules: what is pretrained, how, and how it is probed.
      distilled: whose resolution and preprocessing networks see images at.
      problem: what they are judged on.
      split: of the problem.
      pairs: what networks are trained on.
      loss: a name in `network_training.LOSSES`.
      cache: keeps the networks, for other splits and problems.

    Raises:
      ValueError: a split that cannot be measured on, or one without labels.
    """
    checks.chosen_split(problem, split)
    labels = checks.known_labels(problem, "train")
    truth = checks.known_labels(problem, split)
    rows = _probed_rows(problem, rules.limit)
    network = _network(
        rules, outputs=pairs.targets.shape[1], shape=pairs.inputs.shape[1:]
    )
    on = {
        "architecture": rules.architecture,
        "settings": rules.settings,
        "protocol": rules.protocol._asdict(),
        "loss": loss,
        "pairs": checksum(pairs._asdict()),
    }
    found: dict[str, list[float]] = {}
    for each in jax.random.split(key, rules.protocol.networks):
        learning, probing = jax.random.split(each)
        pretrain = functools.partial(
            network_training.train,
            learning[None],
            *pairs,
            network=network,
            protocol=rules.protocol,
            loss=loss,
        )
        of_key = np.asarray(jax.random.key_data(learning)).tolist()
        student = cached_tree(
            cache,
            "pretrained",
            {**on, "key": of_key},
            pretrain,
            like=jax.eval_shape(
                lambda key: network_training.untrained(key, network, pairs.inputs),
                learning,
            ),
        )
        features = [
            _features(network, student, distilled, problem, place, which, rules.block)
            for place, which in (("train", rows), (split, None))
        ]
        scores = frozen.scores(
            probing,
            features[0],
            labels if rows is None else labels[rows],
            features[1],
            truth,
            classes=problem.classes,
            **rules.probes._asdict(),
        )
        for scalar, value in scores.items():
            found.setdefault(f"{name}/{scalar}", []).append(value)
    return {scalar: score(values) for scalar, values in found.items()}


def _learned_pairs(distilled: DistilledSet, problem: Problem) -> tuple[Pairs, str]:
    """Pairs with one column of targets an output, and the loss that fits them."""
    kind, pairs = distilled.targets_kind, learning_pairs(distilled, problem)
    if kind == "representation":
        targets = pairs.targets.reshape(pairs.targets.shape[0], -1)
        return Pairs(pairs.inputs, targets), "mean_squared"
    if kind == "regression":
        raise ValueError(
            "pretraining is for sets of representations or classes; this set has "
            "targets of kind 'regression'"
        )
    classes = len(distilled.class_names or ())
    targets = learning_targets.probabilities(pairs.targets, kind, classes)
    return Pairs(pairs.inputs, targets), "soft_cross_entropy"


def _network(rules: Pretraining, *, outputs: int, shape: tuple[int, ...]) -> nn.Module:
    return make_for(
        rules.architecture,
        rules.settings,
        outputs=outputs,
        shape=shape,
        gray_padding=rules.protocol.gray_padding,
    )


def _probed_rows(problem: Problem, limit: int | None) -> Int[ndarray, " k"] | None:
    """The training rows that probes see, in ascending order; None for all."""
    if limit is None or limit >= len(problem.train.inputs):
        return None
    key = jax.random.key(0)
    return np.sort(chosen_rows(key, problem, count=limit, how="uniform"))


def _features(
    network: nn.Module,
    students: Student,
    distilled: DistilledSet,
    problem: Problem,
    split: str,
    rows: Int[ndarray, " k"] | None,
    block: int,
) -> Float[ndarray, "n p"]:
    """Features of real inputs in evaluation mode, under the only student."""
    predict = network_training.predictor(network.clone(outputs=None))
    held = rows_per_block(problem.train.inputs.shape[1:])
    chunk = max(1, held // block) * block
    inputs = matched_blocks(distilled, problem, split, rows=rows, block=chunk)
    count = len(getattr(problem, split).inputs) if rows is None else len(rows)
    out, done = None, 0
    for part in inputs:
        found = map_in_blocks(predict, part, block=block, arguments=(students,))[:, 0]
        if out is None:
            out = np.empty((count, *found.shape[1:]), found.dtype)
        out[done : done + len(found)] = found
        done += len(found)
    assert out is not None  # a split that is measured on holds samples
    return out
