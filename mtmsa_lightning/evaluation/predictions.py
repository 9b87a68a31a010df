"""Reading tables of predictions and labels, as ``PredictionWriter`` writes them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.labels import GENDERS, class_key
from mtmsa_lightning.metrics.suite import MetricSpec, metric_specs
from mtmsa_lightning.models.distributions import (
    AgeDistribution,
    distribution_columns,
    distribution_from_columns,
)

SUFFIXES = (".csv", ".parquet")
"""File formats of tables of predictions."""

TEXTS = ("id", "dataset", "file", "subject", "label_gender", "label_race")
"""Columns of texts; a missing one is empty."""

WITHOUT = "without_{}"
"""Column that is 1 where another program gives no age, gender or race of a face; absent if it gives all."""

_READ = (
    "`mtmsa test` writes such a table as predictions/test.parquet of its run, and `mtmsa evaluate "
    "--predictions theirs.csv` as predictions.parquet of its report for the table of another program."
)


@dataclass(frozen=True, eq=False)
class ClassPredictions:
    """Predictions of a class head for N faces, with labels.

    Attributes:
        names: Classes of the model, in its order.
        probs: Probabilities, float64 ``(N, classes)``.
        target: Index of the labelled class, ``(N,)``; -1 without a label or a prediction, or if the model
            lacks the class.
        masked: Number of faces by labelled class that the model lacks.
    """

    names: tuple[str, ...]
    probs: Tensor
    target: Tensor
    masked: dict[str, int]

    @property
    def has_probabilities(self) -> bool:
        """Whether any probability is neither 0 nor 1, so that they are more than decided classes."""
        return bool(((self.probs > 0) & (self.probs < 1)).any())


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of N faces with their labels; a head that the model lacks is None.

    Attributes:
        ids: Identifier of every face.
        subjects: The person, "" where unknown.
        age: Predicted distributions of age.
        age_low: Lower ends of the labels in completed years, float64 ``(N,)``; NaN where missing, and where
            no age is predicted.
        age_high: Upper ends; equal to ``age_low`` for an exact age.
        age_groups: Predicted inclusive age groups in years, or empty.
        gender: Predictions of the gender head.
        race: Predictions of the race head.
        gender_labels: Labelled gender by name, "" where unknown.
        race_labels: Labelled race by name, "" where unknown.
        age_labels: Decade of the labelled exact age ("20-29"), or the labelled age group ("25-32").
        votes_mean: Mean of people's guesses of the age in years, float64 ``(N,)``; NaN where missing.
        votes_std: Standard deviation of the guesses.
    """

    ids: NDArray[np.str_]
    subjects: NDArray[np.str_]
    age: AgeDistribution | None
    age_low: Tensor
    age_high: Tensor
    age_groups: tuple[tuple[int, int], ...]
    gender: ClassPredictions | None
    race: ClassPredictions | None
    gender_labels: NDArray[np.str_]
    race_labels: NDArray[np.str_]
    age_labels: NDArray[np.str_]
    votes_mean: Tensor
    votes_std: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def labelled(self) -> dict[str, int]:
        """Return the number of faces with a label of each kind, for gender and race a class of the model."""
        labelled = {
            "gender": self.gender.target >= 0 if self.gender else torch.zeros(0),
            "race": self.race.target >= 0 if self.race else torch.zeros(0),
            "exact": self.age_low == self.age_high,
            "group": self.age_low < self.age_high,
            "age": ~self.age_low.isnan(),
            "votes": ~(self.votes_mean + self.votes_std).isnan(),
        }
        return {kind: int(faces.sum()) for kind, faces in labelled.items()}

    def metric_specs(self) -> tuple[MetricSpec, ...]:
        """Return the metrics of the suite that the predictions are complete enough for."""
        return tuple(spec for spec in self._specs() if self._completes(spec))

    def left_out(self) -> tuple[MetricSpec, ...]:
        """Return the metrics that lack a distribution, an interval or probabilities, but no labels."""
        labelled = self.labelled()
        return tuple(spec for spec in self._specs() if labelled[spec.needs] and not self._completes(spec))

    def _specs(self) -> tuple[MetricSpec, ...]:
        heads = {"gender": self.gender, "race": self.race}
        classes = {} if self.age is None else {"age": 0, "votes": 0}
        classes |= {task: len(head.names) for task, head in heads.items() if head is not None}
        return metric_specs(classes, groups=self.age_groups)

    def _completes(self, spec: MetricSpec) -> bool:
        if spec.uses == "point":
            return True
        head = {"gender": self.gender, "race": self.race}.get(spec.task)
        if head is not None:
            return head.has_probabilities
        assert self.age is not None
        return self.age.gives(None if spec.uses == "distribution" else spec.uses)


def read_predictions(source: Path | pd.DataFrame, name: str = "the table of predictions") -> Predictions:
    """Read a ``.parquet`` or ``.csv`` file, or a table called ``name`` in messages.

    Raises:
        DataError: If it cannot be read, or has no predictions or no labels; names the columns or rows.
    """
    if isinstance(source, Path):
        name, table = str(source), read_table(source)
    else:
        table = source
    if "id" not in table or not len(table):
        raise DataError(f"{name}: {'no column id' if len(table) else 'no rows'}. {_READ}")
    table = with_texts(table)
    without = _without(table, "age")
    age = _age(table, without, name)
    low, high = _age_labels(table, name)
    labels = {task: _texts(table, f"label_{task}") for task in ("gender", "race")}
    gender = _classes(table, "gender", GENDERS, labels["gender"], name)
    race = _classes(table, "race", None, labels["race"], name)
    if age is None and gender is None and race is None:
        raise DataError(f"{name}: no predictions: neither age_mean nor gender_* nor race_*. {_READ}")
    if low.isnan().all() and not any((names != "").any() for names in labels.values()):
        raise DataError(
            f"{name}: no labels (label_age_low, label_age_high, label_gender, label_race): `mtmsa predict` "
            f"writes none. {_READ}"
        )
    votes = [_optional(table, f"label_apparent_{kind}") for kind in ("age", "std")]
    of_age = [each.masked_fill(torch.from_numpy(without), torch.nan) for each in (low, high, *votes)]
    return Predictions(
        ids=_texts(table, "id"), subjects=_texts(table, "subject"), age=age, age_low=of_age[0],
        age_high=of_age[1], age_groups=_age_groups(table), gender=gender, race=race,
        gender_labels=labels["gender"], race_labels=labels["race"], age_labels=age_names(low, high),
        votes_mean=of_age[2], votes_std=of_age[3],
    )  # fmt: skip


def age_names(low: Tensor, high: Tensor) -> NDArray[np.str_]:
    """Return the decade of an exact age ("20-29"), or the labelled age group ("25-32"); "" if unknown."""

    def text(low: float, high: float) -> str:
        if np.isnan(low):
            return ""
        first = low // 10 * 10
        return f"{low:.0f}-{high:.0f}" if low < high else f"{first:.0f}-{first + 9:.0f}"

    pairs = zip(low.tolist(), high.tolist(), strict=True)
    return np.array([text(low, high) for low, high in pairs], dtype=np.str_)


def read_table(file: Path) -> pd.DataFrame:
    """Read a ``.parquet`` or ``.csv`` table, numbers of a CSV exactly; DataError if it cannot be read."""
    if not file.is_file():
        raise DataError(f"{file}: no such file. {_READ}")
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as a table ({error})") from error
    return table.assign(**{str(name): _as_numbers(table[name]) for name in table if name not in TEXTS})


def _as_numbers(column: "pd.Series[str]") -> "pd.Series[Any]":
    """Convert texts to numbers; not every version of pandas reads them exactly."""
    try:
        return pd.Series([float(text) if text else np.nan for text in column], column.index, np.float64)
    except ValueError:
        return column


def with_texts(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with empty texts for missing ones."""
    return table.assign(**{name: table[name].fillna("").astype("str") for name in TEXTS if name in table})


def _texts(table: pd.DataFrame, column: str) -> NDArray[np.str_]:
    values = table[column] if column in table else [""] * len(table)
    return np.asarray(values, dtype=np.str_)


def _optional(table: pd.DataFrame, column: str) -> Tensor:
    """Return a column of labels, float64 ``(N,)``; NaN where missing."""
    values = pd.to_numeric(table[column]) if column in table else pd.Series(np.nan, index=table.index)
    return torch.tensor(values.to_numpy(np.float64))


def _numbers(table: pd.DataFrame, columns: list[str], name: str) -> Tensor:
    """Return columns of predictions as float64 ``(N, columns)``, all finite."""
    try:
        values = table[columns].to_numpy(np.float64)
    except ValueError as error:
        raise DataError(f"{name}: {', '.join(columns)}: {error}") from error
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        shown = ", ".join(table.loc[bad, "id"].astype(str).head(5))
        raise DataError(
            f"{name}: no finite number in {', '.join(columns)} for {pluralize(bad.sum(), 'face')}: {shown}"
        )
    return torch.tensor(values)


def _without(table: pd.DataFrame, task: str) -> NDArray[np.bool_]:
    """Return the faces of which another program gives no age, gender or race."""
    return table.get(WITHOUT.format(task), pd.Series(0, table.index)).to_numpy(np.float64) > 0


def _age(table: pd.DataFrame, without: NDArray[np.bool_], name: str) -> AgeDistribution | None:
    columns = distribution_columns(map(str, table))
    if not columns or without.all():
        return None
    if without.any():  # not evaluated: their labels are masked
        known = table.loc[~without, columns].sort_values("age_std" if "age_std" in columns else columns[0])
        table = table.assign(
            **{column: table[column].mask(without, known[column].iloc[0]) for column in columns}
        )
    ends = [column for column in columns if column.startswith(("age_low", "age_high"))]  # may be infinite
    rest = [column for column in columns if column not in ends]
    values = dict(zip(rest, _numbers(table, rest, name).unbind(1), strict=True))
    values |= {column: torch.tensor(table[column].to_numpy(np.float64)) for column in ends}
    try:
        return distribution_from_columns(values)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error


def _age_labels(table: pd.DataFrame, name: str) -> tuple[Tensor, Tensor]:
    columns = ["label_age_low", "label_age_high"]
    missing = [column for column in columns if column not in table]
    if len(missing) == 1:
        raise DataError(f"{name}: no column {missing[0]}. {_READ}")
    low, high = torch.tensor(table.reindex(columns=columns).to_numpy(np.float64)).unbind(1)
    odd = (low.isnan() != high.isnan()) | (low > high)
    if odd.any():
        shown = ", ".join(table["id"][odd.numpy()].head(5))
        raise DataError(f"{name}: label_age_low and label_age_high contradict each other: {shown}")
    return low, high


def _age_groups(table: pd.DataFrame) -> tuple[tuple[int, int], ...]:
    found = [re.fullmatch(r"group_(\d+)_(\d+)", str(column)) for column in table]
    return tuple((int(match[1]), int(match[2])) for match in found if match)


def _classes(
    table: pd.DataFrame, task: str, vocabulary: tuple[str, ...] | None, labels: NDArray[np.str_], name: str
) -> ClassPredictions | None:
    """Read a class head; labels of classes that the model, or that of the row's fold, lacks are masked."""
    names = tuple(str(c).removeprefix(f"{task}_") for c in table if str(c).startswith(f"{task}_"))
    names = tuple(each for each in names if vocabulary is None or each in vocabulary)
    if not names:
        return None
    columns = [f"{task}_{each}" for each in names]
    lacking = _untrained(table, columns)
    filled = table[columns].mask(lacking, 0.0)
    without = _without(table, task)
    filled.loc[without] = [1.0] + [0.0] * (len(columns) - 1)  # not evaluated: the target is masked
    probs = _numbers(table.assign(**filled), columns, name)
    if not torch.allclose(probs.sum(1), probs.new_ones(()), atol=1e-3):
        raise DataError(
            f"{name}: {task}_{names[0]} and the other columns of {task} are not probabilities: "
            "their sum is not 1"
        )
    index = {class_key(each): position for position, each in enumerate(names)} | {"": -1}
    target = torch.tensor([index.get(class_key(label), -1) for label in labels.tolist()])
    unknown = np.array([class_key(label) not in index for label in labels.tolist()], bool)
    unknown |= (target >= 0).numpy() & lacking[np.arange(len(table)), target.numpy()]
    unknown &= ~without
    target[torch.from_numpy(unknown | without)] = -1
    masked, counts = np.unique(labels[unknown], return_counts=True)
    return ClassPredictions(names, probs, target, dict(zip(masked.tolist(), counts.tolist(), strict=True)))


def _untrained(table: pd.DataFrame, columns: list[str]) -> NDArray[np.bool_]:
    """Return which classes the model of each row's fold lacks: without a probability, unlike others."""
    empty = table[columns].isna().to_numpy()
    return empty & ~empty.all(axis=1, keepdims=True) & ("fold" in table)
