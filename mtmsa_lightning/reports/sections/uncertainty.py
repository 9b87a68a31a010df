"""The uncertainty of age: coverage, calibration, risk, unsure faces."""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch

from mtmsa_lightning.calibration.conformal import coverage_deviation
from mtmsa_lightning.calibration.measures import LabelledPredictions, calibration_metrics
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.resampling import cluster_numbers, sampling_units
from mtmsa_lightning.evaluation.table_metrics import scalars
from mtmsa_lightning.metrics.suite import LEVELS
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_metric, main_metric
from mtmsa_lightning.reports.html import Picture
from mtmsa_lightning.reports.plots import age as age_plots
from mtmsa_lightning.reports.report_data import Material


def add_section(report: Material, table: pd.DataFrame) -> None:
    """Add coverage, risk, calibration and, from the column ``unsure`` of the table, unsure faces."""
    if not report.aged or "interval_coverage" not in report.curves:
        return
    report.page.section("Uncertainty of age")
    pictures = [interval_coverage(report)]
    if "risk_coverage" in report.curves:
        pictures.append(risk_coverage(report, table))
    report.page.row(pictures)
    add_calibration(report)
    report.page.table(interval_table(report), f"{interval_kind(report)} intervals of age")
    if "unsure" in table:
        report.page.text(unsure_text(report, table))


def interval_kind(report: Material) -> str:
    """Return the kind of the predicted intervals; a calibration replaces the central ones."""
    return "Conformal" if report.calibration is not None and report.calibration.quantiles else "Central"


def interval_coverage(report: Material) -> Picture:
    """Plot the coverage of age intervals, before and after calibration where both are known."""
    found, faces = report.curves["interval_coverage"], report.labelled["age"]
    report.write_table("interval_coverage", pd.DataFrame(found))
    curves: dict[str, Any] = {}
    if before := before_calibration(report):
        levels = [float(level) / 100 for level in before["coverage"]]
        curves["before calibration"] = (levels, list(before["coverage"].values()))
    name = "predictions" if report.calibration is None else "calibrated"
    fitted = report.calibration.quantiles if report.calibration is not None else {}
    finite = [level for level, quantile in fitted.items() if quantile < math.inf]
    covered = pd.Series(found["coverage"], index=found["level"], dtype="float64")
    central, conformal = covered.drop(list(fitted), errors="ignore"), covered.reindex(finite).dropna()
    curves[name] = (central.index, central)
    points = {"conformal": (conformal.index, conformal)} if len(conformal) else {}
    caption = (
        "Reliability of age: how often the label lies in the prediction intervals, over their nominal "
        f"coverage (n = {faces:,}). Below the diagonal, intervals are too narrow."
    )
    if report.labelled["group"]:
        caption += " An age group counts as covered if the interval contains all of it."
    return report.draw("interval_coverage", age_plots.interval_coverage(curves, faces, points), caption)


def risk_coverage(report: Material, table: pd.DataFrame) -> Picture:
    """Plot the error of the most certain faces, and the fraction that a threshold of width keeps."""
    curve, exact = report.curves["risk_coverage"], report.labelled["exact"]
    faces = exact or report.labelled["age"]
    title, factor = ("MAE of the faces kept (years)", 1) if exact else ("wrong groups of those kept (%)", 100)
    report.write_table("risk_coverage", pd.DataFrame(curve))
    by_width = report.calibration is not None and report.calibration.min_group_prob is None
    kept = float(1 - table["unsure"].mean()) if "unsure" in table and by_width else None
    plot = age_plots.risk_coverage(curve["coverage"], factor * np.array(curve["risk"]), faces, title, kept)
    caption = (
        "Risk and coverage: the error of the faces that are kept when those with the largest predicted "
        f"standard deviation are rejected (n = {faces:,})."
    )
    return report.draw("risk_coverage", plot, caption)


def add_calibration(report: Material) -> None:
    """Describe the calibration of the checkpoint, if there is one."""
    calibration, page = report.calibration, report.page
    if report.context.predictions:
        return
    if calibration is None:
        page.text(
            "Not calibrated: standard deviations, intervals and probabilities are the network's own; `mtmsa "
            "calibrate` fits them on held-out faces."
        )
        return
    text = calibration.describe()
    page.text(f"{text[0].upper()}{text[1:]}.")
    if calibration.at_limit:
        page.text(f"Calibration {calibration.describe_limit()}.", "warning")
    if calibration.fitted_on["chose_checkpoint"]:
        page.text(
            "The calibration was fitted on the part that also chose the checkpoint: coverage on new faces "
            "may be lower than its target.",
            "warning",
        )


def interval_table(report: Material) -> pd.DataFrame:
    """Return coverage, target and mean width of the intervals, after and before calibration."""
    before, by_subject = before_calibration(report), coverage_by_subject(report)
    fitted = {} if report.calibration is None else report.calibration.quantiles
    rows = []
    for level in [level for level in LEVELS if f"age_coverage{level}" in report.scalars]:
        coverage, width = f"age_coverage{level}", f"age_width{level}"
        row = {
            "target": f"{level} %",
            "coverage": format_metric(coverage, report.scalars[coverage]),
            "mean width (years)": format_metric(width, report.scalars[width]),
        }
        infinite = fitted.get(level / 100) == math.inf
        if infinite:
            row["mean width (years)"] = "infinite"
        if interval_kind(report) == "Conformal":
            if report.units == "subjects":  # else the same as the coverage
                row["by subject"] = format_metric(coverage, by_subject[f"{level}"])
            row["gap to target"] = "-" if infinite else gap_to_target(report, level, by_subject[f"{level}"])
        if before is not None:
            row["coverage before"] = format_metric(coverage, before["coverage"][f"{level}"])
            row["width before"] = format_metric(width, before["width"][f"{level}"])
        rows.append(row)
    return pd.DataFrame(rows)


def before_calibration(report: Material) -> dict[str, Any] | None:
    """Return the metrics of the same faces before calibration; None if they were not recorded."""
    if report.calibration is None:
        return None
    fitted_on, data = report.calibration.fitted_on, report.context.data
    same = ("dataset", "protocol", "fold", "split_seed", "label_rule")
    parts_differ = data["fingerprints"].get(fitted_on["part"]) != fitted_on["fingerprint"]
    if parts_differ or any(fitted_on.get(key) != data[key] for key in same):
        return None
    before: dict[str, Any] = report.calibration.metrics.get("test", {}).get("before", {})
    return before if "coverage" in before else None


def coverage_by_subject(report: Material) -> dict[str, float | None]:
    """Return, by level in percent, the mean over subjects of the fraction of covered faces.

    A conformal interval guarantees this coverage, that of a face of a new subject.
    """
    predictions = report.predictions
    units = sampling_units(predictions.ids, predictions.subjects)
    numbers = torch.from_numpy(cluster_numbers(units, len(predictions)))
    faces = LabelledPredictions(predictions.age, predictions.age_low, predictions.age_high, {}, numbers)
    found: dict[str, float | None] = calibration_metrics(faces)["coverage_by_subject"]
    return found


def gap_to_target(report: Material, level: int, covered: float | None) -> str:
    """Return the distance of coverage by subject from its target, in standard deviations of chance.

    It is a lower bound with several faces per subject, see ``conformal.coverage_deviation``.
    """
    if covered is None or report.calibration is None:
        return "-"
    aged = ~report.predictions.age_low.isnan().numpy()
    tested = len(set(sampling_units(report.predictions.ids[aged], report.predictions.subjects[aged])))
    deviation = coverage_deviation(level / 100, report.calibration.fitted_on["subjects"], tested)
    least = " or more" if aged.sum() > tested else ""
    return f"{(covered - level / 100) / deviation:+z.1f} sd{least}"


def unsure_text(report: Material, table: pd.DataFrame) -> str:
    """Return how many faces are unsure, and the error of the others."""
    unsure = table["unsure"].astype(bool)
    text = f"{100 * unsure.mean():.1f} % of the faces ({int(unsure.sum()):,}) are unsure"
    if unsure.all():
        return f"{text}."
    name = main_metric(report.scalars)
    kept = format_metric(name, scalars(read_predictions(table[~unsure])).get(name))
    everyone = format_metric(name, report.scalars.get(name))
    return f"{text}; {METRIC_BY_NAME[name].title} of the others {kept}, of all {everyone}."
