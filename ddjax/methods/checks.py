"""Checks of numbers that methods share."""

import math

__all__ = ["check_counts", "check_not_negative", "check_positive"]


def check_counts(**counts: int | None) -> None:
    """Refuses counts below 1; None is no count.

    Raises:
      ValueError: the name and the value.
    """
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def check_positive(**numbers: float | None) -> None:
    """Refuses numbers that are not finite and above 0; None is no number.

    Raises:
      ValueError: the name and the value.
    """
    for name, value in numbers.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number > 0, got {value}")


def check_not_negative(**numbers: float) -> None:
    """Refuses numbers that are not finite, and those below 0.

    Raises:
      ValueError: the name and the value.
    """
    for name, value in numbers.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and >= 0, got {value}")
