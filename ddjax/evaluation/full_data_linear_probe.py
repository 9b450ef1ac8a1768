"""The upper bound of linear probes: those of all the real images."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray
from numpy import ndarray

from ddjax.data.problem import Problem
from ddjax.evaluation import checks, closed_form, encoded_images, probe_training
from ddjax.evaluation.accuracy import accuracy
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.closed_form import ProbeSettings, probe_settings
from ddjax.evaluation.linear_probe import PROBES
from ddjax.kernels.ridge import RidgeSolution
from ddjax.models.encoders.settings import EncoderSetting, as_encoder
from ddjax.solvers import analytic
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.distilled import DistilledSet, decoded
from ddjax.synthetic.json_text import plain
from ddjax.synthetic.targets import centred_one_hot, one_hot

__all__ = ["full_data_linear_probe"]


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
    of `linear_probe.linear_probe`, under `full_data_linear_probe/`: `ridge`, the
    strength, and `reachable_accuracy`, what the best feature vectors that the closed
    form could be given, as many as there are distilled samples, make of it: with one
    for each class there are such as give the weights of the full data exactly
    (`ddjax.solvers.analytic.distilled_set`). Whether images have these features is
    another question; a distilled set's accuracy over this one is the fraction of the
    reachable. The cache keeps what does not depend on the set: all but the latter.

    Args:
      encoder: see `linear_probe.linear_probe`.
      features_directory: see `linear_probe.linear_probe`.
      kinds: which of `linear_probe.PROBES`.
      ridges: lambda, to choose from, read by `ridge_convention`.
      ridge_convention: see `ddjax.kernels.ridge`.
      normalize_features: whether the closed form sees features of norm 1.
      centring: `none`, `real` or `intercept`, see `linear_probe.linear_probe`.
      epochs: of the training by gradient.
      batch_size: of the training.
      learning_rate: of the training, for a batch of 256.
      seeds: trainings.
      block: images through the encoder at once.
      label: appended to the name, to tell two such evaluations apart.

    Raises:
      ValueError: an unknown name or a number out of range; when it is evaluated, a
        problem that is preprocessed or has no classes.
      EncoderError: an encoder that cannot be loaded.
    """
    settings = plain(locals(), "settings")
    if not ridges:
        raise ValueError("ridges must hold at least one strength")
    choices = [probe_settings(settings, {"ridge": ridge}) for ridge in ridges]
    training = probe_training.Training(epochs, batch_size, learning_rate)
    checks.check_kinds(kinds, PROBES)
    probe_training.check_training(training, seeds)
    network = as_encoder(encoder)
    settings["encoder"] = network.setting
    weights = encoded_images.weights_checksum(network)
    name = "full_data_linear_probe" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        checks.chosen_split(problem, split)
        checks.check_fit(distilled, problem)
        encoded_images.check_pixels(problem)
        checks.known_labels(problem, "train")
        labels = checks.known_labels(problem, split)
        real = encoded_images.real_features(
            network,
            weights(),
            problem,
            directory=features_directory,
            block=block,
            cache=cache,
        )
        judged, found = real.of_split(split), {}
        if "closed_form" in kinds:
            chosen, probe, centre = _closed_form(choices, real, problem, cache)
            count = len(decoded(distilled).inputs)
            reachable = _reachable(chosen, probe, count)
            for what, each in (("closed_form", probe), ("reachable", reachable)):
                scores = closed_form.predictions(judged, each, chosen, centre)
                found[f"{what}_accuracy"] = [accuracy(scores, labels)]
            found["ridge"] = [chosen.ridge]
        if "gradient" in kinds:
            trained = _by_gradient(key, training, seeds, real, problem, cache)
            found["gradient_accuracy"] = probe_training.accuracies(
                trained, judged, labels
            )
        return {f"{name}/{what}": score(values) for what, values in found.items()}

    return Evaluation(name, settings, evaluate)


def _closed_form(
    choices: list[ProbeSettings],
    real: encoded_images.RealFeatures,
    problem: Problem,
    cache: Cache,
) -> tuple[ProbeSettings, RidgeSolution, Float[ndarray, " p"] | None]:
    """The settings that are best on the validation split, their probe, the centre."""
    centre = real.mean() if choices[0].centring == "real" else None

    def compute() -> dict[str, Any]:
        judged = None
        if len(choices) > 1:
            checks.chosen_split(problem, "validation")
            labels = checks.known_labels(problem, "validation")
            judged = real.of_split("validation"), labels
        chosen, probe = closed_form.best_solution(
            choices,
            real.of_split("train"),
            centred_one_hot(checks.known_labels(problem, "train"), problem.classes),
            centre,
            judged,
        )
        found = {key: np.asarray(each) for key, each in probe._asdict().items()}
        return {**found, "choice": np.asarray(choices.index(chosen))}

    about = {**real.depends_on, "choices": [each._asdict() for each in choices]}
    found = dict(cache("full_data_closed_form", about, compute))
    chosen = choices[int(np.asarray(found.pop("choice")))]
    with jax.enable_x64(True):
        probe = RidgeSolution(**{k: jnp.asarray(v) for k, v in found.items()})
    return chosen, probe, centre


def _reachable(
    settings: ProbeSettings, probe: RidgeSolution, count: int
) -> RidgeSolution:
    """The probe of the best features that `count` samples could have."""
    found = analytic.distilled_set(
        np.asarray(probe.weights), ridge=settings.ridge, count=count, approximate=True
    )
    with jax.enable_x64(True):
        return probe._replace(weights=jnp.asarray(found.weights))


def _by_gradient(
    key: PRNGKeyArray,
    training: probe_training.Training,
    seeds: int,
    real: encoded_images.RealFeatures,
    problem: Problem,
    cache: Cache,
) -> probe_training.Probe:
    def compute() -> dict[str, Any]:
        rows = jnp.asarray(real.of_split("train"))
        labels: Int[ndarray, " n"] = checks.known_labels(problem, "train")
        trained = probe_training.train_probe(
            jax.random.split(key, seeds),
            probe_training.given_features,
            rows,
            one_hot(labels, problem.classes).astype(rows.dtype),
            width=rows.shape[1],
            training=training,
        )
        return dict(trained._asdict())

    about = {
        **real.depends_on,
        **training._asdict(),
        "seeds": seeds,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "key_impl": str(jax.random.key_impl(key)),
    }
    found = cache("full_data_gradient", about, compute)
    return probe_training.Probe(
        jnp.asarray(found["weights"]), jnp.asarray(found["bias"])
    )
