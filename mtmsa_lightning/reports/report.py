"""The report of a table of predictions: a page, plots, tables, metrics, and the predictions."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mtmsa_lightning._utils.atomic_write import replacing_in, write_table, write_text
from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning.evaluation.over_time.over_time import over_time
from mtmsa_lightning.evaluation.predictions import SUFFIXES, read_predictions
from mtmsa_lightning.evaluation.stress import StressedAges
from mtmsa_lightning.evaluation.table_metrics import compute_metrics
from mtmsa_lightning.reports import latex
from mtmsa_lightning.reports.html import without_faces
from mtmsa_lightning.reports.report_context import ReportContext
from mtmsa_lightning.reports.report_data import Material
from mtmsa_lightning.reports.report_options import DEFAULT_OPTIONS, ReportOptions
from mtmsa_lightning.reports.sections import (
    age,
    apparent_age,
    classes,
    faces,
    fairness,
    headline,
    subgroups,
    thresholds,
    uncertainty,
)
from mtmsa_lightning.reports.sections import attention as attention_section
from mtmsa_lightning.reports.sections import over_time as over_time_section
from mtmsa_lightning.reports.sections import stress as stress_section

PAGE = "report.html"

CONTENT = ("plots", "tables", *(f"predictions{suffix}" for suffix in SUFFIXES), "metrics.json", PAGE)
"""Content of a report, in the order in which it replaces that of an older one."""

OF_FACES = ("attention_maps.*", "faces.csv")  # plots and tables that show or name individual faces

if TYPE_CHECKING:
    from mtmsa_lightning.evaluation.attention import Attention


def write_report(
    predictions: pd.DataFrame,
    folder: Path,
    context: ReportContext,
    images: faces.Images | None = None,
    attention: "Attention | None" = None,
    stress: StressedAges | None = None,
    options: ReportOptions = DEFAULT_OPTIONS,
) -> dict[str, Any]:
    """Write report.html, plots/, tables/, metrics.json, predictions.parquet and predictions.csv.

    An older report in the folder is replaced completely, or kept if this one cannot be made.

    Args:
        predictions: One row per face, as ``PredictionWriter`` writes them.
        folder: Folder of the report.
        context: What the metrics must be quoted with.
        images: Returns the faces to show; None shows no photos.
        attention: Gates and weights of the attention modules; None skips the section.
        stress: Ages of changed photos; None skips the section.
        options: What the user chose.

    Returns:
        The content of metrics.json: ``quoted_with``, ``min_faces``, the result of ``compute_metrics``, and
        the tables ``over_time`` where people have photos of different ages.

    Raises:
        DataError: If the table has no predictions or no labels.
    """
    typed = read_predictions(predictions)
    with replacing_in(folder, CONTENT) as fresh:
        for suffix in SUFFIXES:
            write_table(predictions, fresh / f"predictions{suffix}")
        found = {"quoted_with": context.quotes(), "min_faces": options.min_faces}
        found |= compute_metrics(typed, options.min_faces)
        found |= {"sources": context.sources} if context.sources else {}
        same_person = over_time(typed)
        found |= {"over_time": same_person.to_dict()} if same_person is not None else {}
        write_text(fresh / "metrics.json", to_json(found, indent=2) + "\n")
        report = Material(typed, found, fresh, context, options.min_faces, options.paper)
        headline.add_headline(report)
        fairness.add_section(report)
        headline.add_sources(report)
        headline.add_quotes(report)
        age.add_section(report)
        uncertainty.add_section(report, predictions)
        apparent_age.add_section(report)
        classes.add_section(report)
        subgroups.add_section(report)
        over_time_section.add_section(report, same_person)
        thresholds.add_section(report, predictions, options.legal_ages, options.cell_ages)
        if stress is not None:
            stress_section.add_section(report, stress)
        faces.add_section(report, images)
        if attention is not None:
            attention_section.add_section(report, attention, photos=images is not None)
        headline.add_all_metrics(report)
        if options.paper:
            latex.write_tables(report.page.tables(), fresh / "tables", context.about, context.quotes())
        report.page.write(fresh / PAGE)
        return found


def copy_without_faces(folder: Path, target: Path) -> None:
    """Copy the page, plots and tables of a report to a folder, without what shows or names faces."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("plots", "tables"):
        if (folder / name).is_dir():
            shutil.copytree(folder / name, target / name, ignore=shutil.ignore_patterns(*OF_FACES))
    write_text(target / PAGE, without_faces((folder / PAGE).read_text(encoding="utf-8")))
