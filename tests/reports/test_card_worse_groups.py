"""The card lists the groups that a network is significantly worse for."""

from io import StringIO

import pandas as pd
import pytest

from mtmsa_lightning.reports import card_worse_groups
from mtmsa_lightning.reports.card import model_card
from mtmsa_lightning.reports.card_sources import Sources
from mtmsa_lightning.reports.card_worse_groups import worse_groups

TABLE = """by,gender,race,age,metric,faces,value,low,high,overall,difference,p
age,,,10-19,age_mae,100,7.0,5.1,9.0,5.0,2.0,0.01
age,,,20-29,age_mae,400,3.0,2.5,3.5,5.0,-2.0,0.001
age,,,60-69,age_mae,1200,9.0,8.0,10.0,5.0,4.0,0.0
gender,female,,,age_mae,450,5.2,4.9,5.6,5.0,0.2,0.3
gender x age,male,,10-19,age_mae,60,99.0,98.0,100.0,5.0,94.0,0.0
gender x race,female,black,,age_mae,60,6.0,5.5,6.5,5.0,1.0,0.04
age,,,60-69,age_bias,1200,-6.0,-7.0,-5.0,0.1,-6.1,0.0
age,,,30-39,age_bias,500,0.9,0.5,1.2,0.1,0.8,0.0
race,,white,,gender_acc,400,0.8,0.7,0.89,0.9,-0.1,0.01
race,,black,,gender_acc,400,0.95,,,0.9,0.05,0.01
race,,asian,,gender_acc,40,0.85,,,0.9,-0.05,
"""
CHECKPOINT = {
    "hyper_parameters": {
        "age": None, "gender": None, "race": None, "image_size": 64, "crop": 1.0, "msa": None,
        "age_groups": [],
    }
}  # fmt: skip
SAID = {
    "opening": "A sentence.", "heads": ["worst group"], "rows": [("80-89",)], "explained": "Worst.",
    "not_judged": ["Not judged: 2."],
}  # fmt: skip
AGE_60 = ("age MAE (years)", "age 60-69", "1,200", "9.00", "8.00 to 10.00", "5.00")


def sources(text: str = TABLE) -> Sources:
    table = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)
    tables = {"subgroup_differences": table}
    return Sources(CHECKPOINT, "one", training={}, seed=None, tested={}, metrics={}, tables=tables)


def test_groups_that_are_significantly_worse_are_listed_the_worst_first():
    assert worse_groups(sources()) == [
        AGE_60,
        ("age MAE (years)", "age 10-19", "100", "7.00", "5.10 to 9.00", "5.00"),
        ("age MAE (years)", "female, black", "60", "6.00", "5.50 to 6.50", "5.00"),
        ("age bias (years)", "age 60-69", "1,200", "-6.00", "-7.00 to -5.00", "0.10"),
        ("gender accuracy", "white", "400", "80.0 %", "70.0 % to 89.0 %", "90.0 %"),
    ]


def test_long_lists_are_cut(monkeypatch):
    monkeypatch.setattr(card_worse_groups, "MOST", 1)
    assert [row[1] for row in worse_groups(sources())] == ["age 60-69", "age 60-69", "white"]


@pytest.fixture
def said(monkeypatch):
    monkeypatch.setattr("mtmsa_lightning.reports.card.sections.wrong_for", lambda _: SAID)


def test_a_card_lists_them_below_its_table(said):
    section = model_card(sources()).partition("\n## Who it is wrong for\n")[2].partition("\n## ")[0]
    assert f"| {' | '.join(AGE_60)} |\n" in section
    assert section.startswith("\nA sentence.\n\n| worst group |\n| --- |\n| 80-89 |\n\nWorst. ")
    assert section.index("\n\nNot judged: 2.\n\n") < section.index("age 60-69")
    assert "biases of 1 year or more" in section


def test_a_card_says_that_there_are_none(said):
    assert "No group by gender, race or age is significantly worse" in model_card(
        sources(TABLE.splitlines()[0])
    )
