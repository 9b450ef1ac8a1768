"""What is raised when the data cannot be used."""

__all__ = ["DataError", "MissingDataError", "one_line"]


class DataError(ValueError):
    """Data that cannot be used; the message names the file and the problem."""


class MissingDataError(DataError, FileNotFoundError):
    """Data that is not there; the message says where to get it and where to put it."""


def one_line(error: BaseException) -> str:
    """What another library's exception says, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
