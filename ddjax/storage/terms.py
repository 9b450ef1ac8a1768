"""Under which terms files that others made may be used."""

from typing import NamedTuple

__all__ = ["Terms"]


class Terms(NamedTuple):
    """The licence of a data set or of weights, and where it is stated.

    Attributes:
      licence: its SPDX identifier; None where no licence is known.
      page: the address of the page that states it, or of the page to look at where no
        licence is known; None where there is no such page.
      note: what else is to be known; the whole of it where there is no page.
    """

    licence: str | None = None
    page: str | None = None
    note: str = ""

    @property
    def in_words(self) -> str:
        """`MIT, see https://... (note)`, or `unknown: see https://... (note)`."""
        if self.page is None:
            return self.note
        known = f"{self.licence}, see" if self.licence else "unknown: see"
        return f"{known} {self.page}" + (f" ({self.note})" if self.note else "")
