"""The report of a set of predictions: one page, its plots and tables, and the predictions themselves."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning._utils.writing import replacing_in, write_table, write_text
from mtmsa_lightning.evaluation.predictions import SUFFIXES, Predictions, read_predictions
from mtmsa_lightning.evaluation.table_metrics import compute_metrics
from mtmsa_lightning.reports import sections
from mtmsa_lightning.reports.context import ReportContext
from mtmsa_lightning.reports.html import without_faces
from mtmsa_lightning.reports.material import Material
from mtmsa_lightning.reports.uncertainty import uncertainty

PAGE = "report.html"

CONTENT = ("plots", "tables", *(f"predictions{suffix}" for suffix in SUFFIXES), "metrics.json", PAGE)
"""What a report consists of, in the order in which it takes the place of an older one."""

OF_FACES = ("attention_maps.*", "faces.csv")
"""Plots and tables that show or name single faces."""

if TYPE_CHECKING:
    from mtmsa_lightning.evaluation.attention import Attention


def write_report(
    predictions: pd.DataFrame,
    folder: Path,
    context: ReportContext,
    images: sections.Images | None = None,
    attention: "Attention | None" = None,
) -> dict[str, Any]:
    """Write report.html, plots/, tables/, metrics.json, predictions.parquet and predictions.csv.

    Nothing of an older report stays in the folder, and it stays whole if this one cannot be made.

    Args:
        predictions: One row per face, as ``PredictionWriter`` writes them.
        folder: Where to.
        context: What the metrics must be quoted with.
        images: Gives faces for the tiles; None leaves photos out.
        attention: What the attention modules do; None leaves the section out.

    Returns:
        The content of metrics.json: ``quoted_with``, and what
        :func:`~mtmsa_lightning.evaluation.table_metrics.compute_metrics` returns.

    Raises:
        DataError: If the table has no predictions or no labels.
    """
    typed = read_predictions(predictions)
    with replacing_in(folder, CONTENT) as fresh:
        return _write(typed, predictions, fresh, context, images, attention)


def _write(
    typed: Predictions,
    predictions: pd.DataFrame,
    folder: Path,
    context: ReportContext,
    images: sections.Images | None,
    attention: "Attention | None",
) -> dict[str, Any]:
    for suffix in SUFFIXES:
        write_table(predictions, folder / f"predictions{suffix}")
    found = {"quoted_with": context.quotes()} | compute_metrics(typed)
    write_text(folder / "metrics.json", to_json(found, indent=2) + "\n")
    report = Material(typed, found, folder, context)
    sections.headline(report)
    sections.quotes(report)
    sections.age(report)
    uncertainty(report, predictions)
    sections.classes(report)
    sections.subgroups(report)
    sections.faces(report, images)
    if attention is not None:
        sections.attention(report, attention, photos=images is not None)
    sections.all_metrics(report)
    report.page.write(folder / PAGE)
    return found


def copy_without_faces(folder: Path, target: Path) -> None:
    """Copy the page of a report, its plots and its tables without what shows or names a face.

    Args:
        folder: Folder of the report.
        target: Where to; it is made if it is not there.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in ("plots", "tables"):
        if (folder / name).is_dir():
            shutil.copytree(folder / name, target / name, ignore=shutil.ignore_patterns(*OF_FACES))
    write_text(target / PAGE, without_faces((folder / PAGE).read_text(encoding="utf-8")))
