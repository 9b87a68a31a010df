"""Self-contained HTML pages, rendered with Jinja2: texts escaped, style and pictures embedded, no scripts."""

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from numpy.typing import NDArray

from mtmsa_lightning._utils.atomic_write import write_text

TEMPLATES = Path(__file__).with_name("templates")
STYLE = TEMPLATES / "style.css"

environment = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
"""All templates; ``*.html`` escapes every text."""

_PRIVATE = (Markup("<!--private-->"), Markup("<!--/private-->"))
"""Markers around what shows or names faces; escaped texts cannot contain them."""


class Picture(NamedTuple):
    """A picture, the bytes of an SVG, PNG or JPEG file, and its caption."""

    content: bytes
    caption: str

    @classmethod
    def from_pixels(cls, image: NDArray[np.uint8], caption: str) -> "Picture":
        """Encode an RGB image as JPEG."""
        _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        return cls(data.tobytes(), caption)

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        kinds = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
        kind = next(
            (kind for start, kind in kinds.items() if self.content.startswith(start)), "image/svg+xml"
        )
        return f"data:{kind};base64,{base64.b64encode(self.content).decode()}"


class Page:
    """A page that is filled from top to bottom and then written; ``lead`` is a line below the title."""

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self.lead = lead
        self._blocks: list[dict[str, Any]] = []
        self._private = False

    @contextmanager
    def private(self) -> Iterator[None]:
        """Mark what is added inside as showing or naming faces; :func:`without_faces` removes it."""
        before, self._private = self._private, True
        try:
            yield
        finally:
            self._private = before

    def _add(self, kind: str, **content: Any) -> None:
        self._blocks.append({"kind": kind, "private": self._private, **content})

    def section(self, heading: str) -> None:
        """Begin a section."""
        self._add("section", heading=heading)

    def text(self, text: str, mark: str = "") -> None:
        """Add a paragraph; ``mark`` is empty, ``error``, ``warning`` or ``good``."""
        self._add("text", text=text, mark=mark)

    def table(self, rows: pd.DataFrame, caption: str = "") -> None:
        """Add a table: the columns of ``rows`` without its index; numbers are passed as formatted texts."""
        self._add("table", rows=rows, caption=caption)

    def row(self, pictures: Sequence[Picture]) -> None:
        """Add pictures at their own size, side by side where the window is wide enough."""
        self._add("row", pictures=pictures)

    def tiles(self, pictures: Sequence[Picture]) -> None:
        """Add small pictures side by side."""
        self._add("tiles", pictures=pictures)

    def tables(self) -> Iterator[tuple[str, str, pd.DataFrame]]:
        """Yield the heading of its section, the caption and the cells of every table that names no face."""
        heading = ""
        for block in self._blocks:
            heading = block["heading"] if block["kind"] == "section" else heading
            if block["kind"] == "table" and not block["private"]:
                yield heading, block["caption"], block["rows"]

    def write(self, file: Path) -> None:
        """Write the page atomically."""
        write_page(file, "page.html", title=self.title, lead=self.lead, blocks=self._blocks, private=_PRIVATE)


def write_page(file: Path, template: str, **values: Any) -> None:
    """Write a page from a template atomically."""
    style = Markup(STYLE.read_text(encoding="utf-8"))
    write_text(file, environment.get_template(template).render(values, style=style))


def without_faces(html: str) -> str:
    """Return the text of a page without the parts marked by :meth:`Page.private`."""
    return re.sub(f"{_PRIVATE[0]}.*?{_PRIVATE[1]}", "", html, flags=re.DOTALL)


def _texts(frame: pd.DataFrame) -> tuple[list[list[str]], list[bool]]:
    """Return the cells of a table, and which columns are right-aligned."""
    return [[str(cell) for cell in row] for row in frame.itertuples(index=False)], aligned_right(frame)


def aligned_right(frame: pd.DataFrame) -> list[bool]:
    """Return which columns are right-aligned: those of numbers without words."""
    return [_looks_numeric(map(str, frame.iloc[:, column])) for column in range(frame.shape[1])]


def _looks_numeric(texts: Iterable[str]) -> bool:
    filled = [text for text in texts if text not in ("", "-", "nan")]
    word = re.compile(r"[^\W\d_]{3}")
    return bool(filled) and all(
        text.lstrip("+-< ")[:1].isdigit() and not word.search(text) for text in filled
    )


environment.filters["texts"] = _texts
