"""A document of a few kinds of blocks, as Markdown and as one HTML file."""

import base64
import html
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
    body = "\n".join(_html(block) for block in blocks)
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


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
            parts = [_plain(each.description) for each in pictures]
            links = [_markdown(each, folder) for each in pictures]
            return "\n\n".join(
                f"{part}:\n\n{link}" for part, link in zip(parts, links, strict=True)
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


def _html(block: Block) -> str:
    escape = html.escape
    match block:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Cards(cards):
            inner = "".join(
                f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>"
                for value, what in cards
            )
            return f'<div class="cards">{inner}</div>'
        case Table():
            return _html_table(block)
        case Picture(path, description):
            data = base64.b64encode(path.read_bytes()).decode()
            source = f"data:image/png;base64,{data}"
            kind = f"picture {path.stem}"
            image = f'<img class="{kind}" alt="{escape(description)}" src="{source}">'
            return f'<div class="scroll">{image}</div>'
        case Pictures(pictures):
            inner = "".join(
                f"<figure>{_html(each)}<figcaption>{escape(each.description)}"
                "</figcaption></figure>"
                for each in pictures
            )
            return f'<div class="pictures">{inner}</div>'
        case Code(text, _, folded):
            code = f"<pre><code>{escape(text)}</code></pre>"
            if folded is None:
                return code
            summary = f"<summary>{escape(folded)}</summary>"
            return f"<details>{summary}{code}</details>"


def _html_table(table: Table) -> str:
    def line(cells: tuple[str, ...], tag: str) -> str:
        kinds = ["" if i < table.words else ' class="n"' for i in range(len(cells))]
        if tag == "td" and cells[0] and not any(cells[1:]):
            return f'<tr><th colspan="{len(cells)}">{html.escape(cells[0])}</th></tr>'
        inner = "".join(
            f"<{tag}{kind}>{html.escape(cell)}</{tag}>"
            for kind, cell in zip(kinds, cells, strict=True)
        )
        return f"<tr>{inner}</tr>"

    facts = not any(table.header)
    head = "" if facts else f"<thead>{line(table.header, 'th')}</thead>"
    kind = "facts" if facts else "numbers"
    body = "".join(line(row, "td") for row in table.rows)
    inner = f'<table class="{kind}">{head}<tbody>{body}</tbody></table>'
    return f'<div class="scroll">{inner}</div>'


_STYLE = """
:root { --ink: #24292f; --soft: #59636e; --line: #d9dee3; --paper: #ffffff;
        --tint: #f5f7f9; --accent: #2667ac; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1.2rem;
     overflow-wrap: break-word; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .8rem; padding-bottom: .3rem;
     border-bottom: 1px solid var(--line); }
p { color: var(--soft); max-width: 46rem; overflow-wrap: break-word; }
.cards { display: grid; gap: .8rem; margin: 0 0 1.8rem;
         grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); }
.cards div { background: var(--tint); border-radius: 8px; padding: .8rem 1rem;
             border-left: 4px solid var(--accent); }
.cards b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.cards span { color: var(--soft); font-size: .85rem; overflow-wrap: break-word; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .45rem .7rem; vertical-align: top;
         border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
tbody th { color: var(--ink); padding-top: 1rem; }
.numbers .n { text-align: right; white-space: nowrap; min-width: 0;
              font-variant-numeric: tabular-nums; }
.facts td { overflow-wrap: anywhere; }
.facts td:first-child { color: var(--soft); width: 10rem; overflow-wrap: normal; }
.picture { display: block; max-width: 100%; height: auto; }
.pictures { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
.pictures figure { margin: 0; flex: 1 1 20rem; }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .4rem; }
pre { background: var(--tint); border-radius: 8px; padding: .9rem 1rem;
      overflow-x: auto; font-size: .85rem; line-height: 1.45; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); }
@media (max-width: 40rem) { main { padding: 1.5rem 1rem 3rem; }
                            th, td { padding: .4rem .4rem; }
                            .curves, .columns { max-width: none; width: 40rem; } }
@media print { details { display: none; } main { padding: 0; } }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""
