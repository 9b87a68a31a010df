"""Words of messages: numbers with their nouns, and how to install what is missing."""


def counted(number: int, what: str, several: str | None = None) -> str:
    """Return a number with its noun, such as ``1 face`` and ``1,234 faces``.

    Args:
        number: How many.
        what: The noun in the singular.
        several: The noun in the plural, if that is not made by an s.
    """
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"


def install(extra: str) -> str:
    """Return the command that installs an extra, from the index or in a checkout."""
    checkout = f"in a checkout: pip install -c constraints.txt -e '.[{extra}]'"
    return f"pip install 'mtmsa-lightning[{extra}]'; {checkout}"
