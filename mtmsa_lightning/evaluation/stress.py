"""How much changed photos of the same faces change the estimated ages, and decisions at legal ages."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning.data.stress.changes import STRESSES
from mtmsa_lightning.evaluation.proportions import fractions
from mtmsa_lightning.evaluation.resampling import (
    MIN_CLUSTERS,
    Floats,
    bootstrap_means,
    interval,
    sampling_units,
)
from mtmsa_lightning.settings.defaults import DRAWS, LEGAL_AGES, MIN_FACES

Condition = tuple[str, int]
"""Name and severity, from 1, of a change."""


class StressedAges(NamedTuple):
    """Estimated ages of N faces in years, NaN for unreadable images.

    Attributes:
        labels: The faces, see :func:`.face_labels.face_labels`.
        unchanged: Ages of the photos as they are, ``(N,)``.
        changed: Ages of the changed photos, ``(N,)``, by change and severity.
        seed: Seed of the changes.
        left_out: Names of the changes that need canonical crops, where the faces are not.
        examples: Photos of one face with captions; empty if none are to be shown.
    """

    labels: pd.DataFrame
    unchanged: Floats
    changed: dict[Condition, Floats]
    seed: int
    left_out: tuple[str, ...] = ()
    examples: tuple[tuple[npt.NDArray[np.uint8], str], ...] = ()


def stress_table(
    ages: StressedAges,
    legal_ages: Sequence[int] = LEGAL_AGES,
    min_faces: int = MIN_FACES,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """Compare changed with unchanged photos, for all faces and by gender, race and age.

    Returns:
        A row per group, change and severity: ``by``, ``group``, ``stress``, ``severity``, ``amount``,
        ``faces``, and, each with ``_low`` and ``_high`` (95 %):

        - ``change``: mean change of the estimated age in years; ``abs_change``: mean of its absolute value;
        - ``mae``: mean absolute error of exact ages on the changed photos; ``mae_change``: its increase;
        - ``flip_<t>``: fraction of faces whose estimate crosses the legal age t, in either direction;
        - ``up_<t>``: of faces whose label and whose unchanged estimate are below t, the fraction that is
          estimated at t or more; ``up_faces_<t>`` is their number.

        Means have percentile bootstrap intervals and fractions Wilson's with the design effect of subjects
        (:func:`.proportions.fractions`), both by subject. Groups of fewer than ``min_faces`` are left out,
        except all faces.
    """
    conditions = list(ages.changed)
    parts = []
    for by, name, rows in _groups(ages.labels):
        if by == "all" or len(rows) >= min_faces:
            found = _group_table(ages, rows, legal_ages, draws)
            found.insert(0, "group", name)
            found.insert(0, "by", by)
            parts.append(found)
    amounts = {stress.name: stress for stress in STRESSES}
    table = pd.concat(parts, ignore_index=True)
    texts = [amounts[name].describe(severity) for name, severity in conditions] * len(parts)
    table.insert(4, "amount", texts)
    return table


def _groups(labels: pd.DataFrame) -> Iterator[tuple[str, str, npt.NDArray[np.int64]]]:
    """Yield the kind, the name and the rows of each group."""
    yield "all", "", np.arange(len(labels))
    decade = labels["label_age_low"] // 10 * 10
    names = decade.map(lambda year: f"{year:.0f}-{year + 9:.0f}", na_action="ignore").fillna("")
    exact = labels["label_age_low"] == labels["label_age_high"]
    by = {"gender": labels["label_gender"], "race": labels["label_race"], "age": names.where(exact, "")}
    for kind, values in by.items():
        known = [name for name in values.unique() if name]
        for name in sorted(
            known, key=lambda text: (int(text.partition("-")[0]) if kind == "age" else 0, text)
        ):
            yield kind, str(name), np.flatnonzero((values == name).to_numpy())


def _group_table(
    ages: StressedAges, rows: npt.NDArray[np.int64], legal_ages: Sequence[int], draws: int
) -> pd.DataFrame:
    labels = ages.labels.iloc[rows]
    before = ages.unchanged[rows][:, None]
    after = np.column_stack([changed[rows] for changed in ages.changed.values()])  # faces x conditions
    before = np.where(np.isnan(after), np.nan, before)
    units = sampling_units(labels["id"], labels["subject"])
    low, high = (labels[f"label_age_{end}"].to_numpy(np.float64)[:, None] for end in ("low", "high"))
    age = np.where(low == high, low, np.nan)
    error = np.abs(after - age)
    means = {
        "change": after - before,
        "abs_change": np.abs(after - before),
        "mae": error,
        "mae_change": error - np.abs(before - age),
    }
    columns: dict[str, Any] = {
        "stress": [name for name, _ in ages.changed],
        "severity": [severity for _, severity in ages.changed],
        "faces": (~np.isnan(after)).sum(0),
    }
    columns |= _means(means, units, draws)
    for legal in legal_ages:
        was, now = before >= legal, after >= legal
        flip = np.where(np.isnan(after - before), np.nan, was != now)
        minors = ~was & (high < legal) & ~np.isnan(after - before)
        up = np.where(minors, now, np.nan)
        columns |= _fractions(f"flip_{legal}", flip, units) | _fractions(f"up_{legal}", up, units)
        columns[f"up_faces_{legal}"] = minors.sum(0)
    return pd.DataFrame(columns)


def _means(values: Mapping[str, Floats], units: npt.NDArray[np.str_], draws: int) -> dict[str, Floats]:
    """Return means over faces and their intervals; all of them from the same bootstrap samples."""
    drawn = bootstrap_means(np.concatenate([*values.values()], axis=1), units, draws)
    enough = len(np.unique(units)) >= MIN_CLUSTERS
    columns = {}
    for name, samples in zip(values, np.split(drawn, len(values), axis=1), strict=True):
        known = ~np.isnan(values[name])
        total, faces = np.where(known, values[name], 0.0).sum(0), known.sum(0)
        columns[name] = np.divide(total, faces, out=np.full_like(total, np.nan), where=faces > 0)
        ends = np.array([interval(each) if enough else (np.nan, np.nan) for each in samples.T])
        columns |= {f"{name}_low": ends[:, 0], f"{name}_high": ends[:, 1]}
    return columns


def _fractions(name: str, scores: Floats, units: npt.NDArray[np.str_]) -> dict[str, Floats]:
    found = fractions(scores, units)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
