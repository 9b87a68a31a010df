import math
from types import SimpleNamespace

import pytest
import torch

from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.calibration.measures import LabelledPredictions
from mtmsa_lightning.data.prepared.format import BOXED
from mtmsa_lightning.data.preprocessing_check import describe_crop
from mtmsa_lightning.models.distributions import GaussianAge
from mtmsa_lightning.reports.calibration_tables import (
    coverage_lines,
    metrics_table,
    thresholds_table,
    why_not_exchangeable,
)


def calibration(covered, quantile=1.7, faces=300) -> Calibration:
    metrics = {"faces": faces, "subjects": 300, "coverage_by_subject": {"90": covered}, "width": {"90": 20.0}}
    metrics |= {"coverage": {"90": covered - 0.05}, "age_nll": 3.5, "age_interval_nll": None}
    on = {"subjects": 100, "unit": "subjects"}
    return Calibration(
        quantiles={0.9: quantile}, fitted_on=on, metrics={"test": dict.fromkeys(("before", "after"), metrics)}
    )


def split(protocol="subject_exclusive", shared=0.0):
    return SimpleNamespace(split=SimpleNamespace(protocol=protocol, subjects_in_two_parts=shared))


def test_a_gap_beyond_three_deviations_is_called_out():
    """sd = sqrt(0.09 (1 / 100 + 1 / 300)) = 3.46 %; 0.7964 and 0.7959 lie on both sides of 3 sd."""
    (line,) = coverage_lines(calibration(0.7964), split())
    assert "covers 79.6 % by subject (sd 3.5 %, gap -3.0 sd)" in line
    assert "chance" not in line
    line, hint = coverage_lines(calibration(0.7959), split())
    assert "beyond 3 sd, chance does not explain it" in line
    assert "look for differences" in hint


def test_with_several_faces_a_subject_the_deviation_is_called_a_bound():
    (line,) = coverage_lines(calibration(0.85, faces=400), split())
    assert "covers 85.0 % by subject (sd at most 3.5 %, gap -1.4 sd or more)" in line


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (split("folds"), "protocol folds does not draw it at random"),
        (split("random", 0.95), "95 % of its images show training subjects"),
    ],
)
def test_parts_that_need_not_be_exchangeable_are_said(data, said):
    assert said in coverage_lines(calibration(0.7), data)[-1]


def test_without_known_subjects_nothing_speaks_against_it():
    assert why_not_exchangeable(split("random", math.nan)) == []


def test_an_infinite_interval_is_said_and_not_judged():
    assert coverage_lines(calibration(1.0, math.inf), split()) == [
        "90 % interval: infinite, 100 subjects are too few"
    ]


def test_the_table_has_a_row_for_each_metric_that_there_is():
    table = metrics_table(calibration(0.887))
    for text in ("90 % interval covers", "83.7 %", "20.00", "age NLL", "3.50", "300 faces"):
        assert text in table
    assert "by subject" not in table, "each has one face"
    several = metrics_table(calibration(0.887, faces=400))
    assert [text in several for text in ("by subject", "83.7 %", "88.7 %")] == [True] * 3
    assert "group NLL" not in table


def test_infinite_intervals_have_no_thresholds():
    ages = torch.linspace(20, 60, 8, dtype=torch.float64)
    raw = GaussianAge(ages + 1, torch.linspace(3, 6, 8, dtype=torch.float64))
    age = Calibration(quantiles={0.9: math.inf}).age(raw)
    said = LabelledPredictions(age, ages, ages, {}, torch.arange(8))
    none = "no --max_width: every 90 % interval is infinite"
    assert thresholds_table(said, groups=False) == none
    table = thresholds_table(said, groups=True)
    assert table.count("inf") == 1
    assert none in table
    assert "--min_group_prob" in table
    assert "--max_width (years)" in thresholds_table(said._replace(age=raw), groups=False)


def test_a_whole_square_is_no_percentage():
    assert describe_crop(1.0, None) == "central square"
    assert describe_crop(1.0, BOXED) == "central square around the face box of the table"
    assert describe_crop(0.85, None) == "central square of 85 % of the shorter side"
