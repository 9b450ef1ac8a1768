"""`ddjax export`: a distilled set for other programs."""

from argparse import Namespace

from ddjax import synthetic
from ddjax.command.artefact import opened
from ddjax.command.ending import users_mistakes
from ddjax.storage.writing import writing

__all__ = ["run"]

_WRITERS = {
    "npz": synthetic.to_npz,
    "torch": synthetic.to_torch_safetensors,
    "csv": synthetic.to_csv,
    "png": synthetic.to_png,
}


def run(arguments: Namespace) -> None:
    """Writes the files that are asked for.

    Raises:
      ConfigError: no file is asked for, the set cannot be read, or a file not written.
    """
    with users_mistakes():
        wanted = {kind: file for kind in _WRITERS if (file := getattr(arguments, kind))}
        if not wanted:
            flags = ", ".join(f"--{kind}" for kind in _WRITERS)
            raise ValueError(f"nothing to write: give FILE to one or more of {flags}")
        distilled = opened(arguments.folder)
        for kind, file in wanted.items():
            with writing(file):
                print(f"wrote {_WRITERS[kind](file, distilled)}", flush=True)
