"""Self-contained HTML pages: one file that can be mailed, printed and kept beside a table.

Texts are escaped, pictures are embedded, nothing is loaded from a network.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mtmsa_lightning._utils.writing import write_text

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; }
body { max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.lead { color: #555; margin-top: .3rem; } pre { overflow-x: auto; background: #f5f5f5; padding: .6rem; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
caption { caption-side: top; text-align: left; color: #555; padding-bottom: .3rem; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number, th.number { text-align: right; } thead th { border-bottom: 2px solid #888; }
.wide { overflow-x: auto; }
figure { margin: .8rem 0; display: inline-block; vertical-align: top; max-width: 100%; }
figure img, figure svg { max-width: 100%; height: auto; }
figcaption { color: #555; max-width: 46rem; overflow-wrap: anywhere; }
.row { display: flex; flex-wrap: wrap; gap: 0 1.5rem; overflow-x: auto; } .row figure { width: min-content; }
.row img { zoom: 1.35; max-width: none; }
.tiles figure { margin: .3rem; width: 7.6rem; font-size: .75rem; } .tiles img { width: 100%; }
.error { color: #a00000; } .warning { color: #8a5a00; } .good { color: #005c3c; }
@media print { body { max-width: none; margin: 0; } section { break-inside: avoid-page; } }
@media print { .row img { zoom: 1; } }
"""


_PRIVATE = ("<!--private-->", "<!--/private-->")
"""Around what shows or names faces; escaped texts cannot hold these."""


class Picture(NamedTuple):
    """A picture with what stands below it.

    Attributes:
        content: Bytes of an SVG, PNG or JPEG file.
        caption: What it shows.
    """

    content: bytes
    caption: str


class Page:
    """A page that is filled from top to bottom and then written.

    Args:
        title: Title of the page.
        lead: One line below it.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._parts = [f"<h1>{escape(title)}</h1>", f'<p class="lead">{escape(lead)}</p>' if lead else ""]

    @contextmanager
    def private(self) -> Iterator[None]:
        """Mark what is added inside as showing or naming faces; :func:`without_faces` leaves it out."""
        self._parts.append(_PRIVATE[0])
        yield
        self._parts.append(_PRIVATE[1])

    def section(self, heading: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(heading)}</h2>")

    def text(self, text: str, kind: str = "") -> None:
        """Add a paragraph; ``kind`` is empty, ``error``, ``warning`` or ``good``."""
        self._parts.append(f'<p class="{escape(kind)}">{escape(text)}</p>')

    def items(self, texts: Iterable[str], numbered: bool = False) -> None:
        """Add a list."""
        tag = "ol" if numbered else "ul"
        self._parts.append(f"<{tag}>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + f"</{tag}>")

    def code(self, text: str) -> None:
        """Add a command or other text that is shown as it is."""
        self._parts.append(f"<pre>{escape(text)}</pre>")

    def table(self, rows: pd.DataFrame, caption: str = "") -> None:
        """Add a table: the columns of ``rows``, without its index; numbers come formatted, as texts.

        A column whose texts all begin like a number and hold no word is set flush right.
        """
        right = {name for name in rows if _looks_numeric(rows[name].astype("str").tolist())}
        mark = {name: ' class="number"' if name in right else "" for name in rows}
        head = "".join(f"<th{mark[name]}>{escape(str(name))}</th>" for name in rows)
        body = "".join(
            "<tr>" + "".join(f"<td{mark[name]}>{escape(str(row[name]))}</td>" for name in rows) + "</tr>"
            for row in rows.to_dict("records")
        )
        title = f"<caption>{escape(caption)}</caption>" if caption else ""
        table = f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        self._parts.append(f'<div class="wide">{table}</div>')

    def picture(self, picture: Picture) -> None:
        """Add a picture, alone."""
        self.row([picture])

    def row(self, pictures: Sequence[Picture]) -> None:
        """Add pictures at the size that they are drawn for, side by side where the window is wide enough."""
        self._parts.append(f'<div class="row">{"".join(map(_figure, pictures))}</div>')

    def tiles(self, pictures: Sequence[Picture]) -> None:
        """Add small pictures side by side."""
        self._parts.append(f'<div class="tiles">{"".join(map(_figure, pictures))}</div>')

    def write(self, file: Path) -> None:
        """Write the page, whole or not at all."""
        head = f'<meta charset="utf-8"><title>{escape(self.title)}</title><style>{STYLE}</style>'
        view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
        body = "\n".join(part for part in self._parts if part)
        write_text(
            file,
            f'<!doctype html><html lang="en"><head>{head}{view}</head>\n<body>\n{body}\n</body></html>\n',
        )


def without_faces(html: str) -> str:
    """Return the text of a page without what :meth:`Page.private` has marked."""
    return re.sub(f"{_PRIVATE[0]}.*?{_PRIVATE[1]}", "", html, flags=re.DOTALL)


def _figure(picture: Picture) -> str:
    kinds = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
    kind = next((kind for start, kind in kinds.items() if picture.content.startswith(start)), "image/svg+xml")
    data = base64.b64encode(picture.content).decode()
    image = f'<img src="data:{kind};base64,{data}" alt="{escape(picture.caption)}">'
    return f"<figure>{image}<figcaption>{escape(picture.caption)}</figcaption></figure>"


def _looks_numeric(texts: list[str]) -> bool:
    filled = [text for text in texts if text not in ("", "-", "nan")]
    word = re.compile(r"[^\W\d_]{3}")
    return bool(filled) and all(
        text.lstrip("+-< ")[:1].isdigit() and not word.search(text) for text in filled
    )
