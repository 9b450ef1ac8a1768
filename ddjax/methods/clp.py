r"""CLP: distilled images whose linear probe, in closed form, fits the real features.

Frozen encoders f are given; the features :math:`Z_t = f(X_t)` of the real images are
computed once. In every step the distilled images pass through the encoder,
:math:`Z_s = f(X_s)`, induce a probe in sample space and are judged on real features:

.. math::
    W = Z_s^\top (Z_s Z_s^\top + \lambda I)^{-1} Y_s, \qquad
    L = \mathrm{CE}(Z_t W / \tau,\; y_t)
    \quad\text{or}\quad L = \frac{1}{2nc}\|Z_t W - Y_t\|_F^2 .

The gradient goes through the solve and the encoder to m images, never to real ones. The
squared loss on all real features needs only :math:`Z_t^\top Z_t` and
:math:`Z_t^\top Y_t`. Several encoders at once add up.

Source: Peng et al., "Closed-Form Linear-Probe Dataset Distillation for Pre-trained
Vision Models" (arXiv 2605.07194); of its settings only the abstract was at hand. Added
here: the strength relative to the features' norm, several encoders, micro-batches, the
squared loss at a cost that does not depend on n.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.data.problem import Problem, Split
from ddjax.kernels import linear_probe
from ddjax.kernels import ridge as ridge_regression
from ddjax.kernels.statistics import SufficientStatistics
from ddjax.methods import frozen_features, optimization
from ddjax.methods.base import Method, Remember, remember_nothing
from ddjax.methods.optimization import State
from ddjax.models.encoders.settings import EncoderSetting
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.targets import centred_one_hot

__all__ = ["CENTRINGS", "OUTER_LOSSES", "clp"]

OUTER_LOSSES = ("cross_entropy", "squared")
CENTRINGS = ("none", "real", "intercept")


class RealData(NamedTuple):
    """What steps look at; tuples have one entry an encoder.

    Attributes:
      params: weights of the encoders.
      centres: means of the real features, `(p,)`, zero unless they are subtracted.
      real: real features, as the probe sees them, and labels; empty where they stay on
        the host or the statistics say it all.
      hosted: real features as the encoder gives them, where they stay on the host:
        `HostRows`, in whose place a step finds a `Split` of its rows.
      statistics: of all real features, for the squared loss on all of them; else empty.
    """

    params: tuple[dict[str, Array], ...]
    centres: tuple[Float[Array, " p"], ...]
    real: tuple[Split, ...]
    hosted: tuple[Any, ...]
    statistics: tuple[SufficientStatistics, ...]


def clp(
    *,
    encoder: EncoderSetting | Sequence[EncoderSetting],
    per_class: int = 1,
    outer: str = "cross_entropy",
    ridge: float = 1e-2,
    ridge_convention: str = "relative",
    learn_ridge: bool = False,
    temperature: float = 0.1,
    learn_temperature: bool = False,
    normalize_features: bool = True,
    normalize_anchors: bool = False,
    centring: str = "none",
    learn_targets: bool = False,
    batch_size: int | None = None,
    augmentation: str | Mapping[str, Any] | None = None,
    copies: int = 1,
    real_views: int = 0,
    micro_batch: int | None = None,
    block: int = 64,
    features_directory: str | None = None,
    initialization: str = "own",
    parameterization: str | Mapping[str, Any] = "pyramid",
    optimizer: str = "adam",
    learning_rate: float = 1e-2,
    targets_learning_rate: float | None = None,
    scalars_learning_rate: float = 1e-2,
    decay_steps: int | None = None,
    warmup_steps: int = 0,
) -> Method:
    r"""Builds CLP as a `Method`.

    Args:
      encoder: frozen encoders, see `ddjax.methods.frozen_features.as_encoders`.
      per_class: samples a class (IPC).
      outer: `cross_entropy`, or `squared` (which the paper shows to be worse).
      ridge: lambda > 0, read by `ridge_convention`; where it is learned, the start.
      ridge_convention: `relative` to the mean squared norm of the distilled features
        (1 with `normalize_features`), `absolute` or `per_sample`. With augmented copies
        1 is better than the default: the images then have to mean the same in all.
      learn_ridge: learn log lambda.
      temperature: tau > 0 of the cross-entropy; where it is learned, the start.
      learn_temperature: learn log tau.
      normalize_features: scale every feature vector to norm 1.
      normalize_anchors: scale the columns of W to norm 1; with normalised features the
        logits are cosines over tau.
      centring: `none`; `real`: the mean of the real features is subtracted from all; or
        `intercept`: the probe has an unpenalised intercept.
      learn_targets: learn Y_s, which starts at one-hot - 1/c.
      batch_size: real feature vectors a step; None for all of them.
      augmentation: of the distilled images in each step and of the real views, see
        `ddjax.data.augment.make`.
      copies: augmented copies of every distilled image a step, each a row of the solve.
      real_views: augmented views of every real image whose features are the real ones;
        0 for the images themselves.
      micro_batch: distilled images through an encoder at once; None for all. With
        fewer than there are, memory stays that of a micro-batch and activations are
        computed twice.
      block: real images through an encoder at once.
      features_directory: see `ddjax.methods.frozen_features.real_features`.
      initialization: see `ddjax.methods.optimization.learner`.
      parameterization: likewise.
      optimizer: likewise.
      learning_rate: likewise.
      targets_learning_rate: likewise.
      scalars_learning_rate: of log lambda and log tau.
      decay_steps: likewise.
      warmup_steps: likewise.

    Raises:
      ValueError: an unknown name, a number out of range, or settings that exclude each
        other.
      EncoderError: an encoder that cannot be loaded.
    """
    _check_names(outer, ridge_convention, centring)
    frozen_features.check_numbers(
        copies=copies, micro_batch=micro_batch, batch_size=batch_size, block=block
    )
    for name, value in (("ridge", ridge), ("temperature", temperature)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be > 0, got {value}")
    view, recipe = frozen_features.augmenter(augmentation)
    if view is None and (copies > 1 or real_views):
        raise ValueError(
            f"copies={copies} and real_views={real_views} need an augmentation"
        )
    if outer == "squared" and learn_temperature:
        raise ValueError("learn_temperature is for outer='cross_entropy'")
    encoders = frozen_features.as_encoders(encoder)
    convention: Any = ridge_convention
    by_statistics = outer == "squared" and batch_size is None
    starts = {"ridge": ridge} if learn_ridge else {}
    starts |= {"temperature": temperature} if learn_temperature else {}
    parts = optimization.learner(
        per_class=per_class,
        initialization=initialization,
        parameterization=parameterization,
        optimizer=optimizer,
        learning_rate=learning_rate,
        learn_targets=learn_targets,
        targets_learning_rate=targets_learning_rate,
        decay_steps=decay_steps,
        warmup_steps=warmup_steps,
        extra_learning_rates=dict.fromkeys(map(_log, starts), scalars_learning_rate),
    )

    def embed(features: Any, centre: Array) -> Array:
        return linear_probe.embed(
            features,
            centre=centre if centring == "real" else None,
            normalize=normalize_features,
        )

    def embedded(splits: tuple[Any, ...], centres: tuple[Array, ...]):
        return tuple(
            Split(embed(each.inputs, centre), each.targets)
            for each, centre in zip(splits, centres, strict=True)
        )

    def prepare(
        key: PRNGKeyArray, problem: Problem, remember: Remember = remember_nothing
    ) -> RealData:
        del key
        frozen_features.check_problem(problem)
        labels = problem.train.targets
        features = [
            frozen_features.real_features(
                each,
                problem,
                directory=features_directory,
                block=block,
                remember=remember,
                view=view if real_views else None,
                recipe=recipe,
                views=real_views,
            )
            for each in encoders
        ]
        centres = tuple(
            _centre(each, subtracted=centring == "real") for each in features
        )
        params = tuple(each.params for each in encoders)
        if by_statistics:
            statistics = (
                _statistics(
                    (
                        (embed(rows, centre), some_labels)
                        for rows, some_labels in frozen_features.blocks(each, labels)
                    ),
                    classes=problem.classes,
                    intercept=centring == "intercept",
                )
                for each, centre in zip(features, centres, strict=True)
            )
            return RealData(params, centres, (), (), tuple(statistics))
        plain, hosted = frozen_features.rows_to_draw_from(
            features, labels, batch_size=batch_size
        )
        if hosted:
            return RealData(params, centres, (), hosted, ())
        return RealData(params, centres, embedded(plain, centres), (), ())

    def init(key: PRNGKeyArray, problem: Problem, data: RealData) -> State:
        del data
        return parts.start(
            key,
            problem,
            lambda labels: centred_one_hot(labels, problem.classes),
            {_log(name): jnp.log(jnp.float32(value)) for name, value in starts.items()},
        )

    def sample(key: PRNGKeyArray, data: RealData) -> RealData:
        if data.hosted:
            # The loop has put one step's rows in place of what stays on the host.
            return data._replace(real=embedded(data.hosted, data.centres), hosted=())
        return data._replace(real=frozen_features.draw(key, data.real, batch_size))

    def scalar(learned: dict[str, Any], name: str, fixed: float) -> Array:
        return jnp.exp(learned[_log(name)]) if name in starts else jnp.float32(fixed)

    def losses_of(learned: dict[str, Any], batch: RealData, key: PRNGKeyArray):
        """Sum of the outer losses, and what else is worth a look."""
        images = parts.inputs(learned)
        keys = None
        if view is not None:
            keys = jax.random.split(key, (copies, images.shape[0]))
        targets = jnp.tile(learned["targets"], (copies, 1))
        losses, accuracies, jitters = [], [], []
        for index, each in enumerate(encoders):
            rows = frozen_features.encoded(
                each.apply,
                batch.params[index],
                images,
                keys=keys,
                view=view,
                micro_batch=micro_batch,
            )
            probe = linear_probe.fit(
                embed(rows, batch.centres[index]),
                targets,
                ridge=scalar(learned, "ridge", ridge),
                convention=convention,
                intercept=centring == "intercept",
                normalize_anchors=normalize_anchors,
            )
            jitters.append(probe.jitter)
            if by_statistics:
                statistics = batch.statistics[index]
                losses.append(
                    linear_probe.squared_error_from_statistics(probe, statistics)
                )
                continue
            real = batch.real[index]
            scores = linear_probe.logits(real.inputs, probe)
            labels = optimization.class_labels(real)
            accuracies.append(jnp.mean(jnp.argmax(scores, axis=1) == labels))
            if outer == "squared":
                wanted = centred_one_hot(labels, scores.shape[1])
                losses.append(linear_probe.squared_error(scores, wanted))
            else:
                tau = scalar(learned, "temperature", temperature)
                losses.append(linear_probe.cross_entropy(scores / tau, labels))
        metrics = {"jitter": jnp.max(jnp.stack(jitters))}
        if accuracies:
            metrics["accuracy"] = jnp.mean(jnp.stack(accuracies))
        return sum(losses), metrics

    def step(state: State, batch: RealData, key: PRNGKeyArray):
        (value, metrics), gradients = jax.value_and_grad(losses_of, has_aux=True)(
            state.learned, batch, key
        )
        for name in starts:
            metrics[name] = scalar(state.learned, name, 0.0)
        return parts.update(state, gradients), {"loss": value, **metrics}

    def distilled(state: State, problem: Problem, data: RealData) -> DistilledSet:
        del data
        found = {
            name: float(np.exp(np.asarray(state.learned[_log(name)])))
            for name in starts
        }
        return optimization.distilled_set(
            state,
            problem,
            parts,
            targets_kind="scores",
            provenance={
                "encoders": frozen_features.sources(encoders),
                "outer": outer,
                "probe": {
                    "ridge": ridge,
                    "ridge_convention": ridge_convention,
                    "temperature": temperature,
                    "normalize_features": normalize_features,
                    "normalize_anchors": normalize_anchors,
                    "centring": centring,
                    **found,
                },
            },
        )

    return Method(prepare, init, sample, step, distilled)


def _log(name: str) -> str:
    return f"log_{name}"


def _centre(features: Any, *, subtracted: bool) -> Float[Array, " p"]:
    if not subtracted:
        return jnp.zeros(features.shape[1])
    return jnp.asarray(np.mean(features, axis=0, dtype=np.float64), jnp.float32)


def _statistics(
    blocks: Iterable[tuple[Array, Array]], *, classes: int, intercept: bool
) -> SufficientStatistics:
    """Of features and labels that come block by block, with a column of ones or not."""

    def parts():
        for features, labels in blocks:
            if intercept:
                ones = jnp.ones_like(features[:, :1])
                features = jnp.concatenate([features, ones], axis=1)
            yield features, centred_one_hot(labels, classes)

    return ridge_regression.streamed_statistics(parts())


def _check_names(outer: str, ridge_convention: str, centring: str) -> None:
    for name, value, known in (
        ("outer", outer, OUTER_LOSSES),
        ("ridge_convention", ridge_convention, ridge_regression.CONVENTIONS),
        ("centring", centring, CENTRINGS),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}")
