"""Cells of a table that are text to a computer and a number or a date to a reader."""

import re
from collections.abc import Iterable

__all__ = ["disguised_number", "shared_unit"]

_SIGN = "[+\u2212\u2013-]?"
_PLAIN = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_GROUPED = r"\d{1,3}(?:[,.'\u2019\s]\d{3})+(?:[.,]\d+)?"
_COMMA = r"\d*,\d+"
_AMOUNT = f"{_SIGN}(?:{_PLAIN}|{_GROUPED}|{_COMMA})"
_CURRENCY = "(?:[$\u20ac\u00a3\u00a5\u20b9\u20bd\u20a9\u00a2]|USD|EUR|GBP|CHF|JPY|CNY)"
_MONTH = (
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec|january|february|march|april"
    r"|june|july|august|september|october|november|december)\.?"
)
_MONTH_NUMBER, _DAY_NUMBER = "(?:0?[1-9]|1[0-2])", "(?:0?[1-9]|[12]\\d|3[01])"
_TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:\s?[ap]m)?(?:Z|\s?[+-]\d{2}:?\d{2})?"
_DATE = "|".join(
    (
        rf"\d{{4}}[-/.]{_MONTH_NUMBER}[-/.]{_DAY_NUMBER}",
        rf"\d{{4}}[-/]{_MONTH_NUMBER}",
        rf"{_DAY_NUMBER}([-/.]){_DAY_NUMBER}\1(?:\d{{4}}|\d{{2}})",
        rf"{_DAY_NUMBER}[\s-]{_MONTH}(?:[\s,-]+\d{{2,4}})?",
        rf"{_MONTH}[\s-]\d{{1,4}}(?:,?\s\d{{4}})?",
    )
)

# What it is, what it looks like, and what to write instead. The first that fits counts.
_DISGUISES = tuple(
    (what, re.compile(pattern, re.IGNORECASE), remedy)
    for what, pattern, remedy in (
        (
            "a date or a time",
            rf"(?:{_DATE})(?:[T\s]+{_TIME})?|{_TIME}",
            "write a number, such as days since a first day",
        ),
        (
            "a percentage",
            rf"{_AMOUNT}\s*[%\u2030]",
            "write the number alone, and name the unit with units={...}",
        ),
        (
            "an amount of money",
            rf"{_SIGN}\s*{_CURRENCY}\s*{_AMOUNT}|{_AMOUNT}\s*{_CURRENCY}",
            "write the number alone, and name the unit with units={...}",
        ),
        (
            "a number with a comma",
            rf"{_SIGN}(?:{_COMMA}|\d[\d,.]*,[\d,.]*)",
            "write digits with a decimal point and nothing between thousands",
        ),
        (
            "a number with signs between its digits",
            rf"{_SIGN}(?:{_GROUPED}|\d+(?:_\d+)+(?:\.\d+)?)",
            "write digits with a decimal point and nothing between thousands",
        ),
        (
            "a negative number",
            rf"[\u2212\u2013]\s?{_PLAIN}|\({_AMOUNT}\)",
            "write it with a plain minus",
        ),
        ("a fraction", r"\d+\s*/\s*\d+", "write it as a decimal number"),
        (
            "an error of a spreadsheet",
            r"#(?:N/A|DIV/0!|REF!|VALUE!|NAME\?|NUM!|NULL!)",
            "mend its formula, or leave the cell empty where the value is missing",
        ),
    )
)
_WITH_UNIT = re.compile(rf"({_AMOUNT})\s*([^\W\d_][^\s\d]*)")


def disguised_number(cell: str) -> tuple[str, str] | None:
    """What a cell is that looks like a number or a date, and what to write instead.

    Args:
      cell: text that is not a number as it is, stripped.

    Returns:
      For example `("a percentage", "write the number alone, ...")`; None for text.
    """
    if not any(character.isdigit() for character in cell) and cell[:1] != "#":
        return None
    for what, pattern, remedy in _DISGUISES:
        if pattern.fullmatch(cell):
            return what, remedy
    return None


def shared_unit(cells: Iterable[str]) -> str | None:
    """The unit that follows a number in every one of these cells, as in `5 kg`.

    Args:
      cells: distinct texts.

    Returns:
      The unit; None where there is a cell of another form, or fewer than two.
    """
    found = [_WITH_UNIT.fullmatch(cell) for cell in cells]
    units = {match[2] if match else None for match in found}
    return units.pop() if len(units) == 1 and len(found) > 1 else None
