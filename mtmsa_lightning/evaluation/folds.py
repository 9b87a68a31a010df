"""The folder of a cross-validation: summary, and predictions pooled over folds.

- ``summary.json``: everything below, with both standard deviations.
- ``summary.csv``: a row per run, then mean and standard deviations; ``summary.md`` and
  ``summary.tex`` are the same as Markdown and LaTeX.
- ``predictions/seed<s>.parquet``: the test faces of all folds, with a column ``fold``.
- ``report-seed<s>/``: the report on them, with plots and tables.
- ``logs/``: the output of each run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning.data.splits.split import shared_fraction
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.evaluation.face_scores import face_scores, metrics_of_means, read_faces
from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.resampling import (
    MIN_CLUSTERS,
    bootstrap_means,
    interval,
    sampling_units,
)
from mtmsa_lightning.evaluation.table_metrics import scalars
from mtmsa_lightning.settings.defaults import DRAWS

SHARED = (
    "dataset", "protocol", "split_seed", "split_file", "label_rule", "gender_classes", "race_classes",
    "age_groups", "image_size", "crop", "preparation",
)  # fmt: skip
"""Facts that all runs must share for their mean to be meaningful."""

Runs = Mapping[tuple[int, int], Path]


def agreed(data: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the facts about the data that all runs share; DataError names two runs that differ."""
    first, *others = data
    for run in others:
        for key in SHARED:
            if data[run].get(key) != data[first].get(key):
                raise DataError(
                    f"these runs cannot be averaged: {key} is {data[first].get(key)} in {first} and "
                    f"{data[run].get(key)} in {run}"
                )
    return {key: data[first].get(key) for key in SHARED}


def shared_subjects(data: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the fraction of test images of subjects in the training data; None if no subject is known."""
    fractions = [each.get("subjects_in_two_parts") for each in data]
    shared = shared_fraction(
        [np.nan if fraction is None else fraction for fraction in fractions],
        [each["faces"]["test"] for each in data],
    )
    return None if np.isnan(shared) else shared


def distinct(values: Any) -> list[Any]:
    """Return the distinct values in order of appearance."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def run_metrics(runs: Runs) -> pd.DataFrame:
    """Return the test metrics of every run: a row per (fold, seed), a column per metric; NaN if undefined."""
    named = [scalars(read_predictions(run / "predictions" / "test.parquet")) for run in runs.values()]
    index = pd.MultiIndex.from_tuples(runs, names=["fold", "seed"])
    return pd.DataFrame(named, index=index, dtype="float64")


def spread(values: pd.DataFrame, complete: bool) -> dict[str, dict[str, Any]]:
    """Return the ``mean``, the means ``per_fold`` and ``per_seed``, and three spreads of every metric.

    The mean is the mean over folds of each fold's mean over its seeds. ``over_folds`` (of the folds' means
    over seeds) shows the effect of the test faces, ``over_seeds`` (of the seeds' means over folds) that of
    repeated training, ``over_runs`` both together. Seeds are compared only if no run is missing
    (``complete``). Undefined metrics (NaN) are skipped.
    """
    summary = {}
    for name in values:
        column = values[name]
        folds, seeds = column.groupby("fold").mean(), column.groupby("seed").mean()
        summary[str(name)] = {
            "mean": float(folds.mean()),
            "over_folds": deviations(folds),
            "over_seeds": deviations(seeds) if complete else None,
            "over_runs": deviations(column),
            "per_fold": {str(fold): float(value) for fold, value in folds.items()},
            "per_seed": {str(seed): float(value) for seed, value in seeds.items()} if complete else None,
        }
    return summary


def deviations(values: "pd.Series[float]") -> dict[str, float | int | None]:
    """Return the number ``n`` of defined values and their standard deviations, divided by n - 1 and by n."""
    defined = values.dropna()
    with np.errstate(invalid="ignore"):
        sample = float(defined.std(ddof=1)) if len(defined) > 1 else None
        return {"n": len(defined), "sd_sample": sample, "sd_population": float(defined.std(ddof=0))}


def pool(runs: Runs, seed: int) -> pd.DataFrame:
    """Put the test predictions of all folds of a seed into one table, with a first column ``fold``.

    A class that a fold did not train has no probability (NaN) there. Faces of it are not evaluated, as in the
    metrics of the fold (``predictions.read_predictions``).
    """
    files = {fold: run / "predictions" / "test.parquet" for (fold, of), run in runs.items() if of == seed}
    tables = {fold: read_faces(file) for fold, file in files.items()}
    return pd.concat(tables, names=["fold", None]).reset_index("fold").reset_index(drop=True)


def pooled_metrics(pooled: Mapping[int, pd.DataFrame]) -> dict[str, Any]:
    """Return metrics over all test faces of the tables of seeds at once, with 95 % intervals by subject.

    Returns:
        Numbers of faces and subjects that were tested in every seed, and for every metric its ``value`` (the
        mean over seeds), its value ``per_seed``, and, where it is a finite function of a mean over faces, the
        ends ``low`` and ``high`` of its interval (None for fewer than ``MIN_CLUSTERS`` subjects).
    """
    faces, scores = average_scores(list(pooled.values()))
    units = clusters(faces)
    names = [str(name) for name in scores]
    ends: dict[str, tuple[float, float]] = {}
    if len(set(units)) >= MIN_CLUSTERS:
        drawn = metrics_of_means(names, bootstrap_means(scores, units))
        ends = {name: interval(draws) for name, draws in zip(names, drawn.T, strict=True)}
    values = dict(zip(names, metrics_of_means(names, scores.mean().to_numpy()).tolist(), strict=True))
    each = {str(seed): scalars(read_predictions(table)) for seed, table in pooled.items()}
    metrics: dict[str, Any] = {}
    for name in next(iter(each.values())):
        per_seed = {seed: found.get(name) for seed, found in each.items()}
        known = [value for value in per_seed.values() if value is not None and not np.isnan(value)]
        mean = values.get(name, float(np.mean(known)) if known else np.nan)
        low, high = ends.get(name, (None, None)) if np.isfinite(mean) else (None, None)
        metrics[name] = {"value": mean, "low": low, "high": high, "per_seed": per_seed}
    return {
        "faces": len(faces),
        "tested_more_than_once": int(faces["id"].duplicated().sum()),
        "subjects": known_subjects(faces),
        "bootstrap_draws": DRAWS,
        "metrics": metrics,
    }


def average_scores(tables: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the faces that all tables (seeds) of the same test have, and the mean of their scores."""
    keyed = [table.set_index(keys) for table, keys in zip(tables, face_keys(tables), strict=True)]
    common = keyed[0].index
    for table in keyed[1:]:
        common = common[common.isin(table.index)]
    scores = [face_scores(read_predictions(table.loc[common])) for table in keyed]
    names = [name for name in scores[0] if all(name in other for other in scores)]
    mean = np.mean([each[names].to_numpy() for each in scores], axis=0)
    return keyed[0].loc[common].reset_index(drop=True), pd.DataFrame(mean, columns=names)


def face_keys(tables: Sequence[pd.DataFrame]) -> "list[pd.Series[str]]":
    """Return a unique key of each row in related tables: its id, with its fold if ids repeat in any table."""
    ids: list[pd.Series[str]] = [table["id"].astype("str") for table in tables]
    if any(each.duplicated().any() for each in ids) and all("fold" in table for table in tables):
        folds = [table["fold"].astype("int64").astype("str") for table in tables]
        return [each + " of fold " + fold for each, fold in zip(ids, folds, strict=True)]
    return ids


def clusters(faces: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Return the resampling unit of each face, see :func:`.resampling.sampling_units`."""
    return sampling_units(faces["id"], faces["subject"] if "subject" in faces else [""] * len(faces))


def known_subjects(faces: pd.DataFrame) -> int | None:
    """Return the number of subjects; None if no face has one."""
    return len({*faces["subject"]} - {""}) or None if "subject" in faces else None
