"""What every test face contributes to a figure, recomputed from a table of predictions."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import AGE_GROUP_EDGES

Floats = npt.NDArray[np.float64]

TEXTS = ("id", "file", "subject", "label_gender", "label_race")
CS_YEARS = 5


def read_predictions(file: Path) -> pd.DataFrame:
    """Read a table that ``mtmsa fit``, ``test`` or ``crossval`` has written, ``.parquet`` or ``.csv``.

    Args:
        file: The table.

    Returns:
        The table; texts that are missing are empty.

    Raises:
        DataError: If it cannot be read, has no labels, or has no face.
    """
    try:
        if file.suffix == ".csv":
            texts = dict.fromkeys(TEXTS, "str")
            table = pd.read_csv(file, dtype=texts, keep_default_na=False, na_values={"label_age_low": "",
                                "label_age_high": ""})  # fmt: skip
        else:
            table = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not a readable table of predictions: {error}") from error
    lacking = [name for name in ("id", "label_age_low", "label_age_high") if name not in table]
    if lacking:
        raise DataError(f"{file}: no column {lacking[0]}: give the predictions/test.parquet of a tested run")
    if table.empty:
        raise DataError(f"{file}: holds no face")
    return table


def face_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the score of every face in every metric that is a mean over faces.

    Means of the columns, NaN left out, are the test figures of the same names.

    Args:
        predictions: One row per test face, as ``PredictionWriter`` writes them.

    Returns:
        A column per metric, a row per face; NaN where a metric does not count the face. Metrics that count
        no face, or whose head does not exist, are absent.
    """
    columns: dict[str, Floats] = {}
    if "age_mean" in predictions:
        columns |= _age_scores(predictions)
    columns |= _group_scores(predictions)
    for task in ("gender", "race"):
        columns |= _class_scores(predictions, task)
    scores = pd.DataFrame(columns, index=predictions.index, dtype="float64")
    return scores.dropna(axis="columns", how="all")


def _age_scores(predictions: pd.DataFrame) -> dict[str, Floats]:
    from torch import from_numpy

    from mtmsa_lightning.models.age_distribution import GaussianAge

    mean, std, low, high = (
        predictions[name].to_numpy(np.float64, copy=True)
        for name in ("age_mean", "age_std", "label_age_low", "label_age_high")
    )
    distribution = GaussianAge(from_numpy(mean), from_numpy(std))
    error = np.abs(mean - low)
    nll = -distribution.log_prob(from_numpy(low)).numpy()
    interval_nll = -distribution.log_interval_prob(from_numpy(low - 0.5), from_numpy(high + 0.5)).numpy()
    exact, grouped = low == high, low < high
    return {
        "age_mae": _where(exact, error),
        f"age_cs{CS_YEARS}": _where(exact, error <= CS_YEARS),
        "age_nll": _where(exact, nll),
        "age_interval_nll": _where(grouped, interval_nll),
    }


def _group_scores(predictions: pd.DataFrame) -> dict[str, Floats]:
    """Compare the most probable group with the cell that holds the label's midpoint, an edge going down."""
    groups = [name for name in predictions if str(name).startswith("group_")]
    if not groups:
        return {}
    middle = (predictions["label_age_low"] + predictions["label_age_high"]).to_numpy(np.float64) / 2
    predicted = predictions[groups].to_numpy(np.float64).argmax(axis=1)
    distance = np.abs(predicted - np.searchsorted(AGE_GROUP_EDGES, middle))
    known = ~np.isnan(middle)
    return {"group_acc": _where(known, distance == 0), "group_acc_1off": _where(known, distance <= 1)}


def _class_scores(predictions: pd.DataFrame, task: str) -> dict[str, Floats]:
    """Count the faces whose class the model knows."""
    classes = [str(name) for name in predictions if str(name).startswith(f"{task}_")]
    if not classes or f"label_{task}" not in predictions:
        return {}
    names = np.array([name.removeprefix(f"{task}_") for name in classes], object)
    label = predictions[f"label_{task}"].to_numpy(object)
    predicted = names[predictions[classes].to_numpy(np.float64).argmax(axis=1)]
    return {f"{task}_acc": _where(np.isin(label, names), predicted == label)}


def _where(counted: npt.NDArray[np.bool_], values: npt.ArrayLike) -> Floats:
    return np.where(counted, np.asarray(values, np.float64), np.nan)
