"""Decisions at legal ages as a report and a card show them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up_plots import challenges, passed
from test_report import CALIBRATION, CONTEXT, Page

from mtmsa_lightning.calibration.policy import AgePolicy
from mtmsa_lightning.evaluation.proportions import wilson
from mtmsa_lightning.reports import card_sections
from mtmsa_lightning.reports.card_sources import Sources
from mtmsa_lightning.reports.plots import thresholds as plots
from mtmsa_lightning.reports.policy_text import rate_cells, too_few_text
from mtmsa_lightning.reports.report import write_report
from mtmsa_lightning.reports.report_options import ReportOptions
from mtmsa_lightning.reports.sections.thresholds import kept_promise

POLICY = AgePolicy(18, yes_from=20.0, no_below=12.0)


def test_page_and_card_say_who_passes_and_whether_the_policy_holds(simulated, tmp_path, undrawn):
    """The legal age of the policy is added to the one that is asked for."""
    table = simulated(600)
    calibration = CALIBRATION | {"policies": [POLICY.to_dict()], "quantiles": {}}
    context = replace(CONTEXT, calibration=calibration)
    write_report(
        table, tmp_path, context, options=ReportOptions(20, True, legal_ages=(21,), cell_ages=(20, 29))
    )
    page = Page(tmp_path / "report.html")
    young = table[table["label_age_low"].between(13, 17)]
    passing = (young["age_mean"] >= 20).mean()
    for said in (
        "Decisions at legal ages", "estimate >= 28", "yes from an estimate of 20 years",
        "at most 1 % of people aged 13 to 17 get a yes", "Share taken to be 13 to 16",
        f"On the test faces {100 * passing:.1f} % (", "more than promised and than chance explains",
        "Worst group aged 18 or older with 20 faces or more", "of those aged 18 to 22 get a no",
        "young adults who do not pass (18 to 22)", "18 or older: decisions",
        "cells of sex and single age, 20 to 29",
        "worst group: ",
    ):  # fmt: skip
        assert said in page.text, said
    assert "The checkpoint has no policy" not in page.text
    assert "refused" not in page.text
    tables = {
        name: pd.read_csv(tmp_path / "tables" / f"{name}.csv", dtype=str, keep_default_na=False)
        for name in ("thresholds", "age_errors")
    }
    assert set(tables["thresholds"]["legal_age"]) == {"18", "21"}
    found = card_sections.decisions(Sources({"calibration": calibration}, "a", {}, 0, {}, {}, tables))
    few = tables["thresholds"].query("note != ''")
    assert set(few["note"]) == {"fewer than 20 faces"}
    assert (few["faces"].astype(int) < 20).all()
    assert set(few["rate"]) == set(few["low"]) == {""}
    group = few.query("rule == 'policy' and by == 'race' and who == 'minors'").iloc[0]
    counts = f"- ({group['errors']} of {group['faces']})"
    assert counts in page.text
    assert counts in (tmp_path / "tables" / "decisions_at_legal_ages-3.tex").read_text()
    assert {row[1] for row in found["rows"]} == {
        "estimate >= 18", "estimate >= 25", "estimate >= 21", "estimate >= 28",
        "yes from an estimate of 20 years",
    }  # fmt: skip
    assert found["policies"][0].startswith("18 or older: yes from an estimate of 20 years")
    assert [name for name, *_ in found["errors"]][1] == "mean of faces"
    assert card_sections.decisions(Sources({}, "a", {}, 0, {}, {}, {})) == {
        "policies": [], "rows": [], "errors": [],
    }  # fmt: skip


def test_legal_ages_without_minors_or_adults_are_named(simulated, tmp_path, undrawn):
    old = simulated(60).assign(label_age_low=60.0, label_age_high=64.0)
    write_report(old, tmp_path, CONTEXT, options=ReportOptions(legal_ages=(16, 18, 120)))
    text = Page(tmp_path / "report.html").text
    said = "at 16, 18 there are no minors; at 120 there are no adults."
    assert f"Not evaluated: among the test faces, {said}" in text
    assert "Each row is one way to decide" not in text
    assert "Error by sex and age" not in text


@pytest.mark.parametrize(
    ("errors", "faces", "said", "mark"),
    [
        (0, 3, "no more than promised: too few to tell", ""),
        (2, 150, "more than promised, which chance may explain: too few to tell", ""),
        (0, 500, "as promised", "good"),  # its interval ends at 0.8 %
        (2, 299, "as promised", "good"),  # as many as a fit takes
        (9, 300, "more than promised and than chance explains", "warning"),
    ],
)
def test_a_promise_is_kept_broken_or_open(errors, faces, said, mark):
    low, high = wilson(np.array([errors]), np.array([faces]))
    row = {"rate": errors / faces, "low": low[0], "high": high[0], "subjects": faces}
    text, found = kept_promise(POLICY, row)
    assert text.startswith(said)
    assert found == mark


def test_shares_stand_with_the_number_of_subjects():
    group = {"faces": 67, "subjects": 66, "yes": 4 / 66, "no": 0.5}
    cells = rate_cells({"minors": group, "adults": group, "all_adults": group})
    assert cells == ["6.06 % of 66", "50 % of 66", "6.06 % of 66", "6.06 % of 66"]


def test_too_few_minors_are_an_answer_with_ways_out():
    policy = AgePolicy(18)
    assert too_few_text(policy, 299, 299, "calibration") == ""
    text = too_few_text(policy, 60, 400, "val")
    assert "takes 299 subjects aged 13 to 17 without a single error; the val part has 60" in text
    assert "--near_years 18, which counts all 400 people below 18" in text
    assert "--max_fpr 0.049, the smallest rate that 60 can show" in text  # 1 - 0.05 ** (1 / 60) = 0.0487
    assert "--on_average true" in too_few_text(policy, 120, 120, "val")
    assert "smallest rate" not in too_few_text(policy, 0, 0, "val")


def test_passing_is_drawn_by_age():
    table = passed(18, ["estimate"], np.arange(10, 30))
    table["faces"] = np.where(table["ages"] == 12, 3, 60)
    (axes,) = plots.passed_by_age(table, {"estimate": "by estimate"}, min_faces=50).axes
    faint, line, limit = axes.lines
    assert faint.get_alpha() < 0.5
    wanted = np.where(table["ages"] < 18, table["rate"], 1 - table["rate"])
    np.testing.assert_allclose(faint.get_ydata(), 100 * wanted)
    np.testing.assert_allclose(line.get_ydata(), np.where(table["ages"] == 12, np.nan, 100 * wanted))
    assert limit.get_xdata()[0] == 17.5


def test_curves_of_both_errors_mark_the_legal_age():
    table = challenges(18, 3.0)
    roc, det = plots.challenge_curves(table).axes
    here = table[table["threshold"] == 18].iloc[0]
    (x,), (y,) = roc.lines[1].get_data()
    assert (x, y) == pytest.approx((100 * here["false_positive_rate"], 100 * here["true_positive_rate"]))
    assert len(det.lines[1].get_xdata()) == 1
