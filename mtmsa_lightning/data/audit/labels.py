"""Checks of labels: contradictions between copies, within subjects, and with dates."""

import numpy as np
import pandas as pd

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.data.audit.findings import Finding, found
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.splits.cleaning import conflicting
from mtmsa_lightning.data.tables.dates import iso_dates, years_between
from mtmsa_lightning.labels import GENDERS


def check_labels(table: FaceTable) -> list[Finding]:
    """Run all checks of this module; copies are checked if the table has a column ``content``."""
    contents = table.frame.get("content")
    return [
        *([] if contents is None else conflicting_copies(table, contents)),
        *disagreeing_subjects(table),
        *falling_ages(table),
        *ages_against_dates(table),
    ]


def conflicting_copies(table: FaceTable, contents: "pd.Series[str]") -> list[Finding]:
    """Find groups of exact copies (equal content) whose age, gender or race differ."""
    faces = table.frame
    bad = (contents != "") & conflicting(faces, contents)
    groups = list(rows_by(contents[bad]).values())
    labels = describe_labels(table)
    examples = ["; ".join(f"{faces['id'][row]} ({labels[row]})" for row in rows) for rows in groups]
    detail = f" ({pluralize(int(bad.sum()), 'file')})"
    return found("conflicting-labels", "pictures with conflicting labels", examples, groups, detail=detail)


def disagreeing_subjects(table: FaceTable) -> list[Finding]:
    """Find subjects whose known birth date, gender or race differs between their pictures."""
    faces = table.frame
    names = {"gender": np.array([*GENDERS, ""], object), "race": np.array([*table.race_classes, ""], object)}
    values = {column: pd.Series(texts[faces[column]], faces.index) for column, texts in names.items()}
    if "dob" in faces:
        values["birth-date"] = faces["dob"]
    findings = []
    for kind, value in values.items():
        known = (faces["subject"] != "") & (value != "")
        by_subject = value[known].groupby(faces["subject"][known])
        differing = by_subject.nunique()
        subjects = differing.index[differing > 1]
        rows = faces["subject"].isin(subjects)
        groups = rows_by(faces["subject"][rows])
        texts = value.to_numpy(object)
        examples = [f"{name}: {', '.join(sorted(set(texts[groups[name]])))}" for name in subjects]
        what, detail = f"subjects that differ in {kind.replace('-', ' ')}", f" ({int(rows.sum()):,} pictures)"
        findings += found(kind, what, examples, (groups[name] for name in subjects), detail=detail)
    return findings


def falling_ages(table: FaceTable) -> list[Finding]:
    """Find subjects with a lower age in a later picture (by exact ages and readable dates)."""
    if "doa" not in table.frame:
        return []
    faces = table.frame.assign(day=iso_dates(table.frame["doa"]))
    known = (faces["subject"] != "") & faces["day"].notna() & (faces["age_low"] == faces["age_high"])
    faces = faces[known].sort_values(["subject", "day", "age_low"], kind="stable")
    before = faces.groupby("subject")[["age_low", "doa"]].shift()
    faces = faces.assign(age_before=before["age_low"], doa_before=before["doa"])
    falls = faces[(faces["age_low"] < faces["age_before"]) & (faces["doa"] != faces["doa_before"])]
    first = falls.drop_duplicates("subject")
    examples = [
        f"{row.subject}: {row.age_before:.0f} on {row.doa_before}, {row.age_low:.0f} on {row.doa}"
        for row in first.itertuples()
    ]
    groups = rows_by(faces["subject"][faces["subject"].isin(first["subject"])]).values()
    return found("age-falls", "subjects whose age falls over time", examples, groups)


def ages_against_dates(table: FaceTable) -> list[Finding]:
    """Find exact ages that are not the completed years from birth to picture."""
    faces = table.frame
    if not {"dob", "doa"} <= set(faces):
        return []
    years = years_between(iso_dates(faces["dob"]), iso_dates(faces["doa"]))
    wrong = faces[years.notna() & (faces["age_low"] == faces["age_high"]) & (faces["age_low"] != years)]
    examples = [
        f"{row['id']}: {pluralize(float(row['age_low']), 'year')}, born {row['dob']}, taken {row['doa']}"
        for _, row in wrong.iterrows()
    ]
    return found("age-dates", "ages that differ from their dates", examples, ([row] for row in wrong.index))


def rows_by(keys: "pd.Series[str]") -> dict[str, list[int]]:
    """Return the row positions of every key, in the order of the keys."""
    return {str(key): rows.tolist() for key, rows in sorted(keys.groupby(keys).groups.items())}


def describe_labels(table: FaceTable) -> list[str]:
    """Return every face's labels as a short text such as "25, male, black"."""
    faces = table.frame
    gender = np.array([*GENDERS, "?"], object)[faces["gender"]]
    race = np.array([*table.race_classes, "?"], object)[faces["race"]]
    ages = [
        "?" if np.isnan(low) else f"{low:.0f}" if low == high else f"{low:.0f}-{high:.0f}"
        for low, high in zip(faces["age_low"], faces["age_high"], strict=True)
    ]
    parts = [ages, gender, race] if table.race_classes else [ages, gender]
    return [", ".join(texts) for texts in zip(*parts, strict=True)]
