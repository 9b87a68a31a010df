"""Paired comparison of models on the same test faces.

Differences are taken face by face; with several seeds, the score of a face is its mean over seeds. Intervals
and p-values cover the random choice of test faces (by subject where known), not the variation of trainings.
"""

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.strict_json import from_json
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.evaluation.face_scores import metrics_of_means, read_faces
from mtmsa_lightning.evaluation.folds import SHARED, average_scores, clusters, face_keys, known_subjects
from mtmsa_lightning.evaluation.resampling import bootstrap_means, interval, paired_permutation
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME
from mtmsa_lightning.runs.directory import runs_with
from mtmsa_lightning.runs.run_json import partial_note, read_record
from mtmsa_lightning.runs.status import recorded_seed
from mtmsa_lightning.settings.defaults import PERMUTATIONS

log = logging.getLogger(__name__)


RECORDED = (*SHARED, "folds", "seeds", "faces_seen", "faces_without_prediction", "training_faces")
"""Facts that are recorded of a side."""


@dataclass(frozen=True, eq=False)
class Contender:
    """One side of a comparison: predictions on the same faces, a table per seed, and recorded facts.

    ``name`` is the path that was given, ``title`` the recorded name of the experiment, if any.
    """

    name: str
    tables: list[pd.DataFrame]
    record: dict[str, Any]
    title: str = ""


def short_names(sides: Sequence[Contender]) -> list[str]:
    """Return different names of models for tables and plots: titles, with a seed or a path where needed."""
    titles = [side.title or Path(side.name).stem for side in sides]
    seeds = [", ".join(map(str, side.record.get("seeds") or [])) for side in sides]
    ways = [
        titles,
        [f"{title}, seed {seed}" if seed else title for title, seed in zip(titles, seeds, strict=True)],
        [f"{title}, {Path(side.name).name}" for title, side in zip(titles, sides, strict=True)],
    ]
    return next((names for names in ways if len({*names}) == len(names)), [side.name for side in sides])


def read_contender(path: Path) -> Contender:
    """Read a table of predictions, or those of a run, a report, a cross-validation or its experiment.

    Of a folder of runs, the newest tested one is used. DataError if there are no predictions.
    """
    folder = path / "crossval" if (path / "crossval").is_dir() else path
    files = [path] if path.is_file() else _pooled_tables(folder)
    single = [folder / "predictions" / "test.parquet", folder / "predictions.parquet"]
    files = files or [file for file in single if file.is_file()][:1]
    if not files and path.is_dir() and (runs := runs_with("predictions/test.parquet", path)):
        log.info("using %s", runs[0])
        files = [runs[0] / "predictions" / "test.parquet"]
    if not files:
        raise DataError(
            f"{path}: no predictions: give a tested run, a crossval folder, the folder of a report, or a "
            "table of predictions"
        )
    record, title = _recorded(files)
    return Contender(str(path), [read_faces(file) for file in files], record, title)


def _pooled_tables(folder: Path) -> list[Path]:
    """Return the pooled tables of a cross-validation's seeds that its summary lists, or all without one."""
    found = sorted((folder / "predictions").glob("seed*.parquet"))
    summary = folder / "summary.json"
    if not summary.is_file():
        return found
    seeds = from_json(read_regular(summary)).get("seeds", [])
    listed = [folder / "predictions" / f"seed{seed}.parquet" for seed in seeds]
    if missing := [file for file in listed if file not in found]:
        raise DataError(f"{missing[0]}: missing, but listed by {summary}: run `mtmsa crossval` again")
    for file in found:
        if file not in listed:
            log.warning("%s: skipped, because %s does not list its runs: remove it", file, summary)
    return listed


def _recorded(files: Sequence[Path]) -> tuple[dict[str, Any], str]:
    """Return what metrics must be quoted with, and the name, from the nearest record or summary of folds."""
    title = ""
    for folder in files[0].absolute().parents[:2]:  # a report has its table beside its record
        if (folder / "run.json").is_file():
            data = dict(read_record(folder).get("data", {}))
            data |= {"folds": [data.get("fold")], "seeds": [recorded_seed(folder)]}
            record = read_record(folder)
            title = str(record.get("name", ""))
            if note := partial_note(record, "test"):
                data["faces_seen"] = note
            if missing := record.get("matching", {}).get("missing"):
                data["faces_without_prediction"] = missing
            if "matching" in record:  # of another program
                data["training_faces"] = "not known, could include these test faces"
            break
        if (folder / "summary.json").is_file():
            data = dict(from_json(read_regular(folder / "summary.json")))
            data["seeds"] = [*map(_seed_of, files)]
            title = str(data.get("name", ""))
            break
    else:
        data = {}
    return {key: data[key] for key in RECORDED if key in data}, title


def _seed_of(pooled: Path) -> int | str:
    """Return the seed in the name of a pooled table, ``seed<s>.parquet`` or ``report-seed<s>/...``."""
    found = re.search(r"seed(\d+)$", pooled.stem) or re.search(r"seed(\d+)$", pooled.parent.name)
    return int(found[1]) if found else "unknown"


def compare(
    baseline: Contender, others: Sequence[Contender], draws: int = PERMUTATIONS, seed: int = 0
) -> pd.DataFrame:
    """Compare models with a baseline by each metric.

    Of sides that lack predictions of some faces by their record, those of another program, only the faces
    that both sides have are compared.

    Returns:
        A row per model and metric: ``run``, ``metric``, the values ``baseline`` and ``value`` over the faces
        that the metric counts, their ``difference`` (value minus baseline) with its 95 % percentile interval
        ``low`` to ``high``, the p-value ``p`` of the paired permutation test and ``p_holm``, corrected by
        Holm's method for the number of models (not of metrics), and the numbers of ``faces`` and of
        ``subjects`` (none where no face has one; a face of unknown subject counts as one).

    Raises:
        DataError: If ids, labels or folds differ, or no metric is known on both sides.
    """
    rows: list[dict[str, Any]] = []
    for other in others:
        (ours, our_scores), (theirs, their_scores) = _scores_of(baseline, other)
        if set(ours["id"]) != set(theirs["id"]):
            check_folds(baseline, other)
        order = matching_rows(ours, theirs, (baseline.name, other.name))
        their_scores = their_scores.iloc[order].reset_index(drop=True)
        paired = _counted_by_both(our_scores, their_scores)
        if paired[0].empty:
            raise DataError(f"{baseline.name} and {other.name} have no metric in common")
        for row in _differences(*paired, clusters(ours), draws, seed):
            row["subjects"] = row["subjects"] if known_subjects(ours) else None
            rows.append({"run": other.name, **row})
    table = pd.DataFrame(rows)
    table["p_holm"] = table.groupby("metric")["p"].transform(lambda p: holm(p.to_numpy()))
    return table


def _scores_of(baseline: Contender, other: Contender) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Return faces and scores of both sides, of common faces if a side lacks predictions by its record."""
    sides = [average_scores(side.tables) for side in (baseline, other)]
    if not any(side.record.get("faces_without_prediction") for side in (baseline, other)):
        return sides
    keys = face_keys([faces for faces, _ in sides])
    common = set(keys[0]) & set(keys[1])
    if not common:
        raise DataError(f"{baseline.name} and {other.name} have no test face in common")
    log.info(
        "%s and %s are compared on the %d faces that both predict", baseline.name, other.name, len(common)
    )
    there = [key.isin(common).to_numpy() for key in keys]
    return [
        (faces[kept].reset_index(drop=True), scores[kept].reset_index(drop=True))
        for (faces, scores), kept in zip(sides, there, strict=True)
    ]


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a comparison as plain values."""
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    return [row | {"subjects": None if pd.isna(row["subjects"]) else int(row["subjects"])} for row in rows]


def check_folds(baseline: Contender, other: Contender) -> None:
    """Raise DataError if both sides are known to be of different folds of one split."""
    split = ("dataset", "protocol", "split_seed")
    if any(baseline.record.get(key) != other.record.get(key) for key in split):
        return  # the folds are not the reason
    first, second = ([*map(str, side.record.get("folds") or ())] for side in (baseline, other))
    if first and second and set(first) != set(second):
        of = [f"fold{'s' if len(each) > 1 else ''} {', '.join(each)}" for each in (first, second)]
        raise DataError(
            f"{baseline.name} is of {of[0]}, {other.name} is of {of[1]}: metrics on different test faces "
            "cannot be compared. Train the folds that are missing (`mtmsa crossval`), or compare runs of one "
            "fold"
        )


def matching_rows(ours: pd.DataFrame, theirs: pd.DataFrame, names: tuple[str, str]) -> npt.NDArray[np.int64]:
    """Return the rows of ``theirs`` of the faces of ``ours``; DataError if ids, labels or folds differ."""
    keys = [pd.Index(each) for each in face_keys([ours, theirs])]
    for own, name in zip(keys, names, strict=True):
        if own.has_duplicates:
            repeated = own[own.duplicated()]
            raise DataError(f"{name}: {len(repeated)} ids are repeated, such as {repeated[0]}")
    for (own, other), name in zip((keys, keys[::-1]), names, strict=True):
        alone = own.difference(other)
        if len(alone):
            raise DataError(
                f"{names[0]} and {names[1]} were tested on different faces: {len(alone)} of {len(own)} are "
                f"only in {name}, such as {alone[0]}. Compare metrics on the same faces: the same "
                "protocol, fold and data.seed"
            )
    order = keys[1].get_indexer(keys[0])
    columns = [str(name) for name in ours.columns.intersection(theirs.columns, sort=False)]
    for column in [name for name in columns if name.startswith("label_") or name == "fold"]:
        pair = ours[column].reset_index(drop=True), theirs[column].iloc[order].reset_index(drop=True)
        differing = ~((pair[0] == pair[1]) | (pair[0].isna() & pair[1].isna()))
        if differing.any():
            first = int(differing.to_numpy().argmax())
            raise DataError(
                f"{names[0]} and {names[1]} differ in {column} of {int(differing.sum())} of {len(ours)} "
                f"faces, first {keys[0][first]}: {pair[0][first]} and {pair[1][first]}"
            )
    return order.astype(np.int64)


def _counted_by_both(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the headline metrics of both sides, on the faces that both count (classes may differ)."""
    names = [spec.name for spec in METRIC_BY_NAME.values() if spec.headline]
    both = ours.notna() & theirs.notna()
    names = [name for name in names if name in ours and name in theirs and both[name].any()]
    return ours[names].where(both[names]), theirs[names].where(both[names])


def _differences(
    ours: pd.DataFrame, theirs: pd.DataFrame, subjects: npt.NDArray[np.str_], draws: int, seed: int
) -> list[dict[str, Any]]:
    """Return a row per metric; all metrics see the same bootstrap samples."""
    metrics = [str(name) for name in ours]
    means = bootstrap_means(pd.concat([ours, theirs], axis=1), subjects, draws, seed)
    our_draws, their_draws = (metrics_of_means(metrics, half) for half in np.split(means, 2, axis=1))
    over_faces = [metrics_of_means(metrics, scores.mean().to_numpy()) for scores in (ours, theirs)]
    rows = []
    for column, metric in enumerate(metrics):
        with np.errstate(invalid="ignore"):  # inf - inf
            values = theirs[metric].to_numpy() - ours[metric].to_numpy()
        counted = (ours[metric].notna() & theirs[metric].notna()).to_numpy()
        before, after = float(over_faces[0][column]), float(over_faces[1][column])
        row = {"metric": metric, "baseline": before, "value": after, "difference": after - before}
        if math.isfinite(after - before):
            low, high = interval(their_draws[:, column] - our_draws[:, column])
            p = paired_permutation(values, subjects, draws, seed)
        else:  # infinite intervals, from too few subjects, have no mean to test
            low = high = p = math.nan
        rows.append({
            **row, "low": low, "high": high, "p": p,
            "faces": int(counted.sum()), "subjects": len(np.unique(subjects[counted])),
        })  # fmt: skip
    return rows


def holm(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Correct p-values ``(K,)`` for multiple tests; NaN is kept and not counted.

    The k-th smallest is multiplied by K + 1 - k, made monotone, at most 1: the chance of any false positive
    stays below the level (Holm, "A simple sequentially rejective multiple test procedure", Scand. J.
    Statistics 6, 1979).
    """
    known = pd.Series(np.asarray(p, np.float64)).dropna().sort_values()
    corrected = (known * np.arange(len(known), 0, -1)).cummax().clip(upper=1)
    return np.asarray(corrected.reindex(range(np.size(p))), np.float64)
