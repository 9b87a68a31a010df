"""Errors of age."""

import pandas as pd

from mtmsa_lightning.evaluation.age_groups import group_confusion, group_names
from mtmsa_lightning.models.distributions import printed_age
from mtmsa_lightning.reports.html import Picture
from mtmsa_lightning.reports.plots import age as age_plots
from mtmsa_lightning.reports.plots import classes as class_plots
from mtmsa_lightning.reports.report_data import Material


def add_section(report: Material) -> None:
    """Add cumulative score, predicted against true age, error by age, and age groups."""
    if not report.aged:
        return
    report.page.section("Age")
    exact = [cumulative_score(report), predicted_against_true(report), error_by_age(report)]
    report.page.row([*(picture for picture in exact if picture is not None), age_groups(report)])


def cumulative_score(report: Material) -> Picture | None:
    """Plot the cumulative score CS@n."""
    if "cumulative_score" not in report.curves:
        return None
    curve, faces = report.curves["cumulative_score"], report.labelled["exact"]
    report.write_table("cumulative_score", pd.DataFrame(curve))
    caption = f"Cumulative score: fraction of faces whose error is at most n years (n = {faces:,})."
    return report.draw(
        "cumulative_score", age_plots.cumulative_score(curve["years"], curve["share"], faces), caption
    )


def predicted_against_true(report: Material) -> Picture | None:
    """Plot predictions against exact ages."""
    predictions, faces = report.predictions, report.labelled["exact"]
    if predictions.age is None or not faces:
        return None
    exact = predictions.age_low == predictions.age_high
    plot = age_plots.predicted_against_true(
        predictions.age_low[exact].numpy(), printed_age(predictions.age.mean[exact]).numpy()
    )
    caption = f"Predicted against true age: counts in hexagons, on a logarithmic scale (n = {faces:,})."
    return report.draw("predicted_against_true", plot, caption)


def error_by_age(report: Material) -> Picture | None:
    """Plot mean absolute error and bias by decade; None without exact ages or with too few faces."""
    if report.subgroups is None or not report.labelled["exact"]:
        return None
    rows = report.subgroups.table
    rows = rows[rows["by"] == "age"]
    rows = rows[["age", "faces", "age_mae", "age_mae_low", "age_mae_high", "age_bias"]]
    report.write_table("error_by_age", rows)
    if rows["age_mae"].isna().all():
        report.page.text(f"No age decade has {report.min_faces} faces: no error by decade is shown.")
        return None
    caption = (
        f"Mean absolute error by decade of the true age, with 95 % bootstrap intervals over {report.units}, "
        f"and bias (prediction minus age); none below {report.min_faces} faces "
        f"(n = {int(rows['faces'].sum()):,})."
    )
    return report.draw("error_by_age", age_plots.error_by_age(rows), caption)


def age_groups(report: Material) -> Picture:
    """Plot the confusion matrix of age groups."""
    matrix, names = group_confusion(report.predictions).numpy(), group_names(report.predictions)
    report.write_confusion("age_groups", matrix, names)
    caption = (
        "Age groups: the likeliest group against that of the label, in percent of the label's faces, with "
        f"counts (n = {int(matrix.sum()):,}). The cells of groups leave no gaps between them. "
        f"Labels of fewer than {report.min_faces} faces show counts only."
    )
    plot = class_plots.confusion(matrix, names, "age group (years)", report.min_faces)
    return report.draw("confusion_age_groups", plot, caption)
