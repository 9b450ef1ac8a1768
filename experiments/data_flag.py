"""`--data_dir`: where data lie, the same flag of every command."""

import os

from absl import flags

__all__ = ["data_dir", "define_data_dir"]

# The flag belongs to the command that asks for it, and so stands in its --help.
flags.disclaim_key_flags()


def define_data_dir() -> None:
    """Defines `--data_dir` for the calling module, once, whoever else defines it."""
    if "data_dir" not in flags.FLAGS:
        flags.DEFINE_string(
            "data_dir",
            None,
            "Folder of the data: a folder for each data set, encoders/ for weights. "
            "Default: the environment's DDJAX_DATA_DIR, then ./local_data.",
        )
    flags.declare_key_flag("data_dir")


def data_dir() -> str | None:
    """`--data_dir`, or the environment's DDJAX_DATA_DIR, or None.

    None is what the keyword `directory` of `ddjax.data.load` and of
    `ddjax.models.encoders.load` takes for `./local_data`.
    """
    return flags.FLAGS.data_dir or os.environ.get("DDJAX_DATA_DIR") or None
