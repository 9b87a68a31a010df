"""All plots of the package with synthetic numbers, including edge cases."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit

from mtmsa_lightning.reports.plots import age as age_plots
from mtmsa_lightning.reports.plots import attention as attention_plots
from mtmsa_lightning.reports.plots import classes as class_plots
from mtmsa_lightning.reports.plots import over_time as over_time_plots
from mtmsa_lightning.reports.plots import thresholds as threshold_plots
from mtmsa_lightning.reports.sections import thresholds as threshold_sections

RNG = np.random.default_rng(0)
NOTHING = np.zeros(0)
LEVELS = np.arange(5, 100, 5) / 100
RACES = ["white", "black", "asian", "indian", "hispanic", "middle eastern", "other"]
GROUPS = ["0-2", "4-6", "8-13", "15-20", "25-32", "38-43", "48-53", "60-100"]
DECADES = [f"{10 * n}-{10 * n + 9}" for n in range(11)]
WHO = ["all", "female", "male", *RACES, *(f"{g}, {race}" for g in ("female", "male") for race in RACES)]


def ages(n: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    true = RNG.integers(0, 101, n).astype(float)
    return true, np.clip(true + RNG.normal(0, 8, n), 0, 115)


def errors(names: list[str], mae: object, bias: object, counts: object = None) -> pd.DataFrame:
    counts = np.linspace(400, 51, len(names)).astype(int) if counts is None else counts
    errors = pd.DataFrame({"age": names, "faces": counts})
    errors["age_mae"], errors["age_bias"] = mae, bias
    return errors.assign(age_mae_low=errors["age_mae"] - 1, age_mae_high=errors["age_mae"] + 1.5)


def face(size: int = 64) -> np.ndarray:
    return RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)


def passed(legal_age: int, rules: list[str], years: np.ndarray) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"ages": years, "rule": rule, "rate": RNG.uniform(0, 1, len(years))}) for rule in rules
    ]
    table = pd.concat(parts).assign(legal_age=legal_age)
    return table.assign(low=0.8 * table["rate"], high=0.2 + 0.8 * table["rate"], faces=60)


def challenges(legal_age: int, scale: float) -> pd.DataFrame:
    threshold = np.arange(legal_age - 10, legal_age + 25.1, 0.5)
    passing = {
        name: expit((middle - threshold) / scale)
        for name, middle in (("false_positive_rate", legal_age - 2), ("true_positive_rate", legal_age + 15))
    }
    return pd.DataFrame({"legal_age": legal_age, "threshold": threshold, **passing})


def differences(true: list[float], wrong: list[float], half: float = 0.02) -> pd.DataFrame:
    true, wrong = np.array(true), np.array(wrong)
    rows = pd.DataFrame({"gap": ["1", "2", "3-4", "5-9", "10-19", "20 or more"][: len(true)], "pairs": 99})
    rows["true"], rows["estimated"], rows["sd"], rows["wrong_order"] = true, 0.8 * true, 5 + true / 5, wrong
    rows["estimated_low"], rows["estimated_high"] = rows["estimated"] - 9 * half, rows["estimated"] + 9 * half
    return rows.assign(wrong_order_low=(wrong - half).clip(0), wrong_order_high=(wrong + half).clip(max=1))


LEGAL_AGES = (13, 16, 18, 21, 25)

PLOTS: dict[str, Callable[[], Figure]] = {
    "cs": lambda: age_plots.cumulative_score(range(31), 1 - np.exp(-np.arange(31) / 5), 1196),
    "cs_low": lambda: age_plots.cumulative_score(range(31), 0.001 * np.arange(31), 1196),
    "cs_high": lambda: age_plots.cumulative_score(range(31), np.ones(31), 1196),
    "cs_one": lambda: age_plots.cumulative_score([0], [1.0], 1),
    "hexagons": lambda: age_plots.predicted_against_true(*ages()),
    "hexagons_edges": lambda: age_plots.predicted_against_true([0, 0, 100, 100, 50], [0, 100, 100, 0, 0]),
    "hexagons_one": lambda: age_plots.predicted_against_true([34.0], [30.0]),
    "hexagons_none": lambda: age_plots.predicted_against_true([np.nan], [30.0]),
    "errors": lambda: age_plots.error_by_age(
        errors(DECADES, 4 + (np.arange(11) - 4) ** 2 / 4, np.linspace(3, -12, 11))
    ),
    "errors_flat": lambda: age_plots.error_by_age(errors(DECADES[:4], 5.0, 5.0)),
    "errors_one": lambda: age_plots.error_by_age(errors(["30-39"], np.nan, np.nan, 1)),
    "coverage": lambda: age_plots.interval_coverage(
        {"before calibration": (LEVELS, LEVELS**2), "calibrated": (LEVELS, LEVELS**0.9)}, 1196,
        {"conformal": ([0.5, 0.8, 0.9, 0.95], [0.55, 0.8, 0.95, 1.0])},
    ),
    "coverage_under": lambda: age_plots.interval_coverage({"predictions": (LEVELS, LEVELS**0.1)}, 1196),
    "coverage_over": lambda: age_plots.interval_coverage({"predictions": (LEVELS, LEVELS**9)}, 1196),
    "coverage_one": lambda: age_plots.interval_coverage(
        {"predictions": ([0.5], [1.0])}, 1, {"conformal": ([0.9], [1.0])}
    ),
    "risk": lambda: age_plots.risk_coverage(
        np.arange(1, 101) / 100, 2 + np.arange(100) / 25, 1196, "MAE of the faces kept (years)", 0.82
    ),
    "risk_flat": lambda: age_plots.risk_coverage([0.5, 1.0], [0.0, 0.0], 2, "MAE (years)"),
    "risk_one": lambda: age_plots.risk_coverage([1.0], [3.0], 1, "MAE (years)", 1.0),
    "risk_none": lambda: age_plots.risk_coverage(NOTHING, NOTHING, 0, "MAE (years)"),
    "reliability": lambda: class_plots.class_reliability(
        (np.arange(15) + 0.5) / 15, np.r_[0.9, np.linspace(0.1, 1, 14)], np.arange(15) ** 3, 0.06, "gender"
    ),
    "reliability_one": lambda: class_plots.class_reliability([1.0], [1.0], [1], 0.0, "race"),
    "reliability_none": lambda: class_plots.class_reliability([np.nan], [np.nan], [0], np.nan, "race"),
    "confusion": lambda: class_plots.confusion(RNG.integers(0, 4000, (8, 8)), GROUPS, "age group (years)"),
    "confusion_absent": lambda: class_plots.confusion(
        np.diag([120, 0, 0, 40, 0, 1, 0]) + np.eye(7, k=1, dtype=int), RACES, "race"
    ),
    "confusion_one": lambda: class_plots.confusion([[7]], ["other"], "race"),
    "confusion_none": lambda: class_plots.confusion(np.zeros((8, 8)), GROUPS, "age group"),
    "subgroups": lambda: class_plots.subgroup_map(
        np.where(RNG.uniform(size=(24, 12)) < 0.4, np.nan, RNG.uniform(2, 20, (24, 12))),
        RNG.integers(0, 3000, (24, 12)), WHO[:24], ["all", *DECADES], "age MAE (years)", 23705,
    ),
    "subgroups_equal": lambda: class_plots.subgroup_map(
        np.full((3, 4), 5.0), np.full((3, 4), 60), WHO[:3], ["all", *DECADES[:3]], "age MAE (years)", 720
    ),
    "subgroups_one": lambda: class_plots.subgroup_map([[5.0]], [[40]], ["all"], ["0-9"], "MAE (years)", 40),
    "subgroups_none": lambda: class_plots.subgroup_map([[np.nan]], [[4]], ["all"], ["0-9"], "MAE (years)", 4),
    "passed": lambda: threshold_plots.passed_by_age(
        pd.concat([passed(age, list(threshold_sections.RULES), np.arange(90)) for age in LEGAL_AGES]),
        threshold_sections.RULES,
    ),
    "passed_one": lambda: threshold_plots.passed_by_age(
        passed(18, ["estimate"], np.array([18])), {"estimate": "estimate"}
    ),
    "challenges": lambda: threshold_plots.challenge_curves(
        pd.concat([challenges(age, 0.2 * age) for age in LEGAL_AGES])
    ),
    "challenges_perfect": lambda: threshold_plots.challenge_curves(challenges(18, 1e-3)),
    "over_time": lambda: over_time_plots.differences(
        differences([1, 2, 3.4, 6.7, 13, 31], [0.44, 0.39, 0.3, 0.19, 0.05, 0]), 0.83
    ),
    "over_time_one": lambda: over_time_plots.differences(differences([3.0], [1.0], np.nan), -0.8),
    "attention": lambda: attention_plots.attention_maps(
        [face() for _ in range(8)],
        {"stage 2": RNG.normal(0, 0.3, (8, 8, 8)), "stage 3": RNG.normal(0, 0.02, (8, 4, 4))},
        [f"{10 * n} years" for n in range(8)],
    ),
    "attention_faint": lambda: attention_plots.attention_maps(
        [face() for _ in range(4)], {"stage 1": RNG.uniform(-5e-5, 5e-5, (4, 4, 4))}, ["3 years"] * 4
    ),
    "attention_zero": lambda: attention_plots.attention_maps(
        [face()], {"stage 1": np.zeros((1, 4, 5))}, ["3 years"]
    ),
    "scales": lambda: attention_plots.scale_weights(
        DECADES,
        {
            f"stage {stage}": {
                f"rate {rate}": 0.3 + 0.05 * number + RNG.normal(0, 0.01, 11)
                for number, rate in enumerate((1, 2, 5))
            }
            for stage in (2, 3)
        },
        23705,
    ),
    "scales_one": lambda: attention_plots.scale_weights(["0-9"], {"stage 1": {"rate 1": [1.0]}}, 1),
}  # fmt: skip
"""Functions that draw plots, by name."""
