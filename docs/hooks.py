"""What the site needs beside the pages.

Brings files from outside `docs/` into the site, under the links that GitHub shows. A
page says `../experiments/results/figures/digits.png`, which works where the repository
is read; MkDocs copies only what lies in `docs/`, so here the other files are added
under that very path and get a place in the site. Notebooks become pages. A page that
would fetch something from elsewhere when it is read is refused.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from notebook_pages import as_markdown

ROOT = Path(__file__).resolve().parents[1]
SHOWN = "experiments/results/**/*.png"
NOTEBOOKS = "colabs/*.ipynb"
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")


class NotebookFile(File):
    """A notebook, which MkDocs takes for a page in Markdown."""

    def is_documentation_page(self) -> bool:
        """See `File`, which goes by the ending of the name."""
        return True


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pictures, two pages and the notebooks of the repository."""
    for path in sorted(ROOT.glob(SHOWN)):
        _add(files, config, path, path.relative_to(ROOT).as_posix())
    for name in PAGES:
        place = f"{Path(name).stem.lower()}/index.html"
        _add(files, config, ROOT / name, place)
    for path in sorted(ROOT.glob(NOTEBOOKS)):
        _add_notebook(files, config, path)
    return files


def on_post_page(output: str, **kwargs: object) -> str:
    """Refuses scripts, styles and pictures from other places."""
    fetched = re.findall(
        r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?https?:[^>]*>", output
    )
    if fetched:
        raise PluginError(f"{kwargs['page']} fetches from elsewhere: {fetched[0]}")
    return output


def _add(files: Files, config: MkDocsConfig, path: Path, place: str) -> None:
    uri = f"../{path.relative_to(ROOT).as_posix()}"
    _place(files, File.generated(config, uri, abs_src_path=str(path)), place)


def _add_notebook(files: Files, config: MkDocsConfig, path: Path) -> None:
    """Adds a page of what the notebook shows, with a link to the file itself."""
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8")
    link = f'<a href="../{path.name}" download>Download this notebook</a>\n'
    page = NotebookFile.generated(
        config, f"../{name}", content=f"{as_markdown(text)}\n{link}"
    )
    _place(files, page, f"{name.removesuffix('.ipynb')}/index.html")
    _place(files, File.generated(config, name, abs_src_path=str(path)), name)


def _place(files: Files, file: File, place: str) -> None:
    file.dest_uri = place
    # A path that begins with a dot is left out by default.
    file.inclusion = InclusionLevel.INCLUDED
    files.append(file)
