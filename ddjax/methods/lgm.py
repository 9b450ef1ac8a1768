r"""LGM: distilled images with the gradient that real ones have at a random probe.

In every step a head :math:`W \sim N(0, 0.01^2)`, :math:`b = 0` is drawn on top of a
frozen encoder, and the distilled images are moved so that the cross-entropy's gradient
in (W, b) has the direction that it has on a batch of real images:

.. math::
    L = 1 - \cos\Big(\Big[\frac{\partial\mathrm{CE}_t}{\partial W},
      \frac{\partial\mathrm{CE}_t}{\partial b}\Big],
      \Big[\frac{\partial\mathrm{CE}_s}{\partial W},
      \frac{\partial\mathrm{CE}_s}{\partial b}\Big]\Big), \qquad
    \frac{\partial\mathrm{CE}}{\partial W}
      = \frac1n Z^\top(\mathrm{softmax}(ZW + b) - Y).

With the inner gradients in closed form nothing is differentiated twice, and only the
features of the distilled images carry a graph. Without augmentation of the real images
their features are computed once.

Source: Cazenavette, Torralba and Sitzmann, "Dataset Distillation for Pre-Trained
Self-Supervised Vision Models" (NeurIPS 2025, arXiv 2511.16674), with its settings:
Adam 2e-3, 5000 steps, one image a class, 10 augmented copies a step, 10 real images a
class and step, the pyramid. Added here: the closed form, several encoders at once,
micro-batches, cached real features.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ddjax import checks
from ddjax.data.feed import Batches
from ddjax.data.problem import Problem, Split
from ddjax.kernels import linear_probe
from ddjax.methods import frozen_features, learned_set
from ddjax.methods.base import Method, Progress
from ddjax.methods.descent import Descent
from ddjax.methods.learned_set import DescentState
from ddjax.models.encoders.settings import EncoderSetting
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Decoder, Fitted
from ddjax.synthetic.targets import one_hot

__all__ = ["DESCENT", "HEAD_STD", "REAL_PER_CLASS", "GradientData", "lgm"]

HEAD_STD = 0.01
"""Standard deviation of the entries of W."""

REAL_PER_CLASS = 10
"""A step sees this number times that of classes of real images, of any class."""

DESCENT = Descent("adam", 2e-3)
"""What LGM's authors descend with."""


class GradientData(NamedTuple):
    """What steps look at.

    Attributes:
      params: weights of the encoders.
      real: real features and labels, one an encoder; with `augment_real`, one split of
        the images themselves.
      fitted: what the decoder took from the real data.
    """

    params: tuple[dict[str, Array], ...]
    real: tuple[Split | Batches, ...]
    fitted: Fitted


def lgm(
    *,
    encoder: EncoderSetting | Sequence[EncoderSetting],
    per_class: int = 1,
    augmentation: str | Mapping[str, Any] | None = "flip_crop_noise",
    copies: int = 10,
    augment_real: bool = True,
    micro_batch: int | None = None,
    block: int = 64,
    features_directory: str | None = None,
    initialization: str = "decoder_noise",
    decoder: str | Mapping[str, Any] | Decoder = "pyramid",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    """Builds LGM as a `Method`.

    Args:
      encoder: frozen encoders, see `ddjax.methods.frozen_features.as_encoders`; of
        several, the losses add up, each with a head of its own.
      per_class: samples a class (IPC).
      augmentation: see `ddjax.data.augment.make`; None for images as they are, and then
        `copies` is 1. The noise mean of the first release is
        `{"name": "flip_crop_noise", "noise_mean": 0.5}`.
      copies: augmented copies of every distilled image a step.
      augment_real: whether the real images are augmented as well, and then pass through
        the encoder in every step; otherwise their features are computed once.
      micro_batch: images through an encoder at once; None for all. See
        `ddjax.methods.frozen_features.encoded`.
      block: real images at once while their features are computed.
      features_directory: see `ddjax.methods.frozen_features.real_features`.
      initialization: see `ddjax.synthetic.initialization.select`; or `decoder_noise`.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`.

    Raises:
      ValueError: an unknown name, a number out of range, or settings that exclude each
        other.
      EncoderError: an encoder that cannot be loaded.
    """
    given = dict(locals())
    checks.check_counts(copies=copies, micro_batch=micro_batch, block=block)
    transform, augmented = frozen_features.augmentation_of(augmentation)
    if transform is None:
        copies, augment_real = 1, False
    encoders = frozen_features.as_encoders(encoder)
    parts = learned_set.of_keywords(given, DESCENT)

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> GradientData:
        del key
        frozen_features.check_problem(problem)
        if augment_real:
            inputs = [problem.train.inputs]
        else:
            inputs = [
                frozen_features.real_features(
                    each,
                    problem,
                    directory=features_directory,
                    block=block,
                    cache=cache,
                )
                for each in encoders
            ]
        real = frozen_features.rows_to_draw_from(
            inputs, problem.train.labels, batch_size=REAL_PER_CLASS * problem.classes
        )
        params = tuple(each.params for each in encoders)
        return GradientData(params, real, parts.fit(problem, cache))

    init = learned_set.class_init(
        parts,
        one_hot,
        per_class=per_class,
        initialization=initialization,
    )

    def encode(each: Any, params: Any, images: Array, drawn: Any, number: int) -> Array:
        return frozen_features.encoded(
            each.apply,
            params,
            images,
            copies=number,
            transform=transform,
            drawn=drawn,
            micro_batch=micro_batch,
        )

    def step(
        state: DescentState, batch: GradientData, key: PRNGKeyArray, progress: Progress
    ):
        head_key, distilled_key, real_key = jax.random.split(key, 3)
        inputs, targets = parts.pairs(state.learned)
        made, classes = copies * len(inputs), targets.shape[1]
        own = rest = None
        if transform is not None:
            keys = jax.random.split(distilled_key, made)
            if augment_real:
                rows: Any = batch.real[0]
                others = jax.random.split(real_key, len(rows.inputs))
                keys = jnp.concatenate([keys, others])
            # Draws for both sides at once: half as many programs to compile.
            drawn = frozen_features.draws(
                transform, keys, inputs.shape[1:], micro_batch=micro_batch
            )
            own = jax.tree.map(lambda leaf: leaf[:made], drawn)
            rest = jax.tree.map(lambda leaf: leaf[made:], drawn)
        heads, wanted = [], []
        for index, each in enumerate(encoders):
            rows = batch.real[0 if augment_real else index]
            features = rows.inputs
            if augment_real:
                features = encode(each, batch.params[index], features, rest, 1)
            one_key = jax.random.fold_in(head_key, index)
            weights = HEAD_STD * jax.random.normal(one_key, (each.width, classes))
            heads.append((weights, jnp.zeros(classes)))
            labels = learned_set.class_labels(rows)
            wanted.append(
                linear_probe.cross_entropy_gradient(features, labels, *heads[-1])
            )

        def objective(learned: dict[str, Any]) -> Array:
            pairs = parts.pairs(learned)
            targets = jnp.tile(pairs.targets, (copies, 1))
            distances = [
                linear_probe.cosine_distance(
                    wanted[index],
                    linear_probe.cross_entropy_gradient(
                        encode(each, batch.params[index], pairs.inputs, own, copies),
                        targets,
                        *heads[index],
                    ),
                )
                for index, each in enumerate(encoders)
            ]
            return jnp.sum(jnp.stack(distances))

        value, gradients = jax.value_and_grad(objective)(state.learned)
        return parts.update(state, gradients, progress), {"loss": value}

    recipe = {
        "targets_kind": "probabilities",
        "encoders": frozen_features.sources(encoders),
        **augmented,
    }

    return learned_set.gradient_method(
        "lgm",
        given,
        parts,
        prepare=prepare,
        init=init,
        step=step,
        distilled=learned_set.distilled_from(parts, lambda *_: recipe),
        encoder=encoders,
    )
