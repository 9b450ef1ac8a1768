"""What the site needs beside the pages.

Brings files from outside `docs/` into the site, under the links that GitHub shows. A
page says `../experiments/results/figures/digits.png`, which works where the repository
is read; MkDocs copies only what lies in `docs/`, so here the other files are added
under that very path and get a place in the site. A page that would fetch something from
elsewhere when it is read is refused.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("experiments/results/**/*.png", "colabs/*.ipynb")
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pictures, the notebooks and two pages of the repository."""
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            _add(files, config, path, path.relative_to(ROOT).as_posix())
    for name in PAGES:
        place = f"{Path(name).stem.lower()}/index.html"
        _add(files, config, ROOT / name, place)
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
    file = File.generated(config, uri, abs_src_path=str(path))
    file.dest_uri = place
    # A path that begins with a dot is left out by default.
    file.inclusion = InclusionLevel.INCLUDED
    files.append(file)
