"""Errors that a user can fix: the message says what is wrong, where, and what to do."""

import re


class MTMSAError(Exception):
    """Base of all errors shown to a user as one short message without a traceback.

    Args:
        message: Is shortened where a value, name or list in it is long.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(shorten_message(str(message)))


class DataError(MTMSAError):
    """A dataset, table, image or split that cannot be used as it is."""


class ConfigError(MTMSAError):
    """A configuration value or command line that cannot work."""


class CheckpointError(MTMSAError):
    """A checkpoint or weight file that does not fit."""


class ProcessError(MTMSAError):
    """A failure of another of the processes that train together, with its message."""


class Preempted(Exception):  # noqa: N818  # nothing went wrong
    """A run that was told to stop and did so in order; the same command, or its continuation, goes on.

    Args:
        message: What was saved, and how to go on.
        status: Exit status of this process.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


LONGEST_LINE, MOST_LINES, LONGEST_MESSAGE = 2_000, 100, 10_000
"""Characters of a line, lines of a message, and characters of a message that are shown."""


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def shorten(text: str, most: int = LONGEST_LINE) -> str:
    """Return a text of at most ``most`` characters, without its middle if it is longer."""
    if len(text) <= most:
        return text
    mark = f" ...[{len(text):,} characters]... "
    tail = (most - len(mark)) // 3
    return f"{text[: most - len(mark) - tail]}{mark}{text[len(text) - tail :]}"


def shorten_message(text: str) -> str:
    """Return a message whose lines are neither too long nor too many; control characters are escaped."""
    lines = text.split("\n")
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 2], f"... ({len(lines) - MOST_LINES + 1:,} lines more)", lines[-1]]
    lines = [shorten(line) for line in lines]  # escaping a line of any length would take long
    return shorten("\n".join(shorten(escape(line)) for line in lines), LONGEST_MESSAGE)


def escape(text: str) -> str:
    """Return a text whose control characters, but for tabs and line ends, are written as escapes."""
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)
