"""The same person over time as a report and a card show it."""

import numpy as np
import pandas as pd
import pytest
from made_up_plots import differences
from test_report import CONTEXT, Page

from mtmsa_lightning._utils.strict_json import from_json
from mtmsa_lightning.reports import card_sections
from mtmsa_lightning.reports.card_sources import Sources
from mtmsa_lightning.reports.over_time_text import number, percent
from mtmsa_lightning.reports.plots import over_time as plots
from mtmsa_lightning.reports.report import write_report


def test_page_and_card_say_how_pairs_are_ordered_and_whose_the_error_is(simulated, tmp_path, undrawn):
    table = simulated(600)
    write_report(table, tmp_path, CONTEXT)
    read = {
        name: pd.read_csv(tmp_path / "tables" / f"over_time_{name}.csv")
        for name in ("gaps", "variance", "averaging")
    }
    far = read["gaps"].set_index("gap").loc["20 or more"]
    joined = table.dropna(subset="label_age_low").merge(table, on="subject")
    years = joined["label_age_low_y"] - joined["label_age_low_x"]
    apart = (joined["age_mean_y"] - joined["age_mean_x"])[years >= 20]
    assert (far["pairs"], far["wrong_order"]) == (len(apart), pytest.approx((apart < 0).mean()))
    text = Page(tmp_path / "report.html").text
    single, *_, every = read["averaging"].to_dict("records")
    own = read["variance"]["between_share"][0]
    for said in (
        "The same person over time", "180 people have photos of different ages",
        f"of those 20 or more years apart, {100 * (apart < 0).mean():.1f} % (",
        f"Of the mean squared error, {100 * own:.0f} % (", "stays however many photos are taken",
        f"years instead of {single['rmse_predicted']:.1f} (", f"below {every['rmse_predicted']:.1f} (",
        "counts n (n - 1) / 2 times", "any number",
    ):  # fmt: skip
        assert said in text, said
    assert "drawn by a fixed seed" not in text
    assert single["mae"] == pytest.approx((table["age_mean"] - table["label_age_low"]).abs().mean())
    metrics = from_json((tmp_path / "metrics.json").read_text())
    paragraphs = card_sections.over_time(Sources({}, "a", {}, 0, {}, metrics, {}))
    assert len(paragraphs) == 2
    assert all(each in text for each in paragraphs)
    assert card_sections.over_time(Sources({}, "a", {}, 0, {}, {}, {})) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop_duplicates("subject"), True),
        (lambda table: table.assign(label_age_high=table["label_age_low"] + 5), True),
        (lambda table: table.assign(subject=""), False),
    ],
    ids=["one photo each", "age groups", "unknown people"],
)
def test_without_two_ages_of_a_person_a_report_says_so(simulated, tmp_path, undrawn, change, said):
    found = write_report(change(simulated(60)), tmp_path, CONTEXT)
    text = Page(tmp_path / "report.html").text
    assert "over_time" not in found
    assert ("The same person over time" in text) == said
    assert ("Not evaluated: no person has two photos with different exact ages." in text) == said


def test_two_people_have_sentences_without_intervals(simulated, tmp_path, undrawn):
    write_report(simulated(60).head(6), tmp_path, CONTEXT)
    text = Page(tmp_path / "report.html").text
    assert "2 people have photos of different ages" in text
    assert "is the person's own" in text
    assert "nan" not in text


def test_numbers_stand_with_their_intervals():
    row = {"x": 0.1234, "x_low": 0.1, "x_high": 0.2, "y": 0.5, "y_low": np.nan, "y_high": np.nan, "z": np.nan}
    assert (number(row, "x", 1), number(row, "y"), number(row, "z")) == ("0.1 (0.1 to 0.2)", "0.50", "-")
    assert (percent(row, "x"), percent(row, "y", 0)) == ("12.3 % (10.0 to 20.0)", "50 %")


def test_differences_are_drawn_in_years_and_wrong_order_in_percent():
    rows = differences([1, 2, 3.4], [0.44, 0.39, 0.7])
    left, right = plots.differences(rows, 0.8).axes
    band = left.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx((rows["estimated"] + rows["sd"]).max())
    np.testing.assert_allclose(left.lines[1].get_ydata(), [0, 0.8 * 3.4])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [44, 39, 70])
    assert right.get_ylim()[1] > 72
