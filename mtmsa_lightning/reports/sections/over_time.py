"""The same person over time: differences between photos, and the person's share of the error."""

import numpy as np
import pandas as pd

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.evaluation.over_time.over_time import OverTime
from mtmsa_lightning.evaluation.over_time.pairs import MOST_PHOTOS
from mtmsa_lightning.evaluation.resampling import MIN_CLUSTERS
from mtmsa_lightning.reports.over_time_text import Row, number, paragraphs, percent
from mtmsa_lightning.reports.plots import over_time as plots
from mtmsa_lightning.reports.report_data import Material


def add_section(report: Material, found: OverTime | None) -> None:
    """Add pairs of photos of one person, the parts of the error, and the gain of several photos.

    One sentence if no known person has two photos of different ages, nothing if no person is known.
    """
    if not report.aged or report.units != "subjects":
        return
    report.page.section("The same person over time")
    if found is None:
        report.page.text("Not evaluated: no person has two photos with different exact ages.")
        return
    for text in paragraphs(*(table.to_dict("records") for table in found.tables.values())):
        report.page.text(text)
    for name, table in found.tables.items():
        report.write_table(f"over_time_{name}", table)
    add_pairs(report, found)
    if found.variance["icc"].notna().any():
        report.page.table(variance_rows(found.variance), VARIANCE_CAPTION)
        report.page.table(averaging_rows(found.averaging), AVERAGING_CAPTION)


def add_pairs(report: Material, found: OverTime) -> None:
    """Add the plot and the table of pairs."""
    every = found.gaps.iloc[-1]
    caption = (
        "Left: estimated against true difference of age of two photos of one person. Right: share of the "
        "pairs of each difference that are put in the wrong order; guessing gives 50 %."
    )
    plot = plots.differences(found.gaps[:-1], float(every["slope"]))
    report.page.row([report.draw("over_time", plot, caption)])
    many = pluralize(found.sampled, "person", "people")
    drawn = f" Of {many} with more photos, {MOST_PHOTOS} each were drawn by a fixed seed."
    report.page.table(gap_rows(found.gaps), GAP_CAPTION + (drawn if found.sampled else ""))


GAP_CAPTION = (
    "Two photos of one person by the true difference of their ages, in years. All pairs count equally, so a "
    "person with n photos counts n (n - 1) / 2 times: the largest share of one person is given, and the last "
    "column counts each person once instead. Equal estimates count as half a wrong order. Ages are completed "
    "years, so photos with a difference of 1 are up to 2 years apart. In brackets 95 % intervals by subject, "
    f"for {MIN_CLUSTERS} people or more."
)

VARIANCE_CAPTION = (
    "Parts of the error as standard deviations in years. The first row is used here: what happens to all "
    "people of an age, such as old people who are estimated too young, is nobody's own. In the errors as "
    "they are it would count as the person's where a person's photos are of near ages, and as the photo's "
    "where they span many years. Intraclass correlation: the person's part of the variance without the "
    "common part."
)

AVERAGING_CAPTION = (
    "Error in years of the mean of several photos of one person at one age: expected from the parts of the "
    "error, and measured on means of photos in this test, after removing the mean error of their ages and "
    "adding that of one of them. Photos of one day share light, camera and looks, and gain less."
)


def gap_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the differences between photos as texts."""
    rows = [
        {
            "years apart": row["gap"],
            "pairs": f"{row['pairs']:,}",
            "people": f"{row['subjects']:,}",
            "of one person": f"{100 * row['most_of_one']:.1f} %",
            "estimated": number(row, "estimated", 1),
            "bias": number(row, "bias"),
            "MAE": number(row, "mae"),
            "wrong order": percent(row, "wrong_order"),
            "each person once": f"{100 * row['wrong_order_by_subject']:.1f} %",
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(rows)


def variance_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the parts of the error as texts."""
    rows = [
        {
            "errors": row["errors"],
            "common": number(row, "common_sd"),
            "between people": number(row, "between_sd"),
            "within a person": number(row, "within_sd"),
            "intraclass correlation": number(row, "icc"),
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(rows)


def averaging_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of the mean of several photos as texts."""
    rows = [
        {
            "photos": "any number" if np.isinf(row["photos"]) else f"{row['photos']:.0f}",
            "expected RMSE": number(row, "rmse_predicted"),
            "measured RMSE": number(row, "rmse"),
            "measured MAE": number(row, "mae"),
            "people with as many": "-" if np.isnan(row["subjects"]) else f"{row['subjects']:,.0f}",
            "their RMSE and MAE of one photo": _single(row),
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(rows)


def _single(row: Row) -> str:
    if np.isnan(row["rmse_single"]):
        return "-"
    return f"{row['rmse_single']:.2f} and {row['mae_single']:.2f}"
