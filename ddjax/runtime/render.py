"""A document of a few kinds of blocks, as Markdown and as one HTML file."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Block",
    "Cards",
    "Code",
    "Heading",
    "Picture",
    "Pictures",
    "Table",
    "Text",
    "to_html",
    "to_markdown",
]


class Heading(NamedTuple):
    """A section begins."""

    text: str


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Cards(NamedTuple):
    """Headline figures: (value, what it is)."""

    cards: list[tuple[str, str]]


class Table(NamedTuple):
    """A table; a header of empty strings marks a list of facts.

    A row of which only the first cell says something heads those below it.

    Attributes:
      header: one text a column.
      rows: cells.
      words: how many columns, from the left, hold words; the others hold numbers.
    """

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    words: int = 1


class Picture(NamedTuple):
    """A PNG file."""

    path: Path
    description: str


class Pictures(NamedTuple):
    """Pictures side by side, where there is room, each with its description."""

    pictures: list[Picture]


class Code(NamedTuple):
    """A listing, folded behind a summary if one is given."""

    text: str
    language: str
    folded: str | None = None


Block = Heading | Text | Cards | Table | Picture | Pictures | Code


def to_markdown(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """The document as Markdown; pictures are linked relative to `folder`."""
    parts = [f"# {_plain(title)}", *(_markdown(block, folder) for block in blocks)]
    return "\n\n".join(parts) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The document as one HTML file that holds its pictures and styles."""
    import jinja2

    pages = jinja2.Environment(
        autoescape=True,
        loader=jinja2.PackageLoader("ddjax.runtime"),
        undefined=jinja2.StrictUndefined,
    )
    pages.filters["kind"] = lambda block: type(block).__name__
    pages.filters["base64"] = lambda path: base64.b64encode(path.read_bytes()).decode()
    return pages.get_template("page.html").render(title=title, blocks=blocks) + "\n"


def _markdown(block: Block, folder: Path) -> str:
    match block:
        case Heading(text):
            return f"## {_plain(text)}"
        case Text(text):
            return _plain(text)
        case Cards(cards):
            pairs = ((_plain(value), _plain(what)) for value, what in cards)
            return " · ".join(f"**{value}** {what}" for value, what in pairs)
        case Table(header, rows):
            lines = [header, tuple("---" for _ in header), *rows]
            return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)
        case Picture(path, description):
            return f"![{_plain(description)}]({path.relative_to(folder)})"
        case Pictures(pictures):
            return "\n\n".join(
                f"{_plain(each.description)}:\n\n{_markdown(each, folder)}"
                for each in pictures
            )
        case Code(text, language, folded):
            code = f"```{language}\n{text}\n```"
            if folded is None:
                return code
            return f"<details><summary>{folded}</summary>\n\n{code}\n\n</details>"


# What Markdown, or GitHub's with formulas, would read as something else.
_SPECIAL = {"|": "&#124;", "<": "&lt;", "$": "&#36;", "*": "&#42;", "`": "&#96;"}


def _plain(text: str) -> str:
    """A text on one line that means itself in Markdown."""
    return " ".join(text.split()).translate(str.maketrans(_SPECIAL))
