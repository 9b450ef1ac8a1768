"""Linear probes on a frozen encoder: what distilled images are worth to them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ddjax.checks import check_counts
from ddjax.data import augment as augmentations
from ddjax.data.problem import Problem
from ddjax.evaluation import checks, closed_form, learning_targets, probe_training
from ddjax.evaluation.accuracy import accuracy
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.closed_form import probe_settings
from ddjax.evaluation.encoded_images import (
    check_pixels,
    encoded,
    real_features,
    weights_checksum,
)
from ddjax.evaluation.probe_training import Training, check_training, train_probe
from ddjax.models.encoders.settings import EncoderSetting, as_encoder
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.distilled import DistilledSet, decoded, natural_inputs
from ddjax.synthetic.json_text import plain

__all__ = ["PROBES", "linear_probe"]

PROBES = ("closed_form", "gradient")
"""Ridge regression in closed form; softmax regression by gradient."""

_PROTOCOL_AUGMENTATION = {"name": "flip_crop_noise", "noise": 0.0}


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
    augmentation: augmentations.PlainSetting | None = None,
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
    `linear_probe/gradient_accuracy`, the latter over seeds. Real and distilled images
    meet in natural units, whatever the set was preprocessed with.

    Source: LGM's protocol (arXiv 2511.16674): 1000 epochs, batches of 100, flips and
    random resized crops anew in each epoch, 5 seeds.

    Args:
      encoder: frozen; another than the set was distilled with is transfer.
      features_directory: of the cache of real features
        (`ddjax.models.encoders.cache`); None keeps them in the cache that the
        evaluation is given.
      kinds: which of `PROBES`.
      ridge: lambda, read by `ridge_convention`; None takes what the set was distilled
        with (`probe` in its recipe), as do the next three, else 1e-2.
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
    settings = plain(locals(), "settings")
    given = {key: settings[key] for key in closed_form.ProbeSettings._fields}
    training = Training(epochs, batch_size, learning_rate)
    checks.check_kinds(kinds, PROBES)
    check_training(training, seeds)
    probe_settings(given)
    check_counts(least=0, views=views)
    augmenter = augmentations.augmenter(
        _PROTOCOL_AUGMENTATION if augmentation is None else augmentation, shared=False
    )
    network = as_encoder(encoder)
    settings["encoder"] = network.setting
    weights = weights_checksum(network)
    name = "linear_probe" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        checks.chosen_split(problem, split)
        checks.check_fit(distilled, problem)
        check_pixels(problem)
        labels = checks.known_labels(problem, split)
        real = real_features(
            network,
            weights(),
            problem,
            directory=features_directory,
            block=block,
            cache=cache,
        )
        judged = real.of_split(split)
        images = jnp.asarray(natural_inputs(distilled))
        kind, stored = distilled.targets_kind, decoded(distilled).targets
        found: dict[str, Score] = {}
        if "closed_form" in kinds:
            chosen = probe_settings(distilled.recipe.get("probe") or {}, given)
            centre = real.mean() if chosen.centring == "real" else None
            rows = encoded(network, images, block=block)
            targets = learning_targets.as_stored(stored, kind)
            probe = closed_form.solution(rows, targets, chosen, centre)
            scores = closed_form.predictions(judged, probe, chosen, centre)
            worth = score([accuracy(scores, labels)])
            found[f"{name}/closed_form_accuracy"] = worth
        if "gradient" in kinds:
            wanted = learning_targets.probabilities(stored, kind, problem.classes)
            views_key, key = jax.random.split(key)
            features_fn, samples = probe_training.augmented_features(
                views_key, network, images, augmenter, views=views, block=block
            )
            trained = train_probe(
                jax.random.split(key, seeds),
                features_fn,
                samples,
                wanted.astype(judged.dtype),
                width=judged.shape[1],
                training=training,
            )
            values = probe_training.accuracies(trained, np.asarray(judged), labels)
            found[f"{name}/gradient_accuracy"] = score(values)
        return found

    return Evaluation(name, settings, evaluate)
