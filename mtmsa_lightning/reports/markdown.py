"""Markdown: tables, and the templates of ``reports/templates``."""

from collections.abc import Iterable, Sequence
from typing import Any

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.reports.html import environment


def render(template: str, **values: Any) -> str:
    """Return a Markdown template filled with values."""
    functions = {"table": table, "pluralize": pluralize}
    text = environment.get_template(template).render(values | functions)
    return f"{text.rstrip()}\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; a bar in a cell becomes a slash, line breaks become spaces."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    return one_line(str(value)).replace("|", "/")


def one_line(text: str) -> str:
    """Return a text without line breaks, so that it cannot begin a heading or end a table."""
    return " ".join(text.split())


def listed(values: Any) -> str:
    """Return the items of a list, separated by commas, or a single value as a text."""
    return ", ".join(map(str, values)) if isinstance(values, list | tuple) else str(values)
