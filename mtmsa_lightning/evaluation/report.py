"""The report of a set of predictions: one page, its figures and tables, and the predictions themselves."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mtmsa_lightning.callbacks.predictions import SUFFIXES
from mtmsa_lightning.evaluation import sections
from mtmsa_lightning.evaluation.context import ReportContext
from mtmsa_lightning.evaluation.figures import figures
from mtmsa_lightning.evaluation.material import Material
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.uncertainty import uncertainty
from mtmsa_lightning.runs import write_table, write_text

if TYPE_CHECKING:
    from mtmsa_lightning.evaluation.attention import Attention


def write_report(
    predictions: pd.DataFrame,
    folder: Path,
    context: ReportContext,
    images: sections.Images | None = None,
    attention: "Attention | None" = None,
) -> dict[str, Any]:
    """Write report.html, figures/, tables/, figures.json, predictions.parquet and predictions.csv.

    Args:
        predictions: One row per face, as ``PredictionWriter`` writes them.
        folder: Where to; files of the same names are replaced.
        context: What the figures must be quoted with.
        images: Gives faces for the tiles; None leaves photos out.
        attention: What the attention modules do; None leaves the section out.

    Returns:
        The content of figures.json: ``quoted_with``, and what
        :func:`~mtmsa_lightning.evaluation.figures.figures` returns.

    Raises:
        DataError: If the table has no predictions or no labels.
    """
    typed = read_predictions(predictions)
    for suffix in SUFFIXES:
        write_table(predictions, folder / f"predictions{suffix}")
    found = {"quoted_with": context.quotes()} | figures(typed)
    write_text(folder / "figures.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
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
    sections.all_figures(report)
    report.page.write(folder / "report.html")
    return found
