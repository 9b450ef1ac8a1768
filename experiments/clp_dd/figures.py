"""Pictures of what was distilled for frozen encoders, from the sets that `table` left.

    python -m experiments.clp_dd.figures [--datasets=imagenette] [--rows=lgm,clp]

One PNG a data set and encoder under `experiments/results/figures/`: a strip of images
for each row of the table, one image a class, at most 20 classes. Seconds.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from numpy import ndarray

from ddjax import synthetic
from ddjax.command.ending import ConfigError
from experiments import commands, records
from experiments.clp_dd import common
from experiments.clp_dd.tables import ROWS

__all__ = ["strips"]

_LARGEST = 20

_DATASETS, _ENCODERS = common.define_datasets_and_encoders()
_ROWS = commands.define_choices(
    "rows",
    ("lgm", "clp_squared", "clp"),
    "Rows of the table.",
    choices=common.CONTENDERS,
)
_SETS = flags.DEFINE_string("sets", "runs/clp_dd", "Folder of the distilled sets.")
_NAME = flags.DEFINE_string("name", "clp_dd/table", "Folder of the records.")


def strips(images: dict[str, ndarray], names: Sequence[str]) -> ndarray:
    """A figure with one titled strip a row, as RGB pixels.

    Args:
      images: title -> `(m, h, w, 3)` in [0, 1], the same number everywhere.
      names: of the columns.
    """
    import matplotlib.pyplot as plt

    count = len(names)
    figure, axes = plt.subplots(
        len(images),
        count,
        figsize=(count, 1.25 * len(images) + 0.1),
        squeeze=False,
        dpi=110,
        layout="constrained",
    )
    for line, (title, row) in zip(axes, images.items(), strict=True):
        for axis, image in zip(line, row, strict=True):
            axis.imshow(np.clip(image, 0, 1))
            axis.axis("off")
        line[0].set_title(title, fontsize=8, loc="left")
    for axis, name in zip(axes[-1], names, strict=True):
        axis.text(
            0.5,
            -0.05,
            textwrap.fill(name.replace("_", " "), 14),
            fontsize=6,
            ha="center",
            va="top",
            transform=axis.transAxes,
        )
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # type: ignore
    plt.close(figure)
    return pixels


def main() -> None:
    """Draws what is there."""
    import matplotlib
    from PIL import Image

    matplotlib.use("agg")
    prefix, drawn = _NAME.value.replace("/", "_"), 0
    for dataset in _DATASETS.value:
        for encoder in _ENCODERS.value:
            images, names = {}, ()
            for row in _ROWS.value:
                stem = f"{prefix}_{dataset}_{encoder}_{row}_ipc1_seed0"
                if not (Path(_SETS.value) / stem).exists():
                    continue
                found = synthetic.load(Path(_SETS.value) / stem)
                names = (found.class_names or ())[:_LARGEST]
                shown = np.asarray(synthetic.natural_inputs(found))[: len(names)]
                images[ROWS[row]] = shown
            if images:
                path = Path(records.RESULTS) / f"figures/clp_{dataset}_{encoder}.png"
                picture = Image.fromarray(strips(images, names))
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path, optimize=True)
                print(f"wrote {path}")
                drawn += 1
    if not drawn:
        raise ConfigError(
            f"no sets of {', '.join(_ROWS.value)} in {_SETS.value} (with one image a "
            "class and seed 0): python -m experiments.clp_dd.table leaves them there"
        )


if __name__ == "__main__":
    commands.run(main)
