"""The notebooks under colabs/: runs them, saves what they show, writes shared cells.

    colabs.py            executes each in its smoke mode; changes no file
    colabs.py --save     executes each in its full mode and saves it with its outputs
    colabs.py --write    writes the cells that all notebooks share; executes nothing

Names of notebooks behind it (`colabs.py --save dgkip`) mean these alone. The shared
cells follow the title: one says where the outputs are from and how to run on Colab, one
installs. Both are made from the `url` in setup.cfg (none yet: then there is no badge,
and what is installed is a checkout or a wheel), the version, and the locked versions.
"""

import argparse
import configparser
import datetime
import hashlib
import json
import os
import platform
import re
import sys
import tempfile
import textwrap
import time
from importlib import metadata
from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "colabs"
LOCK = ROOT / ".ci" / "constraints-py312.txt"
"""The locked versions of Python 3.12 and newer; Colab has 3.13."""

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
OPEN = "https://colab.research.google.com/github"


def project_url() -> str | None:
    """Where the repository is public: `url` in setup.cfg, None if there is none."""
    url = _setup()["metadata"].get("url")
    return None if url is None else url.rstrip("/")


def version() -> str:
    """Of ddjax, read from the checkout."""
    text = (ROOT / "ddjax" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found is not None
    return found[1]


def pins() -> list[str]:
    """What ddjax needs, each in its locked version: `name==version`."""
    needed = _setup()["options"]["install_requires"].split()
    locked = dict(
        line.split("==")
        for line in LOCK.read_text(encoding="utf-8").split()
        if "==" in line
    )
    by_name = {_plain(name): version for name, version in locked.items()}
    names = [re.split("[<>=~!]", requirement)[0] for requirement in needed]
    return [f"{name}=={by_name[_plain(name)]}" for name in names]


def source(url: str | None) -> tuple[str, str]:
    """What pip installs, and a comment on it."""
    if url is None:
        wheel = f'"ddjax-{version()}-py3-none-any.whl"'
        return ".", f"A checkout; or a wheel in the session's files: {wheel}."
    return f"git+{url}@v{version()}", "The release; a checkout or a wheel will do too."


def badge(url: str | None, name: str) -> str:
    """The badge that opens a notebook on Colab, empty without a GitHub address."""
    if url is None or not url.startswith("https://github.com/"):
        return ""
    place = url.removeprefix("https://github.com/")
    link = f"{OPEN}/{place}/blob/v{version()}/colabs/{name}.ipynb"
    return f"[![Open in Colab]({BADGE})]({link})\n\n"


def install_code(url: str | None) -> str:
    """The cell that installs ddjax where it is missing."""
    what, comment = source(url)
    lines = textwrap.wrap(" ".join(pins()), 76, break_on_hyphens=False)
    versions = " \\\n        ".join(lines)
    return (
        f"import importlib.util\n\n# {comment}\n"
        f'DDJAX = "{what}"\n'
        'if importlib.util.find_spec("ddjax") is None:\n'
        f"    %pip install -q {{DDJAX}} \\\n        {versions}"
    )


def about_text(url: str | None, name: str, saved: dict | None) -> str:
    """The cell that says where the outputs are from, and how to run on Colab.

    `saved` is what the notebook's metadata has under `saved_outputs`.
    """
    if saved is None:
        outputs = "There are no saved outputs."
    else:
        outputs = (
            f"The outputs are of the {saved['mode']} mode, run on {saved['date']} with "
            f"Python {saved['python']} and jax {saved['jax']} in "
            f"{_duration(saved['seconds'])} on {saved['cores']} cores"
            f"{', with the data of DDJAX_DATA_DIR' if saved['data'] else ''}. "
            "`DDJAX_SMOKE=1` in the environment shortens everything to seconds."
        )
    if url is None:
        wheel = (
            "Put a wheel of ddjax (`pip wheel --no-deps .` in a checkout makes it) "
            "into the session's files and its name into the next cell. It"
        )
    else:
        wheel = "The next cell"
    colab = (
        f"**On Colab.** {wheel} installs ddjax, and what it needs in the versions that "
        "the project locks. If Colab then asks to restart the session, do so and go on "
        "with the cell after it. A CPU runtime is enough."
    )
    paragraphs = [textwrap.fill(each, 88) for each in (outputs, colab)]
    return badge(url, name) + "\n\n".join(paragraphs)


def code_digest(notebook: nbformat.NotebookNode) -> str:
    """A sha256 over the code that outputs come from: all but the installing cell."""
    code = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.id != "install"
    ]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def with_shared_cells(
    notebook: nbformat.NotebookNode, name: str, url: str | None
) -> nbformat.NotebookNode:
    """The notebook with its shared cells as they should be, after the title."""
    notebook = nbformat.from_dict(notebook)
    old = {cell.id: cell for cell in notebook.cells}
    saved = notebook.metadata.get("saved_outputs")
    about = nbformat.v4.new_markdown_cell(about_text(url, name, saved), id="about")
    install = nbformat.v4.new_code_cell(install_code(url), id="install")
    if "install" in old:
        install.execution_count = old["install"].execution_count
    title, *others = (c for c in notebook.cells if c.id not in ("about", "install"))
    notebook.cells = [title, about, install, *others]
    return notebook


def execute(notebook: nbformat.NotebookNode, *, smoke: bool) -> float:
    """Executes a notebook in place, in the checkout's root; gives the seconds."""
    os.environ.pop("DDJAX_SMOKE", None)
    if smoke:
        os.environ["DDJAX_SMOKE"] = "1"
        # It compiles more than it computes.
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    start = time.perf_counter()
    nbclient.NotebookClient(
        notebook,
        timeout=600 if smoke else 3600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(ROOT)}},
    ).execute()
    return time.perf_counter() - start


def drop_progress_bars(notebook: nbformat.NotebookNode) -> None:
    """Removes what tqdm wrote, in place."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                lines = re.split(r"[\r\n]+", output.text)
                output.text = "\n".join(line for line in lines if "%|" not in line)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("text", "...").strip()]


def check_outputs(notebook: nbformat.NotebookNode) -> None:
    """Refuses outputs with warnings or with places on this machine.

    Raises:
      ValueError: something on stderr, or a path in an output.
    """
    places = {ROOT, Path.home(), Path(tempfile.gettempdir()), Path(sys.prefix)}
    places |= {Path(os.environ[v]) for v in ("DDJAX_DATA_DIR",) if v in os.environ}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise ValueError(f"cell {cell.id} warns: {output.text.strip()}")
            found = [p for p in map(str, places) if f"{p}/" in json.dumps(output)]
            if found:
                raise ValueError(f"an output of cell {cell.id} names {found[0]}")


def main() -> None:
    """Does what the command line says."""
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--save", action="store_true")
    what.add_argument("--write", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    given = parser.parse_args()
    for name in given.names:
        if name not in known:
            parser.error(f"no notebook {name!r}; there are: {', '.join(known)}")
    url = project_url()
    for name, path in known.items():
        if given.names and name not in given.names:
            continue
        notebook = nbformat.read(path, as_version=4)
        kept = nbformat.from_dict(notebook.metadata)
        if given.save or given.write:
            notebook = with_shared_cells(notebook, name, url)
        if not given.write:
            try:
                seconds = execute(notebook, smoke=not given.save)
            except nbclient.exceptions.CellExecutionError as error:
                sys.exit(f"colabs/{name}.ipynb failed:\n{error}")
            print(f"colabs/{name}.ipynb: {seconds:.0f} s", flush=True)
        if given.save:
            drop_progress_bars(notebook)
            check_outputs(notebook)
            kept["saved_outputs"] = {
                "mode": "full",
                "code_sha256": code_digest(notebook),
                "date": datetime.date.today().isoformat(),
                "seconds": round(seconds),
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "jax": metadata.version("jax"),
                "data": "DDJAX_DATA_DIR" in os.environ,
            }
        if given.save or given.write:
            notebook.metadata = kept
            notebook = with_shared_cells(notebook, name, url)
            nbformat.validate(notebook)
            nbformat.write(notebook, path)


def _setup() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _duration(seconds: int) -> str:
    minutes = round(seconds / 60)
    return f"{seconds} s" if minutes < 2 else f"{minutes} minutes"


if __name__ == "__main__":
    main()
