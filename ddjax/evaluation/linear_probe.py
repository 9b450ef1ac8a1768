"""Linear probes on a frozen encoder: what distilled images are worth to them."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy import ndarray

from ddjax.data import augment
from ddjax.data.problem import Problem
from ddjax.evaluation import learning_targets
from ddjax.evaluation.accuracy import accuracy
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.checks import check_match, chosen_split
from ddjax.evaluation.probe_training import Training, train_probe
from ddjax.kernels import analytic
from ddjax.kernels import linear_probe as probes
from ddjax.kernels import ridge as ridge_regression
from ddjax.kernels.blocks import map_in_blocks
from ddjax.models.encoders.base import Encoder
from ddjax.models.encoders.cache import cached_features
from ddjax.models.encoders.settings import EncoderSetting, as_encoder
from ddjax.synthetic.distilled import DistilledSet, natural_inputs
from ddjax.synthetic.targets import centred_one_hot, one_hot

__all__ = ["PROBES", "full_data_linear_probe", "linear_probe"]

PROBES = ("closed_form", "gradient")
"""Ridge regression in closed form; softmax regression by gradient."""

_CENTRINGS = ("none", "real", "intercept")
_EVALUATION_AUGMENTATION = {"name": "flip_crop_noise", "noise": 0.0}


class _Sight(NamedTuple):
    """What the closed form sees of features, and its strength.

    Attributes:
      ridge: lambda, read by `ridge_convention`.
      ridge_convention: see `ddjax.kernels.ridge`.
      normalize_features: whether rows have norm 1.
      centring: `none`, `real` (the mean of the real features) or `intercept`.
    """

    ridge: float = 1e-2
    ridge_convention: str = "relative"
    normalize_features: bool = True
    centring: str = "none"


def linear_probe(
    *,
    encoder: EncoderSetting,
    features_directory: str | None = None,
    kinds: Sequence[str] = PROBES,
    ridge: float | None = None,
    ridge_convention: str | None = None,
    normalize_features: bool | None = None,
    centring: str | None = None,
    epochs: int = 1000,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    seeds: int = 5,
    augmentation: str | Mapping[str, Any] | None = None,
    views: int | None = None,
    block: int = 64,
    label: str = "",
) -> Evaluation:
    r"""Accuracy of linear probes trained on the distilled images' features.

    `closed_form`: the ridge regression

    .. math::
        W = Z_s^\top (Z_s Z_s^\top + \lambda I_m)^{-1} Y_s

    on the stored targets (`ddjax.kernels.linear_probe.fit`), in float64. `gradient`:
    softmax regression on the features as the encoder gives them, trained by Adam on
    augmented images (`probe_training.train_probe`), with the stored targets as
    probabilities. Scalars: `linear_probe/closed_form_accuracy` and
    `linear_probe/gradient_accuracy`, the latter over seeds.

    Source: LGM's protocol (arXiv 2511.16674): 1000 epochs, batches of 100, flips and
    random resized crops anew in each epoch, 5 seeds.

    Args:
      encoder: frozen; another than the set was distilled with is transfer.
      features_directory: of the cache of real features
        (`ddjax.models.encoders.cache`); None keeps them in memory.
      kinds: which of `PROBES`.
      ridge: lambda; None takes what the set was distilled with, as do the next three,
        else 1e-2.
      ridge_convention: see `ddjax.kernels.ridge`; else `relative`.
      normalize_features: whether the closed form sees features of norm 1; else True.
      centring: `none`, `real` (the mean of the real training features is subtracted) or
        `intercept`; else `none`.
      epochs: of the training.
      batch_size: of the training.
      learning_rate: of the training, for a batch of 256.
      seeds: trainings.
      augmentation: of the training images, see `ddjax.data.augment.make`; None: flips
        and random resized crops.
      views: augmented copies of each image that are encoded once, before the training
        draws among them; None augments and encodes anew in every epoch, as the protocol
        does; 0 takes the images as they are.
      block: images through the encoder at once.
      label: appended to the name, to tell two such evaluations apart.

    Raises:
      ValueError: an unknown name or a number out of range; when it is evaluated, a
        problem that is preprocessed or has no classes.
      EncoderError: an encoder that cannot be loaded.
    """
    given = {
        "ridge": ridge,
        "ridge_convention": ridge_convention,
        "normalize_features": normalize_features,
        "centring": centring,
    }
    _check(kinds, epochs, batch_size, learning_rate, seeds, views)
    _sight(given, {})
    view = _view(augmentation)
    network = as_encoder(encoder)
    real = _RealFeatures(network, features_directory, block)
    training = Training(epochs, batch_size, learning_rate)
    name = "linear_probe" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray, distilled: DistilledSet, problem: Problem, split: str
    ) -> dict[str, Score]:
        data = chosen_split(problem, split)
        check_match(distilled, problem)
        _check_problem(problem)
        labels, judged = np.asarray(data.targets), real.of(problem, split)
        images = natural_inputs(distilled)
        found: dict[str, Score] = {}
        if "closed_form" in kinds:
            sight = _sight(given, distilled.provenance.get("probe", {}))
            centre = real.mean(problem) if sight.centring == "real" else None
            rows = _encoded(network, np.asarray(images), block)
            targets = learning_targets.as_stored(distilled)
            weights = _closed_form(rows, targets, sight, centre)
            predictions = _predictions(judged, weights, sight, centre)
            found[f"{name}/closed_form_accuracy"] = score(
                [accuracy(predictions, labels)]
            )
        if "gradient" in kinds:
            wanted = learning_targets.probabilities(distilled, problem.classes)
            bank_key, key = jax.random.split(key)
            look, seen = _look(network, images, bank_key, view, views, block)
            values = _trained(key, look, seen, wanted, training, seeds, judged, labels)
            found[f"{name}/gradient_accuracy"] = score(values)
        return found

    return Evaluation(name, evaluate)


def full_data_linear_probe(
    *,
    encoder: EncoderSetting,
    features_directory: str | None = None,
    kinds: Sequence[str] = PROBES,
    ridges: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
    ridge_convention: str = "relative",
    normalize_features: bool = True,
    centring: str = "none",
    epochs: int = 100,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    seeds: int = 5,
    block: int = 64,
    label: str = "",
) -> Evaluation:
    """The upper bound: the same probes on the features of all the training images.

    The closed form's strength is the best of `ridges` on the validation split. The
    images are not augmented: their features are computed once. Besides the two scalars
    of `linear_probe`, under `full_data_linear_probe/`: `ridge`, the strength, and
    `reachable_accuracy`, what the best feature vectors that the closed form could be
    given, as many as there are distilled samples, make of it: with one for each class
    there are such as give the weights of the full data exactly
    (`ddjax.kernels.analytic.distilled_set`). Whether images have these features is
    another question; a distilled set's accuracy over this one is the fraction of the
    reachable.

    Args:
      encoder: see `linear_probe`, as for all that is not listed here.
      features_directory: likewise.
      kinds: likewise.
      ridges: lambda, to choose from.
      ridge_convention: likewise.
      normalize_features: likewise.
      centring: likewise.
      epochs: likewise.
      batch_size: likewise.
      learning_rate: likewise.
      seeds: likewise.
      block: likewise.
      label: likewise.

    Raises:
      ValueError: see `linear_probe`.
      EncoderError: likewise.
    """
    if not ridges:
        raise ValueError("ridges must hold at least one strength")
    sights = [
        _sight(
            {},
            {
                "ridge": each,
                "ridge_convention": ridge_convention,
                "normalize_features": normalize_features,
                "centring": centring,
            },
        )
        for each in ridges
    ]
    _check(kinds, epochs, batch_size, learning_rate, seeds, 0)
    network = as_encoder(encoder)
    real = _RealFeatures(network, features_directory, block)
    training = Training(epochs, batch_size, learning_rate)
    name = "full_data_linear_probe" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray, distilled: DistilledSet, problem: Problem, split: str
    ) -> dict[str, Score]:
        data = chosen_split(problem, split)
        check_match(distilled, problem)
        _check_problem(problem)
        labels, judged = np.asarray(data.targets), real.of(problem, split)
        rows = real.of(problem, "train")
        classes = jnp.asarray(problem.train.targets)
        found: dict[str, float] = {}
        if "closed_form" in kinds:
            centre = real.mean(problem) if centring == "real" else None
            targets = centred_one_hot(classes, problem.classes)
            chosen = _chosen(sights, rows, targets, centre, real, problem)
            predictions = _predictions(judged, chosen.solution, chosen.sight, centre)
            found["closed_form_accuracy"] = accuracy(predictions, labels)
            found["ridge"] = chosen.sight.ridge
            reachable = analytic.distilled_set(
                np.asarray(chosen.solution.weights),
                ridge=chosen.sight.ridge,
                count=len(distilled.targets),
                approximate=True,
            )
            best = chosen.solution._replace(weights=reachable.weights)
            predictions = _predictions(judged, best, chosen.sight, centre)
            found["reachable_accuracy"] = accuracy(predictions, labels)
        scores = {f"{name}/{what}": score([value]) for what, value in found.items()}
        if "gradient" in kinds:
            wanted = one_hot(classes, problem.classes)
            values = _trained(
                key, _as_they_are, jnp.asarray(rows), wanted, training, seeds, judged,
                labels,
            )  # fmt: skip
            scores[f"{name}/gradient_accuracy"] = score(values)
        return scores

    return Evaluation(name, evaluate)


class _RealFeatures:
    """Features of a problem's splits, from the cache or kept in memory."""

    def __init__(self, encoder: Encoder, directory: str | None, block: int):
        self._encoder, self._directory, self._block = encoder, directory, block
        self._kept: dict[str, tuple[Any, ndarray]] = {}
        self._mean: tuple[Any, ndarray] | None = None

    def of(self, problem: Problem, split: str) -> ndarray:
        inputs = getattr(problem, split).inputs
        known = self._kept.get(split)
        if known is not None and known[0] is inputs:
            return known[1]
        if self._directory is None:
            found = _encoded(self._encoder, inputs, self._block)
        else:
            found = cached_features(
                self._encoder,
                inputs,
                directory=self._directory,
                fingerprint=f"{problem.fingerprint}/{split}",
                block=self._block,
            )
        self._kept[split] = inputs, found
        return found

    def mean(self, problem: Problem) -> ndarray:
        rows = self.of(problem, "train")
        if self._mean is None or self._mean[0] is not rows:
            self._mean = rows, rows.mean(axis=0, dtype=np.float64)
        return self._mean[1]


@functools.lru_cache(maxsize=8)
def _compiled(apply: Any) -> Any:
    return jax.jit(apply)


def _encoded(encoder: Encoder, images: Any, block: int) -> Float[ndarray, "n p"]:
    apply = _compiled(encoder.apply)
    return map_in_blocks(apply, images, block=block, arguments=(encoder.params,))


def _closed_form(rows: Any, targets: Any, sight: _Sight, centre: ndarray | None):
    """In float64: at a small ridge the rounding of float32 is not small beside it."""
    with jax.enable_x64(True):
        features = _embedded(rows, sight, centre)
        wanted = jnp.asarray(np.asarray(targets, np.float64))
        return ridge_regression.solve(
            features,
            wanted.reshape(len(wanted), -1),
            ridge=sight.ridge,
            convention=sight.ridge_convention,  # type: ignore
            intercept=sight.centring == "intercept",
        )


def _embedded(rows: Any, sight: _Sight, centre: ndarray | None) -> Array:
    return probes.embed(
        np.asarray(rows, np.float64),
        centre=centre,
        normalize=sight.normalize_features,
    )


def _predictions(rows: Any, solution: Any, sight: _Sight, centre: ndarray | None):
    with jax.enable_x64(True):
        scores = ridge_regression.predict(_embedded(rows, sight, centre), solution)
        return np.asarray(scores)


class _Chosen(NamedTuple):
    sight: _Sight
    solution: Any


def _chosen(sights, rows, targets, centre, real: _RealFeatures, problem) -> _Chosen:
    """The solution that is best on the validation split; of equals the first."""
    if len(sights) == 1:
        return _Chosen(sights[0], _closed_form(rows, targets, sights[0], centre))
    data = chosen_split(problem, "validation")
    judged, labels = real.of(problem, "validation"), np.asarray(data.targets)
    best, kept = -1.0, None
    for sight in sights:
        solution = _closed_form(rows, targets, sight, centre)
        worth = accuracy(_predictions(judged, solution, sight, centre), labels)
        if worth > best:
            best, kept = worth, _Chosen(sight, solution)
    assert kept is not None
    return kept


def _trained(key, look, seen, wanted, training, seeds, judged, labels) -> list[float]:
    """Accuracy of one training a seed."""
    found = train_probe(
        jax.random.split(key, seeds),
        look,
        seen,
        wanted,
        width=judged.shape[1],
        training=training,
    )
    rows = np.asarray(judged)
    return [
        accuracy(rows @ np.asarray(weights) + np.asarray(bias), labels)
        for weights, bias in zip(found.weights, found.bias, strict=True)
    ]


def _as_they_are(features: Array, key: PRNGKeyArray, indices: Array) -> Array:
    del key
    return features[indices]


def _one_of_the_views(bank: Array, key: PRNGKeyArray, indices: Array) -> Array:
    """Of `(views, m, p)`, for each sample one at random."""
    which = jax.random.randint(key, indices.shape, 0, bank.shape[0])
    return bank[which, indices]


def _look(
    encoder: Encoder,
    images: Float[Array, "m h w 3"],
    key: PRNGKeyArray,
    view: Any,
    views: int | None,
    block: int,
) -> tuple[Any, Any]:
    """How the training sees a sample, and what it looks at."""
    if views == 0:
        return _as_they_are, jnp.asarray(_encoded(encoder, np.asarray(images), block))
    if views is None:
        return _fresh(encoder.apply, view), (encoder.params, images)
    banks = [
        _encoded(encoder, np.asarray(_augmented(each, images, view)), block)
        for each in jax.random.split(key, views)
    ]
    return _one_of_the_views, jnp.stack(banks)


@functools.partial(jax.jit, static_argnames="view")
def _augmented(key: PRNGKeyArray, images: Array, view: Any) -> Array:
    return view(key, images)


@functools.lru_cache(maxsize=8)
def _fresh(apply: Any, view: Any) -> Any:
    def look(seen: Any, key: PRNGKeyArray, indices: Array) -> Array:
        params, images = seen
        return apply(params, view(key, images[indices]))

    return look


def _view(augmentation: str | Mapping[str, Any] | None) -> Any:
    setting = _EVALUATION_AUGMENTATION if augmentation is None else augmentation
    recipe = {"name": setting} if isinstance(setting, str) else dict(setting)
    return augment.make(**recipe, siamese=False)


def _sight(given: Mapping[str, Any], distilled_with: Mapping[str, Any]) -> _Sight:
    """What is given, else what the set was distilled with, else the default.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    values = _Sight()._asdict()
    for what in values:
        for source in (distilled_with, given):
            if source.get(what) is not None:
                values[what] = source[what]
    sight = _Sight(**values)
    if not (math.isfinite(sight.ridge) and sight.ridge > 0):
        raise ValueError(f"ridge must be > 0, got {sight.ridge}")
    for what, known in (
        ("ridge_convention", ridge_regression.CONVENTIONS),
        ("centring", _CENTRINGS),
    ):
        if values[what] not in known:
            raise ValueError(f"{what} must be one of {known}, got {values[what]!r}")
    return sight


def _check(kinds, epochs, batch_size, learning_rate, seeds, views) -> None:
    for kind in kinds:
        if kind not in PROBES:
            raise ValueError(f"unknown probe {kind!r}; known: {', '.join(PROBES)}")
    if not kinds:
        raise ValueError(f"kinds is empty; known: {', '.join(PROBES)}")
    for name, value in (
        ("epochs", epochs), ("batch_size", batch_size), ("seeds", seeds),
    ):  # fmt: skip
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be > 0, got {learning_rate}")
    if views is not None and views < 0:
        raise ValueError(f"views must be at least 0 or None, got {views}")


def _check_problem(problem: Problem) -> None:
    if problem.preprocessing.kind != "none":
        raise ValueError(
            f"encoders take pixels in [0, 1], but problem {problem.name!r} has "
            f"preprocessing {problem.preprocessing.kind!r}; load it with "
            "preprocessing='none'"
        )
    if problem.classes < 2:
        raise ValueError(
            f"a linear probe needs classes; problem {problem.name!r} has "
            f"{problem.classes}"
        )
