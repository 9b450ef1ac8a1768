"""Which of the installed fonts can draw a text; none is shipped with the library."""

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path

__all__ = ["can_draw", "drawable", "font_file"]


def drawable(names: Sequence[str], instead: Sequence[str]) -> list[str]:
    """Each name on one line or, where no installed font has it, what stands for it.

    One warning says so of all of them.

    Args:
      names: what is to be drawn.
      instead: plain words, one for each name.
    """
    lines = [" ".join(name.split()) for name in names]
    missing = [i for i, line in enumerate(lines) if not can_draw(line)]
    if missing:
        first = missing[0]
        others = f" (nor {len(missing) - 1} other names)" if len(missing) > 1 else ""
        warnings.warn(
            f"no installed font can draw {lines[first]!r}{others}; pictures say "
            f"{instead[first]!r} instead. A font that can, Noto Sans CJK say, is found "
            "once it is installed",
            stacklevel=2,
        )
    return [instead[i] if i in missing else line for i, line in enumerate(lines)]


def can_draw(name: str) -> bool:
    """Whether an installed font has a glyph for every character, set on one line."""
    return _font_with_all(" ".join(name.split())) is not None


def font_file(text: str) -> str:
    """The font's path for a text that `drawable` gave: matplotlib's own if it can."""
    return _font_with_all(text) or _own()


@functools.lru_cache(maxsize=4096)
def _font_with_all(text: str) -> str | None:
    wanted = frozenset(map(ord, text))
    if wanted <= _characters(_own()):
        return _own()
    return next((f for f in _installed() if wanted <= _characters(f)), None)


def _own() -> str:
    """DejaVu Sans, which comes with matplotlib."""
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


@functools.cache
def _installed() -> tuple[str, ...]:
    """Every font that this machine has, sans serif and regular ones first."""
    from matplotlib import font_manager

    found = font_manager.findSystemFonts()

    def rank(file: str) -> tuple[bool, bool, str]:
        name = Path(file).name.lower()
        plain = "regular" in name or not ("bold" in name or "italic" in name)
        return "sans" not in name, not plain, name

    return tuple(sorted(found, key=rank))


@functools.lru_cache(maxsize=512)
def _characters(file: str) -> frozenset[int]:
    """The characters that a font can draw in any size."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
        # Bitmaps, emoji in colour say, have a few sizes only.
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()
