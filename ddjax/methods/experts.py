r"""Experts: networks trained on the real data, and where they were after every epoch.

An expert is trained by SGD with momentum on the cross-entropy of augmented batches,

.. math:: v \leftarrow \mu v + \nabla_\theta \ell(\theta), \qquad
    \theta \leftarrow \theta - \eta v ,

and its trajectory :math:`\theta^*_0, \dots, \theta^*_E`, the start included, is kept:
`(E + 1, P)` numbers an expert, the parameters raveled leaf by leaf in the order of the
flax tree. They lie as `ddjax.storage.shards` has it, an expert a shard, in a `.npy`
file whose shards carry checksums: a build that is killed goes on after its last
finished expert, and a step reads the rows of one expert without the others. Safetensors
would have to be written in one piece.

Source: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories"
(CVPR 2022), section 3.2: 100 experts (200 in some experiments), 50 epochs of SGD at
rate 0.01 with the augmentation that is used for distilling.
"""

import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray
from numpy import ndarray

from ddjax import checks
from ddjax.data import augment as augmentations
from ddjax.data.feed import Batches, gather, on_device, rows_of_step
from ddjax.data.problem import Problem, Split, identity
from ddjax.kernels.blocks import map_in_blocks
from ddjax.methods import class_samples
from ddjax.methods.class_samples import Augment
from ddjax.models import networks
from ddjax.storage.cache import Arrays, Cache, no_cache
from ddjax.storage.shards import ShardedRows, filling, progress_bar, sharded_rows
from ddjax.synthetic.targets import one_hot

__all__ = [
    "ExpertTraining",
    "about",
    "expert_training",
    "network_for",
    "predictions",
    "trajectories",
    "unraveler",
]

_FORMAT = {"format": "ddjax.experts", "version": 1}
# Real samples on their way to the device at once, where they do not live there.
_BLOCK_BYTES = 256 * 2**20
# Real samples that an expert predicts at once.
_BLOCK_ROWS = 256


class ExpertTraining(NamedTuple):
    """How experts are made.

    Attributes:
      experts: how many, >= 1.
      epochs: E >= 1, over the real training data.
      learning_rate: eta > 0.
      momentum: mu in [0, 1).
      batch_size: real samples a step; all of them where there are fewer. What is left
        over at the end of an epoch is not seen in it.
      seed: of starts, draws and augmentations, >= 0. Apart from the run's seed, so that
        runs of several seeds share experts.
    """

    experts: int = 100
    epochs: int = 50
    learning_rate: float = 0.01
    momentum: float = 0.0
    batch_size: int = 256
    seed: int = 0


def expert_training(given: Mapping[str, Any] | ExpertTraining) -> ExpertTraining:
    """A description from a configuration's values over the defaults.

    Raises:
      ValueError: an unknown field, or a number out of range.
    """
    training = ExpertTraining(**checks.fields_of("experts", ExpertTraining, given))
    checks.check_counts(
        "experts.",
        experts=training.experts,
        epochs=training.epochs,
        batch_size=training.batch_size,
    )
    checks.check_positive("experts.", learning_rate=training.learning_rate)
    checks.check_momentum("experts.", training.momentum)
    checks.check_not_negative("experts.", seed=training.seed)
    return training


def network_for(
    architecture: str, settings: Mapping[str, Any] | None, problem: Problem
) -> nn.Module:
    """The network whose trajectories are kept.

    Raises:
      ValueError: one with running statistics of batches, which are no parameters and in
        no trajectory.
    """
    network = networks.make_for(
        architecture,
        settings,
        outputs=problem.classes,
        shape=tuple(problem.train.inputs.shape[1:]),
    )
    _, statistics = _shapes(network, problem.train.inputs)
    if statistics:
        raise ValueError(
            f"network {architecture!r} with {dict(settings or {})} keeps running "
            f"statistics ({', '.join(statistics)}), which trajectories do not hold; "
            "give one without, such as convnet with norm='instance'"
        )
    return network


def unraveler(
    network: nn.Module, inputs: Float[Array | ndarray, "n *shape"]
) -> Callable[[Float[Array, " p"]], Any]:
    """`(P,) -> params`, the way back from a row of a trajectory.

    Args:
      network: see `network_for`.
      inputs: of whose shape and dtype its inputs are.
    """
    params, _ = _shapes(network, inputs)
    _, unravel = ravel_pytree(
        jax.tree.map(lambda each: jnp.zeros(each.shape, each.dtype), params)
    )
    return unravel


def about(
    problem: Problem,
    training: ExpertTraining,
    *,
    architecture: str,
    settings: Mapping[str, Any] | None,
    augment: augmentations.PlainSetting | None,
) -> dict[str, Any]:
    """Everything that determines trajectories (JSON-able); see `trajectories`."""
    network = network_for(architecture, settings, problem)
    sizes = {
        field.name: getattr(network, field.name)
        for field in dataclasses.fields(network)
        if field.name not in ("parent", "name")
    }
    transform = None if augment is None else augmentations.make(augment)
    return {
        **_FORMAT,
        "problem": identity(problem),
        "network": {"name": architecture, **sizes},
        "training": training._asdict(),
        "augment": transform and {"name": transform.name, **transform.settings},
    }


def trajectories(
    problem: Problem,
    training: ExpertTraining,
    *,
    architecture: str,
    settings: Mapping[str, Any] | None = None,
    augment: augmentations.PlainSetting | None = None,
    directory: str | os.PathLike[str] | None = None,
    cache: Cache = no_cache,
) -> Float[Array | ndarray, "experts epochs p"]:
    """Parameters of experts after every epoch; trained where they are not kept yet.

    Args:
      problem: whose training split they are trained on.
      training: how.
      architecture: a name in `ddjax.models.networks.NETWORKS`.
      settings: its own.
      augment: of every batch, drawn for each image, see `ddjax.data.augment.make`.
      directory: where experts are kept, for all runs that name it; each kind has a
        folder of its own in it. Their size and the time that is left are shown on
        stderr. None leaves them to `cache`.
      cache: keeps them for the run, if they are not too large for it; the experts of a
        resumed run are else trained again.

    Returns:
      `(experts, epochs + 1, P)`, from a directory memory-mapped and read-only.

    Raises:
      ValueError: a network with running statistics, a problem without classes, or an
        expert that diverged.
      ddjax.storage.shards.NotEnoughSpace: they do not fit on the disk.
    """
    known = about(
        problem, training, architecture=architecture, settings=settings, augment=augment
    )
    network = network_for(architecture, settings, problem)
    transform = class_samples.augmenter(augment, shared=False)

    def build(directory: str | os.PathLike[str], verbose: bool) -> ndarray:
        return _built(
            directory, known, problem.train, training, network, transform, verbose
        )

    if directory is not None:
        return build(directory, True)

    def in_temporary_folder() -> Arrays:
        with tempfile.TemporaryDirectory() as folder:
            return {"trajectories": np.array(build(folder, False))}

    return cache("experts", known, in_temporary_folder)["trajectories"]


def predictions(
    problem: Problem,
    training: ExpertTraining,
    params: Float[Array | ndarray, " p"],
    *,
    architecture: str,
    settings: Mapping[str, Any] | None = None,
    augment: augmentations.PlainSetting | None = None,
    cache: Cache = no_cache,
) -> Float[Array | ndarray, "n c"]:
    """Probabilities that an expert gives the real training samples, as they are.

    Args:
      problem: whose training split is meant.
      training: how the expert was trained.
      params: the weights at the end of the first expert's trajectory. The cache knows
        them by the training only: weights of another expert or epoch need another
        cache, or none.
      architecture: see `trajectories`.
      settings: see there.
      augment: see there.
      cache: keeps them for the run.
    """
    known = about(
        problem, training, architecture=architecture, settings=settings, augment=augment
    )
    network = network_for(architecture, settings, problem)
    unravel = unraveler(network, problem.train.inputs)

    def probabilities(params: Array, inputs: Array) -> Array:
        outputs = network.apply({"params": unravel(params)}, inputs)
        return jax.nn.softmax(jnp.asarray(outputs))

    def compute() -> Arrays:
        given = (jnp.asarray(params),)
        rows = map_in_blocks(
            probabilities, problem.train.inputs, block=_BLOCK_ROWS, arguments=given
        )
        return {"probabilities": rows}

    return cache("expert_predictions", known, compute)["probabilities"]


class _ExpertState(NamedTuple):
    """An expert between two steps: weights and the velocity of its momentum."""

    params: Any
    velocity: Any


def _built(
    directory: str | os.PathLike[str],
    known: dict[str, Any],
    real: Split,
    training: ExpertTraining,
    network: nn.Module,
    transform: Augment,
    verbose: bool,
) -> ndarray:
    params, _ = _shapes(network, real.inputs)
    count = sum(math.prod(each.shape) for each in jax.tree.leaves(params))
    rows = sharded_rows(
        directory,
        known,
        shape=(training.experts, training.epochs + 1, count),
        dtype=np.dtype(real.inputs.dtype).name,
        shard_rows=1,
        file="trajectories.npy",
    )
    steps = _compiled_steps(network, training, transform)
    with (
        filling(rows) as pending,
        progress_bar(
            rows,
            pending,
            what="experts",
            unit="epochs",
            units_of_row=training.epochs,
            verbose=verbose,
        ) as bar,
    ):
        for expert in pending:
            values = _trajectory(rows, expert, real, training, network, steps, bar)
            rows.write(expert, values)
    return rows.open()


def _trajectory(
    rows: ShardedRows,
    expert: int,
    real: Split,
    training: ExpertTraining,
    network: nn.Module,
    steps: Callable[..., tuple[_ExpertState, Array]],
    bar: Any,
) -> Float[ndarray, "1 epochs p"]:
    key = jax.random.fold_in(jax.random.key(training.seed), expert)
    start_key, key = jax.random.split(key)
    example = jnp.asarray(real.inputs[:1])
    params, _ = networks.started(start_key, network, example)
    state = _ExpertState(params, jax.tree.map(jnp.zeros_like, params))
    values = np.empty((1, *rows.shape[1:]), rows.dtype)
    values[0, 0] = ravel_pytree(state.params)[0]
    # Rows are drawn by a number, and each expert has its own.
    seed = int(np.random.SeedSequence((training.seed, expert)).generate_state(1)[0])
    for epoch in range(training.epochs):
        state, loss = _epoch(
            jax.random.fold_in(key, epoch), state, real, training, steps, seed, epoch
        )
        values[0, epoch + 1] = ravel_pytree(state.params)[0]
        if not (np.isfinite(loss) and np.isfinite(values[0, epoch + 1]).all()):
            raise ValueError(
                f"expert {expert} diverged in epoch {epoch + 1}; "
                f"experts.learning_rate is {training.learning_rate}: lower it"
            )
        bar.set_postfix(expert=expert, loss=f"{loss:.3f}", refresh=False)
        bar.update(1)
    return values


def _epoch(
    key: PRNGKeyArray,
    state: _ExpertState,
    real: Split,
    training: ExpertTraining,
    steps: Callable[..., tuple[_ExpertState, Array]],
    seed: int,
    epoch: int,
) -> tuple[_ExpertState, float]:
    """An expert after one more epoch, and the mean loss of its batches."""
    count = len(real.inputs)
    batches = Batches(real, min(training.batch_size, count))
    number = count // batches.batch_size
    places = np.stack(
        [
            rows_of_step(batches, seed=seed, step=epoch * number + each)
            for each in range(number)
        ]
    )
    keys = jax.random.split(key, number)
    if on_device(real):
        state, losses = steps(state, keys, real, jnp.asarray(places, jnp.int32))
        return state, float(losses.mean())
    row_bytes = math.prod(real.inputs.shape[1:]) * real.inputs.dtype.itemsize
    block = max(1, _BLOCK_BYTES // (row_bytes * batches.batch_size))
    found = []
    for start in range(0, number, block):
        part = places[start : start + block]
        rows = jnp.arange(part.size, dtype=jnp.int32).reshape(part.shape)
        taken = gather(real, part.reshape(-1))
        state, losses = steps(state, keys[start : start + block], taken, rows)
        found.append(np.asarray(losses))
    return state, float(np.concatenate(found).mean())


def _compiled_steps(
    network: nn.Module, training: ExpertTraining, transform: Augment
) -> Callable[..., tuple[_ExpertState, Array]]:
    """The compiled `(state, keys, real, rows (steps, b)) -> state, losses (steps,)`."""

    @jax.jit
    def steps(
        state: _ExpertState,
        keys: Key[Array, " s"],
        real: Split,
        rows: Int[Array, "s b"],
    ):
        def step(
            state: _ExpertState, given: tuple[Array, Array]
        ) -> tuple[_ExpertState, Array]:
            key, places = given
            inputs = jnp.asarray(real.inputs)[places]
            inputs = transform(key, inputs)
            labels = jnp.asarray(real.labels)[places]
            targets = one_hot(labels, network.outputs)

            def loss(params: Any) -> Array:
                return class_samples.trained_on(
                    network, params, {}, inputs, targets.astype(inputs.dtype)
                )[0]

            value, slopes = jax.value_and_grad(loss)(state.params)
            velocity = jax.tree.map(
                lambda v, g: training.momentum * v + g, state.velocity, slopes
            )
            params = jax.tree.map(
                lambda p, v: p - training.learning_rate * v, state.params, velocity
            )
            return _ExpertState(params, velocity), value

        return jax.lax.scan(step, state, (keys, rows))

    return steps


def _shapes(network: nn.Module, inputs: Any) -> tuple[Any, dict[str, Any]]:
    """Shapes of a network's parameters, and of its running statistics."""
    example = jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)
    return jax.eval_shape(
        lambda images: networks.started(jax.random.key(0), network, images),
        example,
    )
