"""Words of messages: numbers with their nouns, values in quotes, lengths, how to install what is missing."""

import re
from collections.abc import Sequence

LONGEST_LINE, MOST_LINES, LONGEST_MESSAGE = 2_000, 100, 10_000
"""Characters of a line, lines of a message, and characters of a message that are shown."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def counted(number: float, what: str, several: str | None = None) -> str:
    """Return a number with its noun, such as ``1 face``, ``1,234 faces`` and ``2.5 years``.

    Args:
        number: How many.
        what: The noun in the singular.
        several: The noun in the plural, if that is not made by an s.
    """
    text = f"{number:g}" if isinstance(number, float) else f"{number:,}"
    return f"{text} {what if number == 1 else several or f'{what}s'}"


def install(extra: str) -> str:
    """Return the command that installs an extra, from the index or in a checkout."""
    checkout = f"in a checkout: pip install -c constraints.txt -e '.[{extra}]'"
    return f"pip install 'mtmsa-lightning[{extra}]'; {checkout}"


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


def shown(values: Sequence[object], most: int = 10) -> str:
    """Return the first values in quotes, each of them short, and how many there are if that is not all."""
    texts = [shorten(repr(value), 60) for value in values[:most]]
    return ", ".join(texts) + (f", ... ({len(values):,} in all)" if len(values) > most else "")
