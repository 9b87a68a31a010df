"""Words of messages: numbers with their nouns."""


def counted(number: int, what: str, several: str | None = None) -> str:
    """Return a number with its noun, such as ``1 face`` and ``1,234 faces``.

    Args:
        number: How many.
        what: The noun in the singular.
        several: The noun in the plural, if that is not made by an s.
    """
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"
