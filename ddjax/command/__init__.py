"""The console command `ddjax`: what an installed library does without a checkout.

Each sub-command is a module of this package with a function `run(arguments)`, imported
when it is asked for: `ddjax --help` answers at once.
"""

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import ddjax

__all__ = ["main"]

_ENDS = """\
exit status: 0 done; 1 the loss became NaN or infinite; 2 a mistake in the command, the
settings, the data or the set; 3 the disk is full or read-only; 4 the memory does not
suffice; 70 a fault of the program; 130 and 143 stopped by Ctrl-C or SIGTERM.
"""
_SETTINGS = """\
KEY=VALUE: the value is JSON, or the text as it stands; a dotted key sets a keyword in a
mapping: --set descent.learning_rate=0.1 loss=softmax features.networks=4
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; {self.prog} --help shows what there is\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the arguments say.

    Args:
      argv: the words after `ddjax`; None takes those of the process.

    Returns:
      0, when it is done.

    Raises:
      SystemExit: every other end, with the status that `ddjax --help` names.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser().parse_args(words)
    arguments.words = words
    try:
        compilation = importlib.import_module("ddjax.command.compilation")
        ending = importlib.import_module("ddjax.command.ending")
        memory = importlib.import_module("ddjax.runtime.memory")
        asked_for = importlib.import_module(f"ddjax.command.{arguments.module}")
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)
    compilation.keep_compiled_programs()
    kept = ". What was saved is kept: with room to write, the same command goes on"
    with warnings.catch_warnings():
        warnings.showwarning = ending.warn
        with (
            ending.faults(),
            ending.expected_ends(when_full=kept),
            memory.enough_memory(),
        ):
            try:
                asked_for.run(arguments)
                sys.stdout.flush()
            except BrokenPipeError:
                # Whoever read this has seen enough.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> _Parser:
    parser = _Parser(
        prog="ddjax",
        description="Dataset distillation by closed form.",
        epilog=_ENDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=ddjax.__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, module: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=_SETTINGS if name in ("distil", "evaluate", "inspect") else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(module=module)
        return made

    _add_distil(command("distil", "distil", "distils a data set into a folder"))
    _add_evaluate(
        command("evaluate", "evaluate", "measures what a distilled set is worth")
    )
    _add_inspect(
        command("inspect", "card", "says what a distilled set is, and verifies it")
    )
    _add_compare(command("compare", "compare", "puts finished runs beside each other"))
    _add_export(
        command("export", "export", "writes a distilled set for other programs")
    )
    command("doctor", "doctor", "says what is installed and what may go wrong")
    return parser


def _add_distil(parser: argparse.ArgumentParser) -> None:
    described = parser.add_mutually_exclusive_group()
    described.add_argument(
        "--config",
        metavar="FILE",
        help="JSON or TOML with any of steps, seed, data, method, train, evaluate; "
        "flags stand in place of what it says",
    )
    described.add_argument(
        "--preset", metavar="NAME", help="a configuration that comes with ddjax"
    )
    described.add_argument(
        "--list", action="store_true", help="say which presets there are, and end"
    )
    _add_data(parser, required=False)
    parser.add_argument("--method", metavar="NAME", help="how to distil")
    _add_settings(parser, "--set", "keywords of the method")
    parser.add_argument("--steps", metavar="N", type=int)
    parser.add_argument("--seed", metavar="S", type=int, help="default: 0")
    parser.add_argument(
        "--seeds",
        metavar="S,S,...",
        help="a run for each, in DIR/seed_S, and their table",
    )
    parser.add_argument(
        "--workdir",
        metavar="DIR",
        help="folder of the run: new, empty, or the one to go on in; the set is in "
        "DIR/distilled",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="prepare and compile, say what memory a step needs, write nothing",
    )
    parser.add_argument(
        "--evaluate",
        metavar="NAME[:KEY=VALUE,...]",
        action="append",
        default=[],
        help="what to measure, on the validation split along the way and on the test "
        "split at the end; may be given several times",
    )
    _add_settings(parser, "--train", "keywords of ddjax.runtime.train")
    parser.add_argument(
        "--profile",
        metavar="STEPS",
        type=int,
        help="trace so many steps into DIR/profile, for TensorBoard and Perfetto",
    )


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    _add_folder(parser)
    _add_data(parser, required=True)
    parser.add_argument(
        "--evaluation", metavar="NAME", required=True, help="what to measure"
    )
    _add_settings(parser, "--set", "keywords of the evaluation")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="default: 0")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    _add_folder(parser)
    _add_data(parser, required=False)
    _add_settings(
        parser, "--set", "keywords of the certificate; default: those of the run"
    )


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        metavar="RUN_OR_SET",
        nargs="+",
        help="the folder of a run, a distilled set, or a folder of such",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument("--csv", metavar="FILE", help="write a line for each scalar")
    parser.add_argument(
        "--html", metavar="FILE", help="write one page, with pictures of the images"
    )


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_folder(parser)
    for flag, text in (
        ("--npz", "a NumPy archive"),
        ("--torch", "a safetensors file laid out for PyTorch"),
        ("--csv", "a table in natural units, of a regression set"),
        ("--png", "a picture of the samples, where they are images"),
    ):
        parser.add_argument(flag, metavar="FILE", help=text)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="FOLDER", help="a distilled set, or the folder of its run"
    )


def _add_data(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--data",
        metavar="NAME",
        required=required,
        help="real data: digits, mnist, folder:NAME, npz:FILE, table:FILE ...",
    )
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help="where they are; default: the environment's DDJAX_DATA_DIR, then "
        "./local_data",
    )
    _add_settings(parser, "--load", "keywords of ddjax.data.load")


def _add_settings(parser: argparse.ArgumentParser, flag: str, text: str) -> None:
    parser.add_argument(
        flag,
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help=text,
    )
