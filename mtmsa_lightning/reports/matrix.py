"""The page of a cross-data matrix: table, heat map and warnings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.atomic_write import write_table
from mtmsa_lightning.evaluation.cross_data import Cell, matrix_table
from mtmsa_lightning.metrics.titles import format_metric
from mtmsa_lightning.reports.html import Page, Picture
from mtmsa_lightning.reports.plots import style
from mtmsa_lightning.reports.plots.matrix import matrix as plot_matrix

PAGE = "matrix.html"

OWN, WARNED, REFUSED = "*", "!", "x"
"""Marks of a cell: own test part, with warnings, refused."""


def write_matrix(cells: Sequence[Cell], folder: Path) -> pd.DataFrame:
    """Write ``matrix.html``, ``matrix.csv`` and the heat map as SVG and PNG; return the table."""
    table = matrix_table(cells)
    write_table(table, folder / "matrix.csv")
    wide = text_table(table)
    page = Page("Cross-data matrix", "age MAE in years: networks in rows, test parts in columns")
    page.section("Age MAE")
    page.table(wide, f"MAE in years with 95 % intervals by subject. {legend(table)}")
    if table["age_mae"].notna().any():
        caption = f"Age MAE in years with its 95 % interval and the number of faces. {legend(table)}"
        values = table.assign(mark=[mark(row) for row in table.to_dict("records")])
        file = style.save(plot_matrix(values), folder, "matrix", caption)
        page.row([Picture(file.read_bytes(), caption)])
    page.section("Warnings")
    notes = [row for row in table.to_dict("records") if row["warnings"] or row["refused"]]
    for row in notes:
        reason = f"refused: {row['refused']}" if row["refused"] else row["warnings"]
        page.text(f"{row['model']} on {row['data']}: {reason}", "warning")
    if not notes:
        page.text("None: sizes and crops are those of training, and no test face was trained on.")
    page.section("Networks and test parts")
    page.table(table[["model", "trained_on"]].drop_duplicates())
    page.table(table[["data", "tested_on"]].drop_duplicates())
    page.write(folder / PAGE)
    return table


def text_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the matrix as texts, a row per network and a column per test part."""
    rows: dict[str, dict[str, str]] = {}
    for row in table.to_dict("records"):
        rows.setdefault(row["model"], {"model": row["model"]})[row["data"]] = cell_text(row)
    return pd.DataFrame([*rows.values()])


def cell_text(row: Mapping[Any, Any]) -> str:
    """Return the MAE with its interval and marks; the group accuracy without exact ages."""
    if row["refused"]:
        return f"refused {REFUSED}"
    if pd.isna(row["age_mae"]):
        value = format_metric("group_acc", row["group_acc"])
        return f"groups: {value} {mark(row)}".rstrip()
    ends = "" if pd.isna(row["age_mae_low"]) else f" [{row['age_mae_low']:.2f}, {row['age_mae_high']:.2f}]"
    return f"{row['age_mae']:.2f}{ends} {mark(row)}".rstrip()


def mark(row: Mapping[Any, Any]) -> str:
    """Return the marks of a cell."""
    marks = {OWN: row["own"], WARNED: row["warnings"], REFUSED: row["refused"]}
    return "".join(sign for sign, there in marks.items() if there)


def legend(table: pd.DataFrame) -> str:
    """Explain the marks that a matrix has."""
    texts = {
        OWN: "held-out part of the split that the network was trained on",
        WARNED: "with a warning, see below",
        REFUSED: "refused, because the network was trained on these faces",
    }
    there = "".join(mark(row) for row in table.to_dict("records"))
    return "; ".join(f"{sign} {text}" for sign, text in texts.items() if sign in there)
