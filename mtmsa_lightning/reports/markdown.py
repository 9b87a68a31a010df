"""Tables and paragraphs of Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; a bar in a cell becomes a slash, line breaks become spaces."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    return one_line(str(value)).replace("|", "/")


def one_line(text: str) -> str:
    """Return a text without line breaks, so that it cannot begin a heading or end a table."""
    return " ".join(text.split())
