"""The pages of the documentation, read as Markdown."""

import re
import runpy
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]


@cache
def pages() -> tuple[Path, ...]:
    """Return the pages of the site, by the patterns of its configuration."""
    patterns = runpy.run_path(str(ROOT / "docs/conf.py"))["include_patterns"]
    return tuple(sorted(page for pattern in patterns for page in ROOT.glob(pattern)))


@cache
def tokens(page: Path) -> tuple[Token, ...]:
    """Return the blocks of a page, with their parts in ``children``."""
    return tuple(MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")))


def fences(page: Path, kind: str) -> list[str]:
    """Return the content of the fenced blocks of a kind, such as ``sh``."""
    return [each.content for each in tokens(page) if each.type == "fence" and each.info.split() == [kind]]


def directives(page: Path, name: str) -> Iterator[Token]:
    """Yield the fenced blocks of a directive, such as ``{toctree}``."""
    for each in tokens(page):
        if each.type == "fence" and each.info.startswith(f"{{{name}}}"):
            yield each


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as on GitHub."""
    found = set()
    for before, each in zip(tokens(page), tokens(page)[1:], strict=False):
        if before.type == "heading_open":
            text = "".join(child.content for child in each.children or ())
            found.add(re.sub(r"[^\w\- ]", "", text.strip().lower().replace(" ", "-")))
    return found


def links(page: Path) -> Iterator[str]:
    """Yield the targets of the links and images of a page."""
    for block in tokens(page):
        for child in block.children or ():
            target = child.attrGet("href" if child.type == "link_open" else "src")
            if target:
                yield str(target)


def commands(page: Path) -> Iterator[str]:
    """Yield the command lines of a page, with broken ones joined and without comments."""
    blocks = [*fences(page, "sh"), *(each.content for each in tokens(page) if each.type == "code_block")]
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"\s+#.*", "", line).strip()
            if re.match(r"(mtmsa|make|pip|python|\.venv/bin/python) ", command):
                yield re.sub(r"\$\(\(.*?\)\)|\$\w+", "1", command)
