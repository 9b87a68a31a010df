"""Trivial predictors, beside which every figure should be read."""

import pandas as pd


def constant_age_mae(train: pd.DataFrame, test: pd.DataFrame) -> float:
    """Return the MAE in years of always guessing the mean training age, over the exact test ages.

    Without a training age or an exact test age it is NaN.
    """
    guess = ((train["age_low"] + train["age_high"]) / 2).mean()
    exact = test["age_low"][test["age_low"] == test["age_high"]]
    return float((exact - guess).abs().mean())
