"""Parts of messages: numbers with nouns, quoted values, commands to install extras."""

from collections.abc import Sequence

from mtmsa_lightning.errors import shorten


def pluralize(number: float, what: str, several: str | None = None) -> str:
    """Return a number with its noun, such as ``2.5 years``; ``several`` is an irregular plural."""
    text = f"{number:g}" if isinstance(number, float) else f"{number:,}"
    return f"{text} {what if number == 1 else several or f'{what}s'}"


def install(extra: str) -> str:
    """Return the commands that install an extra, from the index or in a checkout."""
    checkout = f"in a checkout: pip install -c constraints.txt -e '.[{extra}]'"
    return f"pip install 'mtmsa-lightning[{extra}]'; {checkout}"


def shown(values: Sequence[object], most: int = 10) -> str:
    """Return the first values in quotes, shortened, with the total number if there are more."""
    texts = [shorten(repr(value), 60) for value in values[:most]]
    return ", ".join(texts) + (f", ... ({len(values):,} in all)" if len(values) > most else "")
