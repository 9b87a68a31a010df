"""Checks for what is known to be wrong in single releases."""

from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np

from mtmsa_lightning.data.audit.findings import Finding, found
from mtmsa_lightning.data.audit.labels import rows_by
from mtmsa_lightning.data.face_table import FaceTable

SAME_PICTURES: dict[str, str] = {
    "clap2016": "appa_real",
    "appa_real": "clap2016",
    "imdb_wiki": "imdb_clean",
    "imdb_clean": "imdb_wiki",
}
"""Datasets that are taken to hold the same pictures, fully or in part."""

_NEAR = 0.85
"""Similarity of names, of ``difflib.SequenceMatcher``, from which two subjects may be one."""


def check_release(table: FaceTable) -> list[Finding]:
    """Run all checks of this module."""
    checks = double_blocks, near_names, photos_of_both_genders, same_pictures
    return [finding for check in checks for finding in check(table)]


def double_blocks(table: FaceTable) -> list[Finding]:
    """Find subjects with as many male as female pictures of equal ages, in a table with numbered pictures.

    AgeDB has five such people, 132 pairs of pictures: a person's pictures stand twice, with other numbers.
    """
    faces = table.frame
    if "number" not in faces:
        return []
    both = (faces["subject"] != "") & (faces.groupby("subject")["gender"].transform("nunique") > 1)
    groups: list[tuple[int, int]] = []
    examples = []
    for subject, rows in faces[both].sort_values(["age_low", "number"]).groupby("subject"):
        men, women = rows[rows["gender"] == 0], rows[rows["gender"] == 1]
        if len(men) + len(women) == len(rows) and men["age_low"].tolist() == women["age_low"].tolist():
            groups += zip(men.index, women.index, strict=True)
            blocks = (f"{block['number'].min()} to {block['number'].max()}" for block in (men, women))
            examples.append(f"{subject}: {len(men)} pairs, numbers {' and '.join(blocks)}")
    detail = f" ({len(groups):,} probable pairs of copies)"
    return found("double-block", "subjects listed twice, as male and female", examples, groups, detail=detail)


def near_names(table: FaceTable) -> list[Finding]:
    """Find neighbours, in a table with numbered pictures, whose subjects have nearly the same name.

    AgeDB's pictures are numbered person by person, and one misspelt name splits a person.
    """
    faces = table.frame
    if "number" not in faces:
        return []
    subjects = faces.sort_values("number")["subject"]
    pairs = {(min(pair), max(pair)) for pair in pairwise(subjects) if "" not in pair and pair[0] != pair[1]}
    near = sorted((a, b) for a, b in pairs if SequenceMatcher(None, a, b, False).ratio() >= _NEAR)
    numbers = faces["subject"].value_counts()
    examples = [" and ".join(f"{name} ({numbers[name]})" for name in pair) for pair in near]
    groups = [np.flatnonzero(faces["subject"].isin(pair)).tolist() for pair in near]
    return found("near-names", "subjects with nearly the same name, side by side", examples, groups)


def photos_of_both_genders(table: FaceTable) -> list[Finding]:
    """Find numbers of photos with faces of both genders; AFAD has 647."""
    faces = table.frame
    if "photo" not in faces:
        return []
    known = faces[faces["gender"] >= 0]
    both = known[known.groupby("photo")["gender"].transform("nunique") > 1]
    groups = rows_by(both["photo"])
    examples = [f"{photo}: {', '.join(faces['id'][rows])}" for photo, rows in groups.items()]
    return found("photo-gender", "photos with faces of both genders", examples, groups.values())


def same_pictures(table: FaceTable) -> list[Finding]:
    """Name the dataset that is taken to hold the same pictures."""
    other = SAME_PICTURES.get(table.dataset)
    return found("same-pictures", "datasets with the same pictures", [other] if other else [])
