"""The card names the groups that a network is worse for, and those too small to tell."""

from dataclasses import replace
from io import StringIO

import pandas as pd

from mtmsa_lightning.reports import card_failures
from mtmsa_lightning.reports.card import model_card
from mtmsa_lightning.reports.card_failures import failures
from mtmsa_lightning.reports.card_sources import Sources

HEAD = (
    "by,gender,race,age,faces,age_mae,age_mae_low,age_mae_high,age_bias,age_bias_low,age_bias_high,"
    "age_coverage90,age_coverage90_low,age_coverage90_high"
)
ROWS = """
all,,,,900,5.0,4.5,5.5,0.1,-0.2,0.4,0.9,0.88,0.92
age,,,10-19,100,7.0,5.1,9.0,4.0,3.0,5.0,0.8,0.7,0.89
age,,,60-69,200,9.0,8.0,10.0,-6.0,-7.0,-5.0,0.9,0.8,0.95
age,,,80-89,30,,,,,,,,,
gender,female,,,450,5.2,4.9,5.6,0.9,0.5,1.2,0.91,0.9,0.95
race,,white,,400,3.0,2.5,3.5,1.5,-0.1,3.0,0.95,0.9,0.99
gender x race,female,black,,60,6.0,5.5,6.5,,,,0.7,0.6,0.89
gender x race,male,other,,9,,,,,,,,,
gender x age,male,,10-19,60,99.0,98,100,,,,,,
"""
CHECKPOINT = {
    "hyper_parameters": {
        "age": None, "gender": None, "race": None, "image_size": 64, "crop": 1.0, "msa": None,
        "age_groups": [],
    }
}  # fmt: skip


def sources(rows: str = ROWS) -> Sources:
    table = pd.read_csv(StringIO(HEAD + rows), dtype=str, keep_default_na=False)
    tables = {"subgroups": table}
    return Sources(CHECKPOINT, "one", training={}, seed=None, tested={}, metrics={}, tables=tables)


def test_groups_beyond_their_interval_are_listed_the_worst_first():
    assert failures(sources())["rows"] == [
        ("age MAE (years)", "age 60-69", "200", "9.00", "8.00 to 10.00", "5.00"),
        ("age MAE (years)", "age 10-19", "100", "7.00", "5.10 to 9.00", "5.00"),
        ("age MAE (years)", "female, black", "60", "6.00", "5.50 to 6.50", "5.00"),
        ("age bias (years)", "age 60-69", "200", "-6.00", "-7.00 to -5.00", "0.10"),
        ("age bias (years)", "age 10-19", "100", "4.00", "3.00 to 5.00", "0.10"),
        ("age 90 % interval, coverage", "female, black", "60", "70.0 %", "60.0 % to 89.0 %", "90.0 %"),
        ("age 90 % interval, coverage", "age 10-19", "100", "80.0 %", "70.0 % to 89.0 %", "90.0 %"),
    ]
    assert failures(sources())["small"] == ["age 80-89"]


def test_long_lists_are_cut(monkeypatch):
    monkeypatch.setattr(card_failures, "MOST", 1)
    assert [row[1] for row in failures(sources())["rows"]] == ["age 60-69", "age 60-69", "female, black"]


def test_a_card_shows_them_or_that_there_are_none(monkeypatch):
    monkeypatch.setattr("mtmsa_lightning.reports.card.sections.groups", lambda _: {})  # other tables
    section = model_card(sources()).partition("\n## Where it fails\n")[2].partition("\n## ")[0]
    assert "| age MAE (years) | age 60-69 | 200 | 9.00 | 8.00 to 10.00 | 5.00 |\n" in section
    assert "Too few faces to tell (fewer than 50): age 80-89." in section
    none = model_card(sources("\n".join(ROWS.splitlines()[:2])))
    assert "No group is worse than all faces" in none
    assert "## Where it fails\n\nMetrics by group are not recorded" in model_card(
        replace(sources(), tables={})
    )
