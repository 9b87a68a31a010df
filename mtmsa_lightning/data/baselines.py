"""Metrics of constant predictions, as a baseline."""

from collections.abc import Mapping, Sequence

import pandas as pd

from mtmsa_lightning.data.face_table import SPLITS
from mtmsa_lightning.data.splits.split import Split
from mtmsa_lightning.labels import age_group_edges, age_group_index


def constant_age_mae(train: pd.DataFrame, test: pd.DataFrame) -> float:
    """Return the MAE in years of the mean training age, over the exact test ages; NaN without either."""
    exact = test["age_low"][test["age_low"] == test["age_high"]]
    return float((exact - midpoints(train).mean()).abs().mean())


def baselines(
    train: pd.DataFrame, part: pd.DataFrame, age_groups: Sequence[Sequence[int]] = ()
) -> dict[str, float]:
    """Return the metrics of constant predictions that are fitted to the training faces.

    Args:
        train: Rows of a face table to fit the constants to.
        part: Rows to evaluate.
        age_groups: The dataset's age groups; empty for none.

    Returns:
        ``age_mae_of_mean`` and ``age_mae_of_median`` (years), ``age_cs5_of_mean`` and ``age_cs5_of_median``
        (fraction of exact ages within five years), ``gender_acc`` and ``race_acc`` (of the most frequent
        training class, the first on ties), ``group_acc`` and ``group_acc_1off`` (of the most frequent age
        group). Metrics without labels are omitted.
    """
    metrics: dict[str, float] = {}
    middle, exact = midpoints(train), part["age_low"][part["age_low"] == part["age_high"]]
    if len(middle) and len(exact):
        for name, guess in (("mean", middle.mean()), ("median", middle.median())):
            error = (exact - guess).abs()
            metrics[f"age_mae_of_{name}"] = float(error.mean())
            metrics[f"age_cs5_of_{name}"] = float((error <= 5).mean())
    for column in ("gender", "race"):
        learnt, known = (rows[column][rows[column] >= 0] for rows in (train, part))
        if len(learnt) and len(known):
            metrics[f"{column}_acc"] = float((known == learnt.mode()[0]).mean())
    if age_groups:
        edges = age_group_edges(age_groups)
        learnt, known = (
            midpoints(rows).map(lambda age: age_group_index(age, edges)) for rows in (train, part)
        )
        if len(learnt) and len(known):
            away = (known - learnt.mode()[0]).abs()
            metrics["group_acc"] = float((away == 0).mean())
            metrics["group_acc_1off"] = float((away <= 1).mean())
    return metrics


def baselines_by_part(
    faces: pd.DataFrame, split: Split, age_groups: Sequence[Sequence[int]] = ()
) -> Mapping[str, dict[str, float]]:
    """Return the :func:`baselines` of every part of a split that has faces."""
    rows = {part: faces.iloc[getattr(split, part)] for part in SPLITS}
    return {part: baselines(rows["train"], rows[part], age_groups) for part in SPLITS if len(rows[part])}


def midpoints(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the midpoints of all known ages in years."""
    return ((table["age_low"] + table["age_high"]) / 2).dropna()
