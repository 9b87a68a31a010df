"""Words of messages: numbers with their nouns, values in quotes, lengths, how to install what is missing."""

from collections.abc import Sequence

from mtmsa_lightning.errors import shorten


def pluralize(number: float, what: str, several: str | None = None) -> str:
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


def shown(values: Sequence[object], most: int = 10) -> str:
    """Return the first values in quotes, each of them short, and how many there are if that is not all."""
    texts = [shorten(repr(value), 60) for value in values[:most]]
    return ", ".join(texts) + (f", ... ({len(values):,} in all)" if len(values) > most else "")
