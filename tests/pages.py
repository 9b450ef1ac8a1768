"""The pages that a reader sees, and what stands in them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = (
    README,
    CONTRIBUTING,
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """Fenced code of a page: its language, its text and the line before it."""

    language: str
    code: str
    before: str


def name_of(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, in order; None: of all languages."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(match[2], match[3], text[: match.start()].rstrip("\n").split("\n")[-1])
        for match in _FENCE.finditer(text)
    ]
    return [each for each in found if language in (None, each.language)]


def without_code(page: Path) -> str:
    """A page's text outside fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))
