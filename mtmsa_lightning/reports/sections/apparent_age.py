"""Apparent age: predictions against people's guesses."""

import pandas as pd

from mtmsa_lightning.metrics.suite import LEVELS, VOTE_METRICS
from mtmsa_lightning.metrics.votes import VotesCoverage
from mtmsa_lightning.reports.html import Picture
from mtmsa_lightning.reports.plots import age as age_plots
from mtmsa_lightning.reports.report_data import Material


def add_section(report: Material) -> None:
    """Add epsilon error and calibration against the guesses, if the data has their mean and deviation."""
    labelled = report.labelled["votes"]
    if not labelled or report.predictions.age is None:
        return
    report.page.section("Apparent age")
    report.page.table(report.metric_table(VOTE_METRICS))
    equal = int((report.predictions.votes_std == 0).sum())
    report.page.text(
        "Epsilon error: 1 - exp(-(prediction - mean)² / (2 std²)), with mean and standard deviation of the "
        f"guesses of each face; where the standard deviation is 0 ({equal:,} of {labelled:,} faces), 0 for "
        "an exact prediction, else 1. The distance is that of the predicted distribution from the normal "
        "distribution of the guesses."
    )
    if all(report.predictions.age.gives(level / 100) for level in LEVELS):
        report.page.row([votes_coverage(report)])


def votes_coverage(report: Material) -> Picture:
    """Plot the fraction of guesses within prediction intervals over their nominal coverage."""
    predictions, faces = report.predictions, report.labelled["votes"]
    assert predictions.age is not None
    levels = report.curves["interval_coverage"]["level"] if "interval_coverage" in report.curves else []
    levels = levels or [level / 100 for level in LEVELS]
    covered = [
        float(VotesCoverage(level)(predictions.age, predictions.votes_mean, predictions.votes_std))
        for level in levels
    ]
    report.write_table("votes_coverage", pd.DataFrame({"level": levels, "coverage": covered}))
    plot = age_plots.interval_coverage({"guesses of people": (levels, covered)}, faces)
    caption = (
        "Fraction of people's guesses within the prediction intervals of age, over their nominal coverage "
        f"(n = {faces:,}). Above the diagonal, predictions are less certain than people."
    )
    return report.draw("votes_coverage", plot, caption)
