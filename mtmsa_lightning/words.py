"""Numbers in sentences."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where there is not one: ``1 face``, ``1,197 faces``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
