"""IMDB-WIKI: 523,051 photos of celebrities with computed, noisy ages; two parts with a .mat file each."""

import posixpath
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable, ReadReport
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import finish_table, label_ages, locate_images, read_struct
from mtmsa_lightning.data.release_files import expected_tree_error, find_file

TREE = """
<root>/  (one part or both)
  imdb_crop/
    imdb.mat
    01/nm0000001_rm124825600_1899-5-10_1968.jpg
    ...
  wiki_crop/
    wiki.mat
    17/10000217_1981-05-05_2009.jpg
    ...
"""
FILES = ("imdb.mat", "wiki.mat")

_FIELDS = ("dob", "photo_taken", "full_path", "gender", "face_score", "second_face_score")
_UNIX_EPOCH = 719_529  # Matlab's day number of 1970-01-01: 366 above Python's ordinal

MIN_FACE_SCORE = 1.0
OLDEST = 100


def read_imdb_wiki(
    root: str | Path,
    min_face_score: float = MIN_FACE_SCORE,
    one_face: bool = True,
    max_age: int = OLDEST,
    strict: bool = False,
) -> FaceTable:
    """Read IMDB-WIKI from ``imdb.mat`` and ``wiki.mat``, of which one may be missing.

    The age in completed years is computed from the date of birth and the year of the photo, which is
    assumed to be taken on 1 July. Computed ages run from -31 to 2014; those outside 0 to ``max_age`` are
    unknown. The gender is 0 female, 1 male, NaN unknown in the .mat files. The subject is the first field of
    the file name: the person's number at IMDB (``nm...``), or the number of the Wikipedia page. A row without
    a usable age is kept if its gender is known.

    Args:
        root: Folder with the two parts; the .mat files may be one folder below.
        min_face_score: Lowest score of the detected face; -Inf keeps images without a face.
        one_face: Drop images in which a second face was detected.
        max_age: Highest computed age that is used.
        strict: Raise an error instead of dropping rows.

    Raises:
        DataError: Both .mat files or all images are missing (the message shows the expected tree), a .mat
            file cannot be read, or ``strict`` and a row was dropped.
    """
    root = Path(root)
    files = [path for path in (find_file(root, name) for name in FILES) if path is not None]
    if not files:
        raise expected_tree_error(root, f"neither {' nor '.join(FILES)}", TREE)
    report = ReadReport(" and ".join(map(str, files)))
    parts = []
    for path in files:
        part = read_struct(path, path.stem, _FIELDS)
        report.read += len(part)
        folder = posixpath.relpath(path.parent, root)
        prefix = "" if folder == "." else f"{folder}/"
        full = part["full_path"]
        parts.append(part.assign(file=prefix + full, id=f"{path.stem}/" + full))
    rows = pd.concat(parts)
    score = rows["face_score"].astype("float64")
    rows = report.drop_rows(rows, ~(score >= min_face_score), "id", f"face score below {min_face_score:g}")
    if one_face:
        second = rows["second_face_score"].astype("float64").notna()
        rows = report.drop_rows(rows, second, "id", "a second face")
    rows = locate_images(rows, root, report, TREE, "file")
    gender = rows["gender"].astype("float64").map({0.0: 1, 1.0: 0}).fillna(-1).astype("int64")
    rows = rows.assign(gender=gender, subject=rows["full_path"].str.extract(r"([^/_]+)_[^/]*$")[0].fillna(""))
    rows = label_ages(rows, computed_ages(rows["dob"], rows["photo_taken"]), report, max_age, "id")
    rule = f"{'+'.join(path.stem for path in files)} face score from {min_face_score:g}"
    rule += f"{', one face' if one_face else ''}, age to {max_age}"
    return finish_table(rows, root, report, "imdb_wiki", rule, strict)


def computed_ages(born: "pd.Series[Any]", taken: "pd.Series[Any]") -> "pd.Series[float]":
    """Return completed years on 1 July of the year ``taken`` from Matlab's day numbers of birth.

    Day numbers below 367, before the year 1, give ages that no person reaches.
    """
    days = np.floor(born.astype("float64").fillna(0).to_numpy()).astype("int64") - _UNIX_EPOCH
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype("int64")  # from January 1970
    years = pd.Series(1970 + months // 12 + (months % 12 >= 6), born.index)
    return (taken.astype("float64") - years).where(born.notna())


class IMDBWiki(FaceDataModule):
    """IMDB-WIKI: computed ages and gender of celebrities, for pretraining; the labels are noisy.

    Args:
        min_face_score: Lowest score of the detected face.
        one_face: Drop images in which a second face was detected.
        max_age: Highest computed age that is used.
        protocol: Split protocol.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "imdb_wiki"
    protocols = ("subject_exclusive", "random", "predefined", "cvpr2024", "whole", "train_all")
    expected_tree = TREE

    def __init__(
        self,
        *,
        min_face_score: float = MIN_FACE_SCORE,
        one_face: bool = True,
        max_age: int = OLDEST,
        protocol: str = "subject_exclusive",
        **kwargs: Any,
    ) -> None:
        super().__init__(protocol=protocol, **kwargs)
        self.min_face_score = min_face_score
        self.one_face = one_face
        self.max_age = max_age

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_imdb_wiki`."""
        return read_imdb_wiki(self.root, self.min_face_score, self.one_face, self.max_age, self.strict)


class IMDBWikiDataset(ReleaseDataset):
    """IMDB-WIKI as a map-style dataset; see :class:`.ReleaseDataset`, :class:`IMDBWiki`."""

    datamodule = IMDBWiki
