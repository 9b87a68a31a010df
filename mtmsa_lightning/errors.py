"""Errors that a user can fix: messages name what is wrong, where, and what to do."""

import re


class MTMSAError(Exception):
    """Base of all errors that are shown as one message, with long lines shortened, without a traceback."""

    def __init__(self, message: object = "") -> None:
        super().__init__(shorten_message(str(message)))


class DataError(MTMSAError):
    """A dataset, table, image or split that cannot be used."""


class ConfigError(MTMSAError):
    """A configuration value or command line that cannot work."""


class CheckpointError(MTMSAError):
    """A checkpoint or weight file that does not fit."""


class ProcessError(MTMSAError):
    """A failure of another process of a distributed training, with its message."""


class Preempted(Exception):  # noqa: N818  # not an error
    """A run that was stopped by a signal and saved; ``status`` is the exit status of this process."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


LONGEST_LINE, MOST_LINES, LONGEST_MESSAGE = 2_000, 100, 10_000
"""Maximum characters of a line, lines of a message and characters of a message."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def shorten(text: str, most: int = LONGEST_LINE) -> str:
    """Return a text of at most ``most`` characters, without its middle if it is longer."""
    if len(text) <= most:
        return text
    mark = f" ...[{len(text):,} characters]... "
    tail = (most - len(mark)) // 3
    return f"{text[: most - len(mark) - tail]}{mark}{text[len(text) - tail :]}"


def shorten_message(text: str) -> str:
    """Return a message with shortened lines and lists of lines, and escaped control characters."""
    lines = text.split("\n")
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 2], f"... ({len(lines) - MOST_LINES + 1:,} lines more)", lines[-1]]
    lines = [shorten(line) for line in lines]  # before the escapes, which are slow for very long lines
    return shorten("\n".join(shorten(escape(line)) for line in lines), LONGEST_MESSAGE)


def escape(text: str) -> str:
    """Return a text with escaped control characters, except for tabs and line ends."""
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)
