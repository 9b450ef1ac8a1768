"""Notebooks as pages of the site: their text, their code, and the outputs they saved.

A page fetches nothing from elsewhere: pictures stand in it, formulas are MathML, and
the badge of Colab is a plain link.
"""

import json
import re

from latex2mathml.converter import convert

__all__ = ["as_markdown"]

_BLOCK = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"(?<![\\$\w])\$([^$\n]+?)\$(?![\w$])")
_BADGE = re.compile(r"\[!\[([^\]]*)\]\([^)]*\)\]\(([^)]*)\)")
_CODE = re.compile(r"(`[^`\n]+`)")


def as_markdown(text: str) -> str:
    """A page that shows what a notebook shows.

    Args:
      text: of the `.ipynb` file.
    """
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(_with_formulas(_BADGE.sub(r"[\1](\2)", source)))
        else:
            parts.append(_fenced(source, "python"))
            parts += [_shown(output) for output in cell["outputs"]]
    return "\n\n".join(parts) + "\n"


def _with_formulas(source: str) -> str:
    source = _BLOCK.sub(_block, source)
    # What stands in backquotes is code.
    pieces = _CODE.split(source)
    pieces[::2] = [_INLINE.sub(_inline, piece) for piece in pieces[::2]]
    return "".join(pieces)


def _block(match: re.Match[str]) -> str:
    formula = convert(" ".join(match[1].split()), display="block")
    return f'<div class="formula">{formula}</div>'


def _inline(match: re.Match[str]) -> str:
    return f"<span>{convert(match[1], display='inline')}</span>"


def _shown(output: dict) -> str:
    """A picture where there is one, else text."""
    if output["output_type"] == "stream":
        return _fenced("".join(output["text"]), "text")
    found = output["data"]
    if "image/png" in found:
        picture = "".join(found["image/png"].split())
        return f"![Output of the cell above](data:image/png;base64,{picture})"
    return _fenced("".join(found["text/plain"]), "text")


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"
