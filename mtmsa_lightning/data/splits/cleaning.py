"""Cleaning rules: named and versioned functions of a face table, off by default (``data.clean``).

Names and versions are part of the label rule, the provenance and the fingerprints of every split. Increase
the version when the result of a rule changes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from mtmsa_lightning.data.face_table import MAX_AGE, FaceTable, ReadReport
from mtmsa_lightning.data.release_files import content_column, nearest
from mtmsa_lightning.data.tables.dates import iso_dates, years_between
from mtmsa_lightning.errors import ConfigError, DataError

LARGEST_SHIFT = pd.Timedelta(days=366)
"""Largest difference between an image's birth date and the subject's consensus that is corrected."""

Cleaning = Callable[[FaceTable], FaceTable]


class Rule(NamedTuple):
    """A cleaning rule: its version and its function."""

    version: int
    apply: Cleaning


RULES: dict[str, Rule] = {}
"""The rules by name; see :func:`rule`."""


def rule(name: str, version: int) -> Callable[[Cleaning], Cleaning]:
    """Return a decorator that registers a function of a face table as a cleaning rule."""

    def register(function: Cleaning) -> Cleaning:
        RULES[name] = Rule(version, function)
        return function

    return register


def check_rules(names: Sequence[str]) -> None:
    """Check the names of rules in ``RULES``, with or without the version (``drop-conflicting@1``).

    Raises:
        ConfigError: A rule does not exist, has another version, or is repeated.
    """
    if isinstance(names, str):
        raise ConfigError(f"data.clean takes a list of rules: [{names}]")
    bare = [name.partition("@")[0] for name in names]
    for given, name in zip(names, bare, strict=True):
        if name not in RULES:
            known = ", ".join(sorted(RULES))
            raise ConfigError(f"data.clean: there is no rule {name!r}{nearest(name, RULES)}; known: {known}")
        if "@" in given and given != _versioned(name):
            raise ConfigError(f"data.clean: this version of the package has {_versioned(name)}, not {given}")
        if bare.count(name) > 1:
            raise ConfigError(f"data.clean: {name} is given twice")


def clean(table: FaceTable, names: Sequence[str]) -> FaceTable:
    """Apply rules, by name as in :func:`check_rules`, in the given order.

    Returns:
        The cleaned table. Its ``cleaning`` and label rule have the names with versions, and its report counts
        the dropped rows (with the position in the table, from 1, as line) and the changed rows.

    Raises:
        ConfigError: See :func:`check_rules`.
        DataError: A rule needs a column that the table lacks, or no face is left.
    """
    check_rules(names)
    for name in names:
        name = name.partition("@")[0]
        table = RULES[name].apply(table)
        if table.frame.empty:
            raise DataError(f"data.clean: no face is left after {name}")
        table = replace(
            table,
            label_rule=f"{table.label_rule}; cleaned by {_versioned(name)}",
            cleaning=(*table.cleaning, _versioned(name)),
        )
    return table


@rule("morph:consensus-birthdate", version=2)
def consensus_birthdate(table: FaceTable) -> FaceTable:
    """Set one birth date for every subject and recompute the ages.

    In MORPH II 1,779 of 13,617 subjects have images with different birth dates, most by days or one year, 218
    by more than five years (described by Yip, Bingham, Kempfert et al., "Preliminary studies on a large face
    database", 2018, arXiv:1811.06446; the rule is that of this package):

    - The consensus is the birth date of more images of the subject than any other date.
    - An image whose date differs by at most 366 days gets the consensus and the age in completed years on the
      day of the image.
    - An image whose date differs by more is dropped, because date or identity is doubtful. So is an image
      whose age would be below 0 or above ``MAX_AGE``.
    - Without a consensus (two dates equally often) all dated images of the subject are dropped.

    Images without a readable birth date or date of the image are not changed.
    """
    faces = _need(table, "morph:consensus-birthdate", "subject", "dob", "doa")
    born, taken = iso_dates(faces["dob"]), iso_dates(faces["doa"])
    known = born.notna() & (faces["subject"] != "")
    disagree = known & (born.where(known).groupby(faces["subject"]).transform("nunique") > 1)
    consensus = pd.to_datetime(faces["subject"].map(_consensus(born[disagree], faces["subject"][disagree])))
    dated = disagree & taken.notna()
    undecided = dated & consensus.isna()
    moved = dated & consensus.notna() & (born != consensus)
    age = years_between(consensus, taken)
    doubtful = moved & (((born - consensus).abs() > LARGEST_SHIFT) | ~age.between(0, MAX_AGE))
    changed = moved & ~doubtful
    corrected = {"dob": consensus.dt.strftime("%Y-%m-%d"), "age_low": age, "age_high": age}
    faces = faces.assign(**{name: faces[name].where(~changed, right) for name, right in corrected.items()})
    report = _copy(table.report)
    report.note_rows(faces, changed, "id", "birth date and age set to the subject's consensus")
    faces = report.drop_rows(faces, undecided, "id", "no consensus birth date of the subject")
    far = doubtful[faces.index]
    faces = report.drop_rows(faces, far, "id", "birth date far from the subject's consensus")
    return _replace_faces(table, faces, report)


@rule("consensus-gender", version=1)
def consensus_gender(table: FaceTable) -> FaceTable:
    """Set the known genders of a subject's images to the most frequent one, or to unknown on a tie."""
    return _consensus_class(table, "gender")


@rule("consensus-race", version=1)
def consensus_race(table: FaceTable) -> FaceTable:
    """Set the known races of a subject's images to the most frequent one, or to unknown on a tie."""
    return _consensus_class(table, "race")


@rule("drop-conflicting", version=1)
def drop_conflicting(table: FaceTable) -> FaceTable:
    """Drop all copies of an image (equal bytes) if their age, gender or race labels differ."""
    faces, contents, report = _numbered(table), _contents(table), _copy(table.report)
    bad = (contents != "") & conflicting(faces, contents)
    faces = report.drop_rows(faces, bad, "id", "exact copies carry conflicting labels")
    return _replace_faces(table, faces, report)


@rule("drop-duplicates", version=1)
def drop_duplicates(table: FaceTable) -> FaceTable:
    """Keep one of the exact copies of an image (equal bytes): the one whose id sorts first.

    Use ``drop-conflicting`` before it if copies may have different labels.
    """
    faces, contents, report = _numbered(table), _contents(table), _copy(table.report)
    order = faces["id"].sort_values().index
    copy = contents[order].duplicated().reindex(faces.index) & (contents != "")
    return _replace_faces(table, report.drop_rows(faces, copy, "id", "exact copy of another picture"), report)


def conflicting(faces: pd.DataFrame, contents: "pd.Series[str]") -> "pd.Series[bool]":
    """Return for every face whether copies of it (equal content) differ in a known age, gender or race."""
    labels = faces[["age_low", "age_high", "gender", "race"]]
    known = labels.where(labels >= 0)
    return (known.groupby(contents).transform("nunique") > 1).any(axis=1)


def _consensus(values: "pd.Series[Any]", subjects: "pd.Series[str]") -> dict[str, Any]:
    """Return the most frequent value of each subject, for subjects without a tie."""
    counts = pd.DataFrame({"subject": subjects, "value": values}).value_counts().rename("rows").reset_index()
    best = counts.groupby("subject")["rows"].transform("max")
    winners = counts[counts["rows"] == best].drop_duplicates("subject", keep=False)
    return dict(zip(winners["subject"], winners["value"], strict=True))


def _consensus_class(table: FaceTable, column: str) -> FaceTable:
    faces = _need(table, f"consensus-{column}", "subject")
    known = (faces["subject"] != "") & (faces[column] >= 0)
    classes = faces[column].where(known)
    disagree = known & (classes.groupby(faces["subject"]).transform("nunique") > 1)
    consensus = faces["subject"].map(_consensus(faces[column][disagree], faces["subject"][disagree]))
    wanted = consensus.fillna(-1).astype("int64")
    changed = disagree & (faces[column] != wanted)
    report = _copy(table.report)
    report.note_rows(faces, changed, "id", f"{column} set to the subject's consensus")
    return _replace_faces(table, faces.assign(**{column: faces[column].where(~changed, wanted)}), report)


def _numbered(table: FaceTable) -> pd.DataFrame:
    """Return the frame with positions from 1 as index, which the report shows as lines."""
    return table.frame.set_axis(range(1, len(table.frame) + 1))


def _need(table: FaceTable, name: str, *columns: str) -> pd.DataFrame:
    missing = [column for column in columns if column not in table.frame]
    if missing or (table.frame["subject"] == "").all():
        lacks = f"columns {', '.join(missing)}" if missing else "subjects"
        raise DataError(f"data.clean: {name} needs {lacks}, which {table.dataset} lacks: remove this rule")
    return _numbered(table)


def _contents(table: FaceTable) -> "pd.Series[str]":
    """Return the content hash of every image, from the table if it has them."""
    faces = _numbered(table)
    if "content" in faces:
        return faces["content"]
    return pd.Series(content_column(table.root, faces["path"]), index=faces.index, dtype="str")


def _versioned(name: str) -> str:
    return f"{name}@{RULES[name].version}"


def _copy(report: ReadReport) -> ReadReport:
    return replace(report, dropped=[*report.dropped], notes=[*report.notes])


def _replace_faces(table: FaceTable, faces: pd.DataFrame, report: ReadReport) -> FaceTable:
    return replace(table, frame=faces.reset_index(drop=True), report=report)
