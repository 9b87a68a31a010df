"""The directive `mtmsa-help`: the help text of a command, as the program prints it, as part of a page."""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

WIDTH = "100000"
"""Columns of the terminal that the text is printed for: no line is broken."""

_OPTION = re.compile(r"  (\S.*)")
_HELP = re.compile(r" {3,}(\S.*)")


class Help(NamedTuple):
    """The parts of a help text.

    Attributes:
        usage: The lines of the usage.
        description: The text before the first group.
        groups: Title and options of every group; an option is how it is written and its help.
        epilog: The text after the last group.
    """

    usage: str
    description: str
    groups: list[tuple[str, list[tuple[str, str]]]]
    epilog: str


def help_text(words: list[str]) -> str:
    """Return what `mtmsa WORDS --help` prints on a wide terminal.

    In a process of its own, because autodoc replaces defaults of functions that the parser reads.
    """
    command = [sys.executable, "-m", "mtmsa_lightning", *words, "--help"]
    wide = {**os.environ, "COLUMNS": WIDTH, "NO_COLOR": "1"}
    return subprocess.run(command, env=wide, check=True, stdout=subprocess.PIPE, text=True).stdout


def read_help(text: str) -> Help:
    """Take a help text of argparse apart that was printed on a wide terminal."""
    usage, _, rest = text.partition("\n\n")
    blocks = re.split(r"\n{2,}(?=\S)", rest)
    grouped = [bool(re.search(r":\n+  \S", block)) and not block.startswith("  ") for block in blocks]
    first = grouped.index(True)
    last = len(grouped) - grouped[::-1].index(True)
    groups = [_read_group(block) for block in blocks[first:last]]
    return Help(usage, "\n\n".join(blocks[:first]), groups, "\n\n".join(blocks[last:]).rstrip())


def _read_group(block: str) -> tuple[str, list[tuple[str, str]]]:
    title, _, lines = block.partition("\n")
    options: list[tuple[str, str]] = []
    for line in lines.splitlines():
        if (more := _HELP.fullmatch(line)) and options:
            name, text = options[-1]
            options[-1] = name, f"{text} {more[1]}".strip()
        elif option := _OPTION.fullmatch(line):
            name, *text = re.split(r" {2,}", option[1], maxsplit=1)
            options.append((name, "".join(text)))
    return title.removesuffix(":"), options


class CommandHelp(SphinxDirective):
    """Show the help text of a command; with ``:usage:`` only usage and description."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"usage": lambda text: True}  # noqa: RUF012  # as docutils wants it

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the text."""
        words = self.arguments[0].split()
        text = read_help(help_text(words))
        usage = nodes.literal_block("", _wrapped(text.usage), language="text")
        found: list[nodes.Node] = [usage, *_paragraphs(text.description)]
        if "usage" in self.options:
            return found
        for title, options in text.groups:
            found += [nodes.rubric("", title), self._options("-".join(words), options)]
        return [*found, *_paragraphs(text.epilog)]

    def _options(self, command: str, options: list[tuple[str, str]]) -> nodes.Node:
        listed = nodes.definition_list(classes=["options"])
        for name, text in options:
            if name.startswith("-h,"):
                continue
            item = nodes.definition_list_item(ids=[nodes.make_id(f"{command}-{re.split('[ ,]', name)[0]}")])
            item += nodes.term("", "", nodes.literal("", name))
            item += nodes.definition("", nodes.paragraph("", "", *_inline(text)))
            listed += item
        return listed


def _wrapped(usage: str) -> str:
    """Return the lines of a usage, with long ones broken."""
    lines = [line.removeprefix("usage: ").strip() for line in usage.split("\n")]
    wrap = partial(textwrap.fill, width=76, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(map(wrap, lines))


def _paragraphs(text: str) -> Iterator[nodes.Node]:
    """Yield paragraphs, and indented lines as literal blocks."""
    for block in filter(None, text.split("\n\n")):
        lines = block.strip("\n").split("\n")
        plain = [line for line in lines if not line.startswith("  ")]
        code = [line.strip() for line in lines if line.startswith("  ")]
        if plain:
            yield nodes.paragraph("", "", *_inline(" ".join(plain)))
        if code:
            yield nodes.literal_block("", "\n".join(code), language="sh")


def _inline(text: str) -> Iterator[nodes.Node]:
    """Yield text, with what stands between backquotes as code."""
    text = re.sub(r":\w+:(?=`)", "", text)
    for number, part in enumerate(re.split(r"`+", text)):
        if part:
            yield nodes.literal("", part) if number % 2 else nodes.Text(part)


def setup(app: Any) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("mtmsa-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
