r"""KRR-ST boosted: shared bases, predefined views, and networks that predict shifts.

What is stored are bases, coefficients and approximation networks
(`ddjax.synthetic.decoders.bases`), together no more numbers than N images. During the
run the targets of the views have coefficients of their own,

.. math::
    C_a^y = (g_\phi(\tau_a(X_s)) - \bar y) B^{y\top} \quad \text{at the start},

and at its end small networks take their place. Each part can be switched off: no views,
hence no networks, is "+ Parameterization" of the paper's Table 3, and `krr_st` its
first row. The outer problem is in `ddjax.methods.representation_regression`.

Source: Yu, Yao and Chiu, "Boost Self-Supervised Dataset Distillation via
Parameterization, Predefined Augmentation, and Approximation" (ICLR 2025), Algorithm 1.
Settings there for 32 x 32 pixels: U = V = 2N up to N = 100, s = 2, rotations, networks
of width 4, AdamW 1e-3 falling linearly to zero over 30 000 steps.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ddjax import checks
from ddjax.data.problem import Problem
from ddjax.data.views import with_views
from ddjax.methods import learned_set, representation_regression
from ddjax.methods.base import Method
from ddjax.methods.descent import Descent
from ddjax.methods.representation_regression import DESCENT, POOL
from ddjax.methods.student_pool import StudentTraining
from ddjax.methods.teacher import representations
from ddjax.models.encoders.base import Encoder
from ddjax.models.encoders.settings import EncoderSetting
from ddjax.synthetic.decoders import bases as with_bases
from ddjax.synthetic.decoders.base import Decoder, Fitted, Pairs, Stored
from ddjax.synthetic.decoders.bases import approximate, floats_of
from ddjax.synthetic.initialization import select_rows

__all__ = ["samples_within", "ssl_dd"]

INITIALIZATIONS = ("uniform", learned_set.DECODER_NOISE)
"""Coefficients by projection of random real images, or drawn from N(0, 1)."""


def samples_within(images: int, **sizes: Any) -> int:
    """The most samples m whose numbers are no more than those of N images.

    Args:
      images: N.
      **sizes: of `ddjax.synthetic.decoders.bases.floats_of`, all but `samples`.

    Raises:
      ValueError: a budget that the bases alone exceed, with what they need.
    """
    height, width, channels = sizes["image_shape"]
    budget = images * height * width * channels
    fixed = floats_of(0, **sizes)
    each = floats_of(1, **sizes) - fixed
    if fixed + each > budget:
        raise ValueError(
            f"a budget of {images} images is {budget} numbers, but "
            f"{sizes['image_bases']} image bases and {sizes['target_bases']} target "
            f"bases with one sample are {fixed + each}; take fewer bases"
        )
    return (budget - fixed) // each


def ssl_dd(
    *,
    images: int = 100,
    count: int | None = None,
    image_bases: int = 200,
    target_bases: int = 200,
    downscale: int = 2,
    views: str = "rotation",
    shift: str = "network",
    hidden: int = 4,
    basis_start: str = "principal_components",
    initialization: str = "uniform",
    approximation_steps: int = 2000,
    teacher: EncoderSetting | None = None,
    teacher_size: int | None = None,
    representations_directory: str | None = None,
    pool: Mapping[str, Any] | StudentTraining = POOL,
    ridge: float = 1e-6,
    batch_size: int = 1024,
    descent: Mapping[str, Any] | Descent = DESCENT,
) -> Method:
    """Builds the boosted method as a `Method`.

    Args:
      images: N >= 1, the storage budget in images.
      count: samples m; None takes as many as the budget allows (`samples_within`), at
        most one for each real image; a number is taken whatever the budget.
      image_bases: U, see `ddjax.synthetic.decoders.bases.bases`, as the next four.
      target_bases: V.
      downscale: s.
      views: one of `ddjax.data.views.VIEWS`; all but `none` need a teacher.
      shift: what takes the place of the views' coefficients at the end, one of
        `ddjax.synthetic.decoders.bases.SHIFTS`. `stored` is counted too.
      hidden: units of an approximation network.
      basis_start: one of `ddjax.synthetic.decoders.bases.STARTS`.
      initialization: `uniform` (coefficients by projection of random real images) or
        `decoder_noise` (drawn from N(0, 1)); the former for principal components only.
      approximation_steps: of the networks' training, >= 1.
      teacher: see `ddjax.methods.krr_st.krr_st`, as the rest.
      teacher_size: height and width for the teacher.
      representations_directory: of a cache on disk that runs share.
      pool: the students.
      ridge: lambda over the trace of the Gram.
      batch_size: real images a step.
      descent: see `krr_st`; the group `targets` are the target bases and coefficients.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, a budget
        that the bases exceed, or what `krr_st` refuses.
      EncoderError: a teacher that cannot be made.
    """
    given = dict(locals())
    checks.check_counts(
        images=images, count=count, approximation_steps=approximation_steps
    )
    checks.check_names(initialization=(initialization, INITIALIZATIONS))
    if initialization == "uniform" and basis_start != "principal_components":
        raise ValueError(
            f"basis_start={basis_start!r} has no orthonormal bases to project real "
            "images on; give initialization='decoder_noise'"
        )
    if views != "none" and teacher is None:
        raise ValueError(
            f"views={views!r} needs a teacher, whose representations of the views "
            "their targets start from"
        )
    sizes: dict[str, Any] = {
        "image_bases": image_bases,
        "target_bases": target_bases,
        "downscale": downscale,
        "views": views,
        "hidden": hidden,
    }
    decoder = with_bases(**sizes, shift="stored", start=basis_start)
    with_bases(**sizes, shift=shift)
    parts = learned_set.learned_set(
        decoder=decoder,
        descent=descent,
        default=DESCENT,
        learn_targets=True,
        with_views=True,
    )

    def start(
        key: PRNGKeyArray, problem: Problem, teacher: Encoder | None, fitted: Fitted
    ) -> Stored:
        shape = problem.train.inputs.shape[1:]
        targets = problem.train.targets
        assert targets is not None  # of the teacher, or the problem's own
        samples = count
        if samples is None:
            allowed = samples_within(
                images,
                image_shape=shape,
                target_width=targets.shape[1],
                shift=shift if views != "none" else "same",
                **sizes,
            )
            samples = min(allowed, len(problem.train.inputs))
        real, known = select_rows(key, problem, count=samples, how="uniform")
        everything = with_views(real, views)
        if initialization == learned_set.DECODER_NOISE:
            assert decoder.noise is not None
            return decoder.noise(key, everything.shape, jnp.asarray(known), fitted)
        wanted = [np.asarray(known)]
        if views != "none":
            assert teacher is not None
            wanted.append(representations(problem, teacher, everything[samples:]))
        dtype = jnp.result_type(float)
        joined = jnp.asarray(np.concatenate(wanted), dtype)
        return decoder.init(Pairs(everything, joined), fitted)

    def finished(
        key: PRNGKeyArray, decoder: Decoder, stored: Stored
    ) -> tuple[Decoder, Stored]:
        if views == "none" or shift == "stored":
            return decoder, stored
        made, kept, _ = approximate(
            key, decoder, stored, shift=shift, steps=approximation_steps
        )
        return made, kept

    return representation_regression.build(
        "ssl_dd",
        given,
        parts,
        start=start,
        finished=finished,
    )
