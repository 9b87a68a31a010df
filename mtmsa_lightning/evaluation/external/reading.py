"""Tables of predictions of other programs in the form of our own, with the labels of the faces."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.data.face_table import ReadReport
from mtmsa_lightning.data.release_files import read_delimited, sniff
from mtmsa_lightning.data.tables import parquet
from mtmsa_lightning.data.tables.classes import GENDERS as GENDER_WORDS
from mtmsa_lightning.data.tables.classes import check_codes, class_names, without_unknown
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.evaluation.external.columns import Columns, choose_columns, describe
from mtmsa_lightning.evaluation.external.matching import check_unique, match_faces
from mtmsa_lightning.evaluation.predictions import WITHOUT
from mtmsa_lightning.labels import GENDERS, class_key

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ExternalPredictions:
    """Predictions of another program for the test faces of a dataset.

    Attributes:
        table: One row per test face with a prediction, in the order of the faces; see ``PredictionWriter``.
        matched_by: What was compared to match the rows.
        rows: Rows of the file.
        faces: Test faces.
        elsewhere: Rows that match faces outside of the test part.
        unmatched: Rows that match no face.
        empty: Rows of test faces without any prediction.
        empty_in: Numbers of empty values of test faces by column.
    """

    table: pd.DataFrame
    matched_by: str
    rows: int
    faces: int
    elsewhere: int
    unmatched: int
    empty: int
    empty_in: Mapping[str, int]

    @property
    def missing(self) -> int:
        """Number of test faces without a prediction."""
        return self.faces - len(self.table)

    def notes(self) -> tuple[str, ...]:
        """Describe what was matched."""
        without = f" ({self.empty:,} of them have a row without a value)" if self.empty else ""
        notes = [
            f"{len(self.table):,} of {self.faces:,} test faces have a prediction, matched by "
            f"{self.matched_by}; {self.missing:,} have none{without}.",
            f"Of {self.rows:,} predictions {self.unmatched:,} match no face of the dataset, and "
            f"{self.elsewhere:,} a face outside of the test part.",
        ]
        if self.missing:
            notes.append("Metrics are those of the faces with a prediction; the others may be harder ones.")
        if self.empty_in:
            counts = ", ".join(f"{count:,} in {name!r}" for name, count in [*self.empty_in.items()][:5])
            *others, last = self.tasks
            tasks = f"{', '.join(others)} and {last}" if others else last
            notes.append(
                f"Empty values of test faces: {counts}. Metrics of {tasks} are those of the faces with that "
                "prediction."
            )
        return tuple(notes)

    @property
    def tasks(self) -> list[str]:
        """What is predicted: ``age``, ``gender``, ``race``."""
        starts = {str(name).partition("_")[0] for name in self.table}
        return [task for task in ("age", "gender", "race") if task in starts]

    def record(self) -> dict[str, Any]:
        """Return the numbers as plain values."""
        names = ("matched_by", "rows", "faces", "elsewhere", "unmatched", "empty", "missing")
        return {name: getattr(self, name) for name in names}


def read_external(
    file: Path,
    columns: Mapping[str, str | None],
    labels: pd.DataFrame,
    faces: pd.DataFrame,
    race_classes: Sequence[str],
    least: float,
) -> ExternalPredictions:
    """Read another program's predictions and match them with the test faces.

    Args:
        file: A table: text separated by commas, semicolons or tabs, or ``.parquet``.
        columns: See :func:`.columns.choose_columns`.
        labels: The test faces: ``id, file, subject`` and ``label_*``, as in our own tables.
        faces: All faces of the dataset: ``id`` and ``path``.
        race_classes: Race classes of the dataset.
        least: Smallest fraction of the test faces that must have a prediction.

    Raises:
        DataError: The file or a value cannot be read, a face has several predictions, or too few have one.
    """
    cells, found = _read_cells(file, columns)
    log.info("%s: columns: %s (others: --columns)", file, describe(found))
    keys = cells[found.single.get("id", found.single.get("path"))].tolist()
    match = match_faces(keys, faces["id"].tolist(), faces["path"].tolist())
    check_unique(match, keys, file)
    test = pd.Index(labels["id"]).get_indexer(faces["id"].to_numpy()[match.face])
    test = np.where(match.face >= 0, test, -1)
    known = cells[test >= 0].assign(_face=test[test >= 0]).sort_values("_face", kind="stable")
    found = _without_empty(found, known, file)
    values = _values(known, found, race_classes, file)
    _check_ages(values, known, labels, file)
    there, values = _with_predictions(values)
    order = known["_face"].to_numpy()[there.to_numpy()]
    table = pd.concat(
        [labels.iloc[order].reset_index(drop=True), values[there].reset_index(drop=True)], axis=1
    )
    read = ExternalPredictions(
        table, match.by, rows=len(cells), faces=len(labels),
        elsewhere=int(((match.face >= 0) & (test < 0)).sum()), unmatched=int((match.face < 0).sum()),
        empty=int((~there).sum()), empty_in=_empty_in(known, found),
    )  # fmt: skip
    _check_enough(read, file, keys, labels, least)
    return read


def _check_enough(
    read: ExternalPredictions, file: Path, keys: Sequence[str], labels: pd.DataFrame, least: float
) -> None:
    aged = int((read.table.get(WITHOUT.format("age"), pd.Series(0, read.table.index)) == 0).sum())
    if not aged or aged < least * read.faces:
        matched = len(read.table) + read.empty
        why = (
            f"Its first is {shown(keys[:1])}, the first test face is {shown(labels['id'].tolist()[:1])}. "
            "Name the column with --columns path=NAME or id=NAME, or lower --min_matched"
            if not matched or matched < least * read.faces
            else f"{read.notes()[-1]} Fill the values, leave a column out, such as by --columns age=, or "
            "lower --min_matched"
        )
        what = "an age" if aged < len(read.table) else "a prediction"
        raise DataError(f"{file}: too few test faces have {what}: {' '.join(read.notes()[:2])} {why}")


def _with_predictions(values: pd.DataFrame) -> tuple["pd.Series[bool]", pd.DataFrame]:
    """Return which rows have any prediction, and mark those of them without an age or a class."""
    has = {}
    for task in ("age", "gender", "race"):
        columns = [name for name in values if str(name).startswith(f"{task}_")]
        if columns:
            has[task] = values[columns].notna().all(axis=1)
    there = pd.DataFrame(has).any(axis=1)
    lacking = {task: ~each for task, each in has.items() if not each[there].all()}
    return there, values.assign(**{WITHOUT.format(task): each.astype(int) for task, each in lacking.items()})


def _empty_in(cells: pd.DataFrame, columns: Columns) -> dict[str, int]:
    """Return the numbers of empty cells of the columns of predictions that have any, largest first."""
    counts = (cells[columns.predictions] == "").sum().sort_values(ascending=False, kind="stable")
    return {str(name): int(count) for name, count in counts.items() if count}


def _without_empty(columns: Columns, cells: pd.DataFrame, file: Path) -> Columns:
    """Return the columns that have a value for any test face; the others are left out with a warning."""
    empty = [name for name, count in _empty_in(cells, columns).items() if count == len(cells)]
    kept = columns.without(empty)
    if not kept.predicts_any:
        raise DataError(
            f"{file}: no prediction of a test face: [{shown(empty)}] {'is' if len(empty) == 1 else 'are'} "
            f"empty in all {len(cells):,} rows of test faces"
        )
    if empty:
        log.warning(
            "%s: empty in all %d rows of test faces, so left out: [%s]", file, len(cells), shown(empty)
        )
    return kept


LOWEST_AGE, HIGHEST_AGE = -20, 150
"""Predicted ages in years beyond which a value cannot be an age; an unbounded regression may be below 0."""


def _check_ages(values: pd.DataFrame, cells: pd.DataFrame, labels: pd.DataFrame, file: Path) -> None:
    """Raise DataError if predicted ages are fractions of an unknown scale or beyond any error."""
    if "age_mean" not in values or not len(values):
        return
    ages = values["age_mean"]
    if ages.dropna().between(0, 1).all() and (labels["label_age_high"] > 1).any():
        raise DataError(
            f"{file}: all predicted ages lie from 0 to 1, while labels reach "
            f"{labels['label_age_high'].max():.0f} years: ages look like fractions, convert them to years"
        )
    bad = (ages < LOWEST_AGE) | (ages > HIGHEST_AGE)
    if bad.any():
        why = f"a predicted age of {ages[bad].iloc[0]:g} is not from {LOWEST_AGE} to {HIGHEST_AGE} years"
        _refuse_rows(cells, bad, file, why)


def _read_cells(file: Path, given: Mapping[str, str | None]) -> tuple[pd.DataFrame, Columns]:
    """Return the used columns as texts, empty where unknown, with line numbers as index."""
    if not file.is_file():
        raise DataError(f"--predictions {file}: no such file")
    if file.suffix == ".parquet":
        found = choose_columns(parquet.header([file]), given, file)
        return without_unknown(parquet.read_texts([file], found.used)[found.used]), found
    report = ReadReport(str(file))
    delimiter, header = sniff(file)
    found = choose_columns(header, given, file)
    cells = read_delimited(file, delimiter, found.used, report)
    if report.dropped:
        first = report.dropped[0]
        raise DataError(f"{file}: line {first.line}: {first.reason}: correct it or leave the row out")
    names = {str(name).lower(): str(name) for name in cells}
    return without_unknown(
        cells[[names[name.lower()] for name in found.used]].set_axis(found.used, axis=1)
    ), found


def _values(cells: pd.DataFrame, columns: Columns, races: Sequence[str], file: Path) -> pd.DataFrame:
    """Return the columns of predictions, NaN where a row lacks one."""
    values = pd.DataFrame(index=cells.index)
    values = values.assign(**_age_columns(cells, columns, file))
    for task, classes in (("gender", GENDERS), ("race", tuple(races))):
        if task in columns.classes:
            values = values.assign(**_probabilities(cells, columns.classes[task], task, file))
        elif task in columns.single:
            values = values.assign(**_decided(cells[columns.single[task]].rename(task), classes, task, file))
    return values


def _age_columns(cells: pd.DataFrame, columns: Columns, file: Path) -> dict[str, Any]:
    years = {year: _numbers(cells, name, file) for year, name in columns.years.items()}
    quantiles = {p: _numbers(cells, name, file) for p, name in columns.quantiles.items()}
    found: dict[str, Any] = {}
    if years:
        found = _of_years(cells, columns, years, file)
    elif "age" in columns.single or 0.5 in quantiles:
        age = _numbers(cells, columns.single["age"], file) if "age" in columns.single else quantiles[0.5]
        found = {"age_mean": age}
        if "std" in columns.single:
            found["age_std"] = _numbers(cells, columns.single["std"], file)
            _refuse_rows(cells, found["age_std"] <= 0, file, f"{columns.single['std']} must be above 0 years")
        else:
            found["age_point"] = age
    if not found:
        return {}
    for p, low in quantiles.items():
        level, high = round(100 * (1 - 2 * p)), quantiles.get(round(1 - p, 6))
        if p < 0.5 and high is not None and abs(100 * (1 - 2 * p) - level) < 1e-6:
            _refuse_rows(cells, low > high, file, f"the ends of the {level} % interval of age are swapped")
            found |= {f"age_low{level}": low, f"age_high{level}": high}
    return found


def _of_years(
    cells: pd.DataFrame, columns: Columns, years: Mapping[int, "pd.Series[float]"], file: Path
) -> dict[str, Any]:
    """Return the columns of a distribution over years, whose mean is the predicted age."""
    pmf = np.column_stack([*years.values()])
    gaps = [year for year in range(min(years), max(years) + 1) if year not in years]
    if gaps:
        raise DataError(f"{file}: no probability of the year {gaps[0]}: give one of every year of a range")
    total = pd.Series(pmf.sum(1), cells.index)
    _refuse_rows(cells, (total - 1).abs() > 1e-3, file, "the probabilities of the years do not sum to 1")
    mean = pd.Series(pmf @ np.array([*years]) / total, cells.index)
    if "age" in columns.single:
        other = (_numbers(cells, columns.single["age"], file) - mean).abs() > 0.5
        if other.any():
            log.warning(
                "%s: in %d rows %s differs from the mean of the probabilities of years by more than half a "
                "year: the mean is evaluated", file, other.sum(), columns.single["age"],
            )  # fmt: skip
    square = pd.Series(pmf @ np.array([*years]) ** 2.0 / total, cells.index)
    variance = (square - mean**2).clip(lower=0) + 1 / 12
    named = {f"age_p_{year}": values for year, values in years.items()}
    return {"age_mean": mean, "age_std": variance**0.5, **named}


def _probabilities(cells: pd.DataFrame, names: Mapping[str, str], task: str, file: Path) -> dict[str, Any]:
    """Return the probabilities of classes; percentages are converted."""
    values = {each: _numbers(cells, name, file) for each, name in names.items()}
    total = np.sum([*values.values()], axis=0)
    percent = np.nanmedian(total) > 50 if len(total) else False
    sums = pd.Series(total / (100 if percent else 1), cells.index)
    _refuse_rows(cells, (sums - 1).abs() > 1e-2, file, f"the probabilities of {task} do not sum to 1")
    found: dict[str, Any] = {}
    for each, column in values.items():
        name = GENDERS[GENDER_WORDS[each]] if task == "gender" else each
        found[f"{task}_{name}"] = column / total
    if task == "gender" and len(found) < len(GENDERS):
        raise DataError(f"{file}: give the probabilities of both {' and '.join(GENDERS)}")
    return found


def _decided(texts: "pd.Series[str]", classes: Sequence[str], task: str, file: Path) -> dict[str, Any]:
    """Return probabilities 0 and 1 of decided classes: those of the dataset and further predicted ones."""
    check_codes(texts, file, classes)
    words = {word: GENDERS[index] for word, index in GENDER_WORDS.items()} if task == "gender" else {}
    known = {class_key(name): name for name in classes}
    if task == "race":
        known |= {class_key(name): name for name in class_names(texts) if class_key(name) not in known}
    known |= words
    named = texts.map(lambda text: known.get(class_key(text), "") if text else None)
    if (named == "").any():
        raise DataError(
            f"{file}: line {(named == '').idxmax()}: {task} {shown([texts[named == ''].iloc[0]])} is not one "
            f"of {', '.join(classes)}"
        )
    names = [*dict.fromkeys([*classes, *known.values()])]
    empty = named.isna()
    return {f"{task}_{name}": (named == name).astype(float).mask(empty) for name in names}


def _numbers(cells: pd.DataFrame, name: str, file: Path) -> "pd.Series[float]":
    """Return a column as numbers, NaN where empty; infinite ones and texts are errors."""
    texts = cells[name]
    numbers = pd.to_numeric(texts.where(texts != ""), errors="coerce").astype(float)
    bad = (texts != "") & ~np.isfinite(numbers)
    if bad.any():
        raise DataError(
            f"{file}: line {bad.idxmax()}: {name} {shown([texts[bad].iloc[0]])} is not a finite number"
        )
    return numbers


def _refuse_rows(cells: pd.DataFrame, bad: "pd.Series[bool]", file: Path, why: str) -> None:
    if bad.any():
        raise DataError(f"{file}: line {bad.idxmax()}: {why} ({int(bad.sum()):,} rows)")
