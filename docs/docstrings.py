"""Docstrings for the site: LaTeX becomes MathML, doctests become code.

Docstrings have formulas as reStructuredText does, the role `math` in a sentence and the
directive `math` on its own. They are translated when the site is built, so that a page
needs no script and no network: browsers draw MathML themselves.
"""

import re
from textwrap import dedent
from typing import Any

import griffe
from latex2mathml.converter import convert

__all__ = ["DocstringsAsMarkdown", "as_markdown"]

_BLOCK = re.compile(
    r"^(?P<indent> *)\.\. math::[ ]*(?P<first>[^\n]*)\n?"
    r"(?P<rest>(?:(?P=indent) +[^\n]*(?:\n|$)|[ ]*\n(?=(?P=indent) +[^ \n]))*)",
    re.MULTILINE,
)
_INLINE = re.compile(r":math:`([^`]*)`")
_DOCTEST = re.compile(
    r"^(?P<indent> *)>>> .*\n(?:(?P=indent)\S.*(?:\n|$))*", re.MULTILINE
)


def as_markdown(text: str) -> str:
    """A docstring whose formulas are MathML and whose doctests are fenced code."""
    text = _DOCTEST.sub(_fenced, _BLOCK.sub(_block, text))
    # Within another element: Markdown takes one that begins a line for a block.
    return _INLINE.sub(
        lambda match: f"<span>{_mathml(match[1], 'inline')}</span>", text
    )


def _block(match: re.Match[str]) -> str:
    body = "\n".join((match["first"], dedent(match["rest"])))
    formula = _mathml(" ".join(body.split()), "block")
    indent = match["indent"]
    return f'{indent}<div class="formula">{formula}</div>\n\n'


def _fenced(match: re.Match[str]) -> str:
    fence = match["indent"] + "```"
    return f"{fence}pycon\n{match[0].rstrip()}\n{fence}\n"


def _mathml(latex: str, display: str) -> str:
    return convert(latex.strip(), display=display)


class DocstringsAsMarkdown(griffe.Extension):
    """Translates every docstring once it has been read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """See `griffe.Extension`."""
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
