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
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ddjax import checks
from ddjax.data.problem import Problem
from ddjax.kernels import linear_probe
from ddjax.methods import frozen_features, learned_set
from ddjax.methods.base import Method, Progress
from ddjax.methods.descent import Descent
from ddjax.methods.learned_set import DescentState
from ddjax.methods.probe_data import (
    CENTRINGS,
    ProbeData,
    ProbeView,
    embed,
    embedded_rows,
    probe_data,
    split_of,
)
from ddjax.models.encoders.settings import EncoderSetting
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Decoder
from ddjax.synthetic.targets import centred_one_hot

__all__ = ["CENTRINGS", "DESCENT", "OUTER_LOSSES", "ProbeData", "clp"]

OUTER_LOSSES = ("cross_entropy", "squared")

DESCENT = Descent("adam", 1e-2, rates={"log_ridge": 1e-2, "log_temperature": 1e-2})
"""Ours; `log_ridge` and `log_temperature` are the scalars that may be learned."""


def clp(
    *,
    encoder: EncoderSetting | Sequence[EncoderSetting],
    per_class: int = 1,
    outer: str = "cross_entropy",
    ridge: float = 1e-2,
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
    micro_batch: int | None = None,
    block: int = 64,
    features_directory: str | None = None,
    initialization: str = "decoder_noise",
    decoder: str | Mapping[str, Any] | Decoder = "pyramid",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    r"""Builds CLP as a `Method`.

    Args:
      encoder: frozen encoders, see `ddjax.methods.frozen_features.as_encoders`.
      per_class: samples a class (IPC).
      outer: `cross_entropy`, or `squared` (which the paper shows to be worse).
      ridge: lambda > 0, over the mean squared norm of the distilled features, which is
        1 with `normalize_features` (`relative` in `ddjax.kernels.ridge`); where it is
        learned, the start. With augmented copies 1 is better than the default: the
        images then have to mean the same in all.
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
      augmentation: of the distilled images in each step, see `ddjax.data.augment.make`.
      copies: augmented copies of every distilled image a step, each a row of the solve.
      micro_batch: distilled images through an encoder at once; None for all. With
        fewer than there are, memory stays that of a micro-batch and activations are
        computed twice.
      block: real images through an encoder at once.
      features_directory: see `ddjax.methods.frozen_features.real_features`.
      initialization: see `ddjax.synthetic.initialization.select`; or `decoder_noise`.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`; its
        groups are `targets`, `log_ridge` and `log_temperature`.

    Raises:
      ValueError: an unknown name, a number out of range, or settings that exclude each
        other.
      EncoderError: an encoder that cannot be loaded.
    """
    given = dict(locals())
    checks.check_names(outer=(outer, OUTER_LOSSES), centring=(centring, CENTRINGS))
    checks.check_counts(
        copies=copies, micro_batch=micro_batch, batch_size=batch_size, block=block
    )
    checks.check_positive(ridge=ridge, temperature=temperature)
    transform, augmented = frozen_features.augmentation_of(augmentation)
    if transform is None and copies > 1:
        raise ValueError(f"copies={copies} need an augmentation")
    if outer == "squared" and learn_temperature:
        raise ValueError("learn_temperature is for outer='cross_entropy'")
    encoders = frozen_features.as_encoders(encoder)
    view = ProbeView(normalize_features, centring)
    by_statistics = outer == "squared" and batch_size is None
    starts = {"ridge": ridge} if learn_ridge else {}
    starts |= {"temperature": temperature} if learn_temperature else {}
    parts = learned_set.of_keywords(
        given, DESCENT, groups=("log_ridge", "log_temperature")
    )

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> ProbeData:
        del key
        frozen_features.check_problem(problem)
        features = [
            frozen_features.real_features(
                each, problem, directory=features_directory, block=block, cache=cache
            )
            for each in encoders
        ]
        return probe_data(
            view,
            features,
            problem.train.labels,
            classes=problem.classes,
            batch_size=batch_size,
            by_statistics=by_statistics,
            params=tuple(each.params for each in encoders),
            fitted=parts.fit(problem, cache),
        )

    init = learned_set.class_init(
        parts,
        centred_one_hot,
        per_class=per_class,
        initialization=initialization,
        extra=lambda: {
            f"log_{name}": jnp.asarray(math.log(value), jnp.result_type(float))
            for name, value in starts.items()
        },
    )

    def sample(key: PRNGKeyArray, data: ProbeData) -> ProbeData:
        del key
        return embedded_rows(view, data)

    def scalar(learned: dict[str, Any], name: str, fixed: float) -> Array:
        return jnp.exp(learned[f"log_{name}"]) if name in starts else jnp.asarray(fixed)

    def losses_of(learned: dict[str, Any], batch: ProbeData, key: PRNGKeyArray):
        """Sum of the outer losses, and what else is worth a look."""
        pairs = parts.pairs(learned)
        drawn = None
        if transform is not None:
            number, *shape = pairs.inputs.shape
            keys = jax.random.split(key, copies * number)
            drawn = frozen_features.draws(
                transform, keys, tuple(shape), micro_batch=micro_batch
            )
        targets = jnp.tile(pairs.targets, (copies, 1))
        losses, accuracies, jitters = [], [], []
        for index, each in enumerate(encoders):
            rows = frozen_features.encoded(
                each.apply,
                batch.params[index],
                pairs.inputs,
                copies=copies,
                transform=transform,
                drawn=drawn,
                micro_batch=micro_batch,
            )
            probe = linear_probe.fit(
                embed(view, rows, batch.centres[index]),
                targets,
                ridge=scalar(learned, "ridge", ridge),
                convention="relative",
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
            real = split_of(batch.real[index])
            scores = linear_probe.logits(real.inputs, probe)
            labels = learned_set.class_labels(real)
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

    def step(
        state: DescentState, batch: ProbeData, key: PRNGKeyArray, progress: Progress
    ):
        (value, metrics), gradients = jax.value_and_grad(losses_of, has_aux=True)(
            state.learned, batch, key
        )
        for name in starts:
            metrics[name] = scalar(state.learned, name, 1.0)
        return parts.update(state, gradients, progress), {"loss": value, **metrics}

    def recipe(key: PRNGKeyArray, state: Any, problem: Problem) -> dict[str, Any]:
        del key, problem
        found = {
            name: float(np.exp(np.asarray(state.learned[f"log_{name}"])))
            for name in starts
        }
        probe = {
            "ridge": ridge,
            "ridge_convention": "relative",
            "temperature": temperature,
            "normalize_features": normalize_features,
            "normalize_anchors": normalize_anchors,
            "centring": centring,
            **found,
        }
        return {
            "targets_kind": "scores",
            "encoders": frozen_features.sources(encoders),
            "probe": probe,
            **augmented,
        }

    return learned_set.gradient_method(
        "clp",
        given,
        parts,
        prepare=prepare,
        init=init,
        sample=sample,
        step=step,
        distilled=learned_set.distilled_from(parts, recipe),
        encoder=encoders,
    )
