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
    """A table; a header of empty strings marks a list of facts."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


class Picture(NamedTuple):
    """A PNG file."""

    path: Path
    description: str


class Code(NamedTuple):
    """A listing, folded behind a summary if one is given."""

    text: str
    language: str
    folded: str | None = None


Block = Heading | Text | Cards | Table | Picture | Code


def to_markdown(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """The document as Markdown; pictures are linked relative to `folder`."""
    parts = [f"# {title}", *(_markdown(block, folder) for block in blocks)]
    return "\n\n".join(parts) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The document as one HTML file that holds its pictures and styles."""
    body = "\n".join(_html(block) for block in blocks)
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def _markdown(block: Block, folder: Path) -> str:
    match block:
        case Heading(text):
            return f"## {text}"
        case Text(text):
            return text
        case Cards(cards):
            return " · ".join(f"**{value}** {what}" for value, what in cards)
        case Table(header, rows):
            lines = [header, tuple("---" for _ in header), *rows]
            return "\n".join(
                f"| {' | '.join(c.replace('|', '&#124;') for c in line)} |"
                for line in lines
            )
        case Picture(path, description):
            return f"![{description}]({path.relative_to(folder)})"
        case Code(text, language, folded):
            code = f"```{language}\n{text}\n```"
            if folded is None:
                return code
            return f"<details><summary>{folded}</summary>\n\n{code}\n\n</details>"


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
        case Table(header, rows):
            return _html_table(header, rows)
        case Picture(path, description):
            data = base64.b64encode(path.read_bytes()).decode()
            source = f"data:image/png;base64,{data}"
            kind = f"picture {path.stem}"
            return f'<img class="{kind}" alt="{escape(description)}" src="{source}">'
        case Code(text, _, folded):
            code = f"<pre><code>{escape(text)}</code></pre>"
            if folded is None:
                return code
            summary = f"<summary>{escape(folded)}</summary>"
            return f"<details>{summary}{code}</details>"


def _html_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...], tag: str) -> str:
        inner = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if any(header) else ""
    kind = "numbers" if any(header) else "facts"
    body = "".join(line(row, "td") for row in rows)
    return f'<table class="{kind}">{head}<tbody>{body}</tbody></table>'


_STYLE = """
:root { --ink: #24292f; --soft: #59636e; --line: #d9dee3; --paper: #ffffff;
        --tint: #f5f7f9; --accent: #2667ac; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1.2rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .8rem; padding-bottom: .3rem;
     border-bottom: 1px solid var(--line); }
p { color: var(--soft); max-width: 46rem; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 0 0 1.8rem; }
.cards div { flex: 1 1 10rem; background: var(--tint); border-radius: 8px;
             border-left: 4px solid var(--accent); padding: .8rem 1rem; }
.cards b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.cards span { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .45rem .7rem; vertical-align: top;
         border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; }
.numbers th + th, .numbers td + td { text-align: right; white-space: nowrap;
                                     font-variant-numeric: tabular-nums; }
.facts td:first-child { color: var(--soft); width: 12rem; }
.picture { display: block; max-width: 100%; height: auto; }
pre { background: var(--tint); border-radius: 8px; padding: .9rem 1rem;
      overflow-x: auto; font-size: .85rem; line-height: 1.45; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); }
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
