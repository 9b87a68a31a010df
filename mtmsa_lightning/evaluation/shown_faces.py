"""The best, the worst, and the most uncertain faces of a table of predictions."""

import pandas as pd
import torch

from mtmsa_lightning.evaluation.predictions import Predictions
from mtmsa_lightning.models.distributions import printed_age

SHOWN = 8
"""Number of faces of each kind."""


def faces_to_look_at(predictions: Predictions, count: int = SHOWN) -> dict[str, pd.DataFrame]:
    """Return tables of the faces with the smallest error, the largest error, and the largest predicted std.

    Their columns are ``id, label, prediction, std, low90, high90, error``, in years; prediction and ends are
    cut at 0. The error, of the uncut prediction, is the distance to the label or to the nearest end of a
    group, 0 inside, NaN without a label. Equal errors are sorted by std. std and ends are NaN where the
    predictions have none; without a std no face is uncertain. Empty without an age head.
    """
    if predictions.age is None:
        return {}
    age, low, high = predictions.age, predictions.age_low, predictions.age_high
    low90, high90 = map(printed_age, age.interval(0.9)) if age.gives(0.9) else (torch.nan, torch.nan)
    faces = pd.DataFrame(
        {
            "id": predictions.ids,
            "label": [age_text(*pair) for pair in zip(low.tolist(), high.tolist(), strict=True)],
            "prediction": printed_age(age.mean),
            "std": age.std if age.gives() else torch.nan,
            "low90": low90,
            "high90": high90,
            "error": (low - age.mean).clamp(min=0) + (age.mean - high).clamp(min=0),
        }
    )
    known = faces.dropna(subset="error")
    shown = {
        "best": known.sort_values(["error", "std"], kind="stable").head(count),
        "worst": known.sort_values(["error", "std"], ascending=[False, True], kind="stable").head(count),
    }
    if age.gives():
        shown["most uncertain"] = faces.sort_values("std", ascending=False, kind="stable").head(count)
    return shown


def age_text(low: float, high: float) -> str:
    """Format an age label: ``34``, ``25-32``, or ``unknown``.

    >>> age_text(34, 34), age_text(25, 32), age_text(float("nan"), float("nan"))
    ('34', '25-32', 'unknown')
    """
    if low != low:
        return "unknown"
    return f"{low:.0f}" if low == high else f"{low:.0f}-{high:.0f}"
