"""LaTeX: tables with the rules of the package booktabs."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning.reports.html import aligned_right

_SYMBOLS = {"±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$"}
_SIGNED = re.compile(r"((?<![\w.)\]/-])[+-]\d[\d.,]*(?<![.,]))")
_RANGE = re.compile(r"(?<![\w.-])\d+-\d+(?![\w-])")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "", label: str = "") -> str:
    """Return a table, a float with caption and label if there is a caption; needs ``booktabs``.

    Cells, headings and caption are plain texts, which are escaped. Columns of numbers are right-aligned.
    Signed numbers are set in math mode; the hyphen of a range, or of a cell without a value, becomes a dash.
    """
    frame = pd.DataFrame([[*map(str, row)] for row in rows], columns=pd.RangeIndex(len(columns)), dtype=str)
    letters = "".join("r" if right else "l" for right in aligned_right(frame))
    styler = frame.map(escape).style.hide(axis="index")
    names = [escape(name).replace("{", "{{").replace("}", "}}") for name in columns]  # pandas formats them
    styler = styler.relabel_index(names, axis="columns")
    text = styler.to_latex(
        column_format=letters or "l" * len(columns),
        hrules=True,
        caption=escape(caption) or None,
        label=label or None,
        position="htbp" if caption else None,
        position_float="centering" if caption else None,
    )
    return f"% \\usepackage{{booktabs}}\n{text}"


def escape(text: str) -> str:
    """Return a plain text as LaTeX, without line breaks."""
    text = " ".join(text.split())
    text = re.sub(r"^-(?= |$)", "--", _RANGE.sub(lambda found: found[0].replace("-", "--"), text))
    parts = enumerate(_SIGNED.split(text))  # every second one is a signed number
    return "".join(f"${part.replace(',', '{,}')}$" if number % 2 else _escape(part) for number, part in parts)


def _escape(text: str) -> str:
    special = {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}"}
    special |= _SYMBOLS
    return "".join(special.get(character, character) for character in text)


def write_tables(
    tables: Iterable[tuple[str, str, pd.DataFrame]], folder: Path, about: str, quoted: Mapping[str, str]
) -> None:
    """Write tables of a page, as ``Page.tables`` gives them, to ``<section>.tex``.

    Further tables of a section are ``<section>-2.tex`` and so on, which are also their labels. Captions end
    with ``about``: model, dataset and protocol. Comments tell what the metrics are to be quoted with.
    """
    used: Counter[str] = Counter()
    comments = "".join(f"% {name}: {' '.join(value.split())}\n" for name, value in quoted.items())
    for heading, caption, cells in tables:
        name = re.sub(r"[^a-z0-9]+", "_", heading.lower()).strip("_")
        used[name] += 1
        name += f"-{used[name]}" if used[name] > 1 else ""
        rows = cells.itertuples(index=False)
        parts = [part.rstrip(".") for part in (heading, caption, about) if part]
        text = table([*map(str, cells.columns)], rows, f"{'. '.join(parts)}.", f"tab:{name}")
        write_text(folder / f"{name}.tex", comments + text)
