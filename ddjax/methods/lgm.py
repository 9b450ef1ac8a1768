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

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ddjax.data.problem import Problem, Split
from ddjax.kernels import linear_probe
from ddjax.methods import frozen_features, optimization
from ddjax.methods.base import Method, Remember, remember_nothing
from ddjax.methods.optimization import State
from ddjax.models.encoders.settings import EncoderSetting
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.targets import one_hot

__all__ = ["lgm"]


class RealData(NamedTuple):
    """What steps look at.

    Attributes:
      params: weights of the encoders.
      real: real features and labels, one an encoder; with `augment_real`, one split of
        the images themselves.
      hosted: the same, where they stay on the host: `HostRows`, in whose place a step
        finds a `Split` of its rows.
    """

    params: tuple[dict[str, Array], ...]
    real: tuple[Split, ...]
    hosted: tuple[Any, ...]


def lgm(
    *,
    encoder: EncoderSetting | Sequence[EncoderSetting],
    per_class: int = 1,
    augmentation: str | Mapping[str, Any] | None = "flip_crop_noise",
    copies: int = 10,
    augment_real: bool = True,
    siamese: bool = False,
    real_per_class: int = 10,
    head_std: float = 0.01,
    micro_batch: int | None = None,
    block: int = 64,
    features_directory: str | None = None,
    initialization: str = "own",
    parameterization: str | Mapping[str, Any] = "pyramid",
    optimizer: str = "adam",
    learning_rate: float = 2e-3,
    decay_steps: int | None = None,
    warmup_steps: int = 0,
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
      siamese: whether copy k of all distilled images, and every k-th real image, share
        one draw of the augmentation; otherwise each image has its own.
      real_per_class: a step sees this number times the number of classes of real
        images, whatever their classes.
      head_std: of the entries of W.
      micro_batch: images through an encoder at once; None for all. See
        `ddjax.methods.frozen_features.encoded`.
      block: real images at once while their features are computed.
      features_directory: see `ddjax.methods.frozen_features.real_features`.
      initialization: see `ddjax.methods.optimization.learner`.
      parameterization: likewise.
      optimizer: likewise.
      learning_rate: likewise.
      decay_steps: likewise.
      warmup_steps: likewise.

    Raises:
      ValueError: an unknown name, a number out of range, or settings that exclude each
        other.
      EncoderError: an encoder that cannot be loaded.
    """
    frozen_features.check_numbers(
        copies=copies,
        real_per_class=real_per_class,
        micro_batch=micro_batch,
        batch_size=None,
        block=block,
    )
    if not (math.isfinite(head_std) and head_std > 0):
        raise ValueError(f"head_std must be > 0, got {head_std}")
    view, recipe = frozen_features.augmenter(augmentation)
    if view is None:
        copies, augment_real = 1, False
    encoders = frozen_features.as_encoders(encoder)
    parts = optimization.learner(
        per_class=per_class,
        initialization=initialization,
        parameterization=parameterization,
        optimizer=optimizer,
        learning_rate=learning_rate,
        learn_targets=False,
        decay_steps=decay_steps,
        warmup_steps=warmup_steps,
    )

    def prepare(
        key: PRNGKeyArray, problem: Problem, remember: Remember = remember_nothing
    ) -> RealData:
        del key
        frozen_features.check_problem(problem)
        labels, batch_size = problem.train.targets, real_per_class * problem.classes
        if augment_real:
            seen = [problem.train.inputs]
        else:
            seen = [
                frozen_features.real_features(
                    each,
                    problem,
                    directory=features_directory,
                    block=block,
                    remember=remember,
                )
                for each in encoders
            ]
        real, hosted = frozen_features.rows_to_draw_from(
            seen, labels, batch_size=batch_size
        )
        return RealData(tuple(each.params for each in encoders), real, hosted)

    def init(key: PRNGKeyArray, problem: Problem, data: RealData) -> State:
        del data
        return parts.start(key, problem, lambda y: one_hot(y, problem.classes))

    def encode(each, params, images, keys) -> Array:
        return frozen_features.encoded(
            each.apply, params, images, keys=keys, view=view, micro_batch=micro_batch
        )

    def keys_for(key: PRNGKeyArray, distilled: int, real: int) -> tuple[Any, Any]:
        """Keys `(copies, distilled)` and `(1, real)` of the augmentation."""
        if view is None:
            return None, None
        if siamese:
            of_copies = jax.random.split(key, copies)
            return (
                jnp.broadcast_to(of_copies[:, None], (copies, distilled)),
                of_copies[jnp.arange(real) % copies][None],
            )
        own, other = jax.random.split(key)
        return (
            jax.random.split(own, (copies, distilled)),
            jax.random.split(other, (1, real)),
        )

    def step(state: State, batch: RealData, key: PRNGKeyArray):
        draw_key, head_key, view_key = jax.random.split(key, 3)
        m, classes = state.learned["targets"].shape
        # What is hosted has been drawn by the loop.
        real = batch.hosted or frozen_features.draw(
            draw_key, batch.real, real_per_class * classes
        )
        own_keys, real_keys = keys_for(view_key, m, real[0].inputs.shape[0])
        heads, wanted = [], []
        for index, each in enumerate(encoders):
            rows = real[0 if augment_real else index]
            features = jnp.asarray(rows.inputs)
            if augment_real:
                features = encode(each, batch.params[index], features, real_keys)
            one_key = jax.random.fold_in(head_key, index)
            weights = head_std * jax.random.normal(one_key, (each.width, classes))
            heads.append((weights, jnp.zeros(classes)))
            labels = optimization.class_labels(rows)
            wanted.append(
                linear_probe.cross_entropy_gradient(features, labels, *heads[-1])
            )

        def objective(learned: dict[str, Any]) -> Array:
            images = parts.inputs(learned)
            targets = jnp.tile(learned["targets"], (copies, 1))
            distances = [
                linear_probe.cosine_distance(
                    wanted[index],
                    linear_probe.cross_entropy_gradient(
                        encode(each, batch.params[index], images, own_keys),
                        targets,
                        *heads[index],
                    ),
                )
                for index, each in enumerate(encoders)
            ]
            return jnp.sum(jnp.stack(distances))

        value, gradients = jax.value_and_grad(objective)(state.learned)
        return parts.update(state, gradients), {"loss": value}

    def distilled(state: State, problem: Problem, data: RealData) -> DistilledSet:
        del data
        return optimization.distilled_set(
            state,
            problem,
            parts,
            targets_kind="probabilities",
            provenance={
                "encoders": frozen_features.sources(encoders),
                "augmentation": recipe,
            },
        )

    # Which rows a step sees follows from the number of classes, hence is drawn there.
    return Method(prepare, init, lambda key, data: data, step, distilled)
