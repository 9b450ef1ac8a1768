r"""DM: distribution matching, by the mean features of every class.

Every step draws a network :math:`\psi` at random and moves the samples so that in each
class c their mean feature is that of real samples, both seen through the same random
transform :math:`\omega_c`:

.. math::
    L = \sum_c \Big\lVert \frac{1}{|B_c|} \sum_{x \in B_c} \psi(\omega_c(x))
        - \frac{1}{|S_c|} \sum_{s \in S_c} \psi(\omega_c(s)) \Big\rVert^2 .

No network is trained, so that a step costs one pass through a network whatever the set
is to be trained on, and targets stay as they are.

Source: Zhao and Bilen, "Dataset Condensation with Distribution Matching" (WACV 2023),
equation 6 and section 4.1: 256 real samples of each class a step, SGD with rate 1 and
momentum 0.5 from real images, 20 000 steps, the transforms of DSA; judged by
`network_training.PROTOCOLS["dc_long"]` with `dsa`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax import checks
from ddjax.data import augment as augmentations
from ddjax.methods import class_samples, learned_set
from ddjax.methods.base import Method, Progress
from ddjax.methods.class_samples import ClassData
from ddjax.methods.descent import Descent
from ddjax.methods.learned_set import DescentState
from ddjax.models import networks
from ddjax.models.parts import mean_over
from ddjax.synthetic.decoders.base import Decoder

__all__ = ["DESCENT", "dm", "mean_feature_distance"]

DESCENT = Descent("sgd", 1.0, settings={"momentum": 0.5})
"""What DM's authors descend with."""


def mean_feature_distance(
    real: Float[Array, "c p"], samples: Float[Array, "n p"]
) -> Float[Array, ""]:
    """L of the module.

    Args:
      real: the mean real feature of each class.
      samples: features of the samples, ordered by class, as many of each.
    """
    means = class_samples.by_class(samples, real.shape[0]).mean(axis=1)
    return jnp.sum(jnp.square(real - means))


def dm(
    *,
    per_class: int = 1,
    architecture: str = "convnet",
    settings: Mapping[str, Any] | None = None,
    real_per_class: int = 256,
    augment: augmentations.PlainSetting | None = "dsa",
    initialization: str = "balanced",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    """Builds DM as a `Method`.

    Args:
      per_class: samples a class (IPC).
      architecture: of the random networks, a name in `ddjax.models.networks.NETWORKS`.
      settings: its own.
      real_per_class: real samples of each class a step; as many as the smallest class
        has, where that is fewer.
      augment: of real samples and distilled ones alike, drawn once for each class, see
        `ddjax.data.augment.make`; None for none (and for data that are no images).
      initialization: one of `ddjax.methods.class_samples.BALANCED`; or `decoder_noise`.
      decoder: see `ddjax.synthetic.decoders.from_setting`.
      descent: fields of `ddjax.methods.descent.Descent` that differ from `DESCENT`.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, a problem
        without classes.
    """
    given = dict(locals())
    checks.check_counts(real_per_class=real_per_class)
    class_samples.check_network(architecture, settings)
    transform = class_samples.augmenter(augment, shared=True)
    parts, init = class_samples.balanced_set(given, default=DESCENT)

    def step(
        state: DescentState, batch: ClassData, key: PRNGKeyArray, progress: Progress
    ):
        pairs, pull_back = jax.vjp(parts.pairs, state.learned)
        classes = pairs.targets.shape[1]
        network_key, key = jax.random.split(key)
        keys = jax.random.split(key, classes)
        network = networks.make_for(
            architecture, settings, outputs=classes, shape=pairs.inputs.shape[1:]
        )
        params, statistics = networks.started(network_key, network, pairs.inputs)
        embedding = network.clone(outputs=None)

        def features(images: Array) -> Array:
            seen = networks.outputs_in_training(embedding, params, statistics, images)
            return seen[0]

        real = class_samples.by_class(class_samples.drawn(batch.real)[0], classes)

        def mean_feature(key: PRNGKeyArray, images: Array) -> Array:
            shown = transform(key, images)
            return mean_over(
                lambda part: features(part).mean(axis=0), shown, whole=bool(statistics)
            )

        means = class_samples.each_class(mean_feature, keys, real)

        def objective(inputs: Array) -> Array:
            each = class_samples.by_class(inputs, classes)
            seen = class_samples.each_class(transform, keys, each)
            return mean_feature_distance(means, features(seen.reshape(inputs.shape)))

        value, slopes = jax.value_and_grad(objective)(pairs.inputs)
        (gradients,) = pull_back(
            pairs._replace(inputs=slopes, targets=jnp.zeros_like(pairs.targets))
        )
        return parts.update(state, gradients, progress), {"loss": value}

    return learned_set.gradient_method(
        "dm",
        given,
        parts,
        prepare=class_samples.prepare_classes(parts, per_class=real_per_class),
        init=init,
        step=step,
        distilled=class_samples.distilled_samples(parts, augment),
    )
