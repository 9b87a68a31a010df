"""UTKFace: about 23,705 cropped faces from the web, ages 0 to 116, labels in the file names, no subjects."""

import re
from pathlib import Path, PurePosixPath

import pandas as pd

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.files import (
    ImageListing,
    content_column,
    expected_tree_error,
    list_images,
    listing_report,
)
from mtmsa_lightning.data.release_dataset import ReleaseDataset
from mtmsa_lightning.data.table import MAX_AGE, FaceTable, ReadReport, make_frame
from mtmsa_lightning.labels import GENDERS

TREE = """
<root>/
  ... any folders ...
    25_0_2_20170116174525125.jpg.chip.jpg  (<age>_<gender>_<race>_<timestamp>.jpg.chip.jpg)
    ...
"""
RACE_CLASSES: tuple[str, ...] = ("white", "black", "asian", "indian", "other")

_NAME = re.compile(r"(?P<age>\d{1,3})_(?P<gender>\d)_(?P<race>\d)_\d+\D", re.ASCII)
_SHORT = re.compile(r"\d{1,3}(_\d)?_\d{6,}\D", re.ASCII)


def is_labelled(path: str) -> bool:
    """Return whether a file name has labels in UTKFace's format."""
    return _problem(PurePosixPath(path).name) is None


def read_utkface(root: str | Path, strict: bool = False) -> FaceTable:
    """Read UTKFace from its file names, anywhere below ``root``.

    Text after the timestamp is ignored, because one name of the release lacks a dot. Names that lack a field
    and files that cannot be read are dropped. A name that occurs in several folders is kept once (in sorted
    order), because the release is often unpacked together with a second copy. The extra column ``content``
    holds the hash of each file (16 hexadecimal digits), by which splits keep exact copies together.

    Args:
        root: Folder of the images.
        strict: Raise an error instead of dropping files.

    Raises:
        DataError: No image is found (the message shows the expected tree), or ``strict`` and a file was
            dropped.
    """
    root = Path(root)
    listing = list_images(root) if root.is_dir() else ImageListing(())
    if not len(listing):
        raise expected_tree_error(root, "no image", TREE)
    report = listing_report(listing, root)
    rows, seen = [], dict[str, str]()
    for position, path in enumerate(listing, start=1):
        name = PurePosixPath(path).name
        problem = _problem(name)
        if problem is None and name in seen:
            problem = "same name in another folder"
        if problem:
            report.drop(position, path, problem)
        else:
            seen[name] = path
            rows.append((position, name, path, *_fields(name)))
    faces = _with_contents(rows, root, report)
    report.finish(strict)
    frame = _to_frame(faces, report)
    return FaceTable(frame, root, "utkface", "utkface file names", RACE_CLASSES, report)


def _problem(name: str) -> str | None:
    if not _NAME.match(name):
        return "name lacks a field" if _SHORT.match(name) else "name is not <age>_<gender>_<race>_<timestamp>"
    age, gender, race = _fields(name)
    if age > MAX_AGE or gender >= len(GENDERS) or race >= len(RACE_CLASSES):
        return "age, gender or race is out of range"
    return None


def _fields(name: str) -> tuple[int, int, int]:
    age, gender, race, *_ = name.split("_", 3)
    return int(age), int(gender), int(race)


def _with_contents(
    rows: list[tuple[int, str, str, int, int, int]], root: Path, report: ReadReport
) -> pd.DataFrame:
    columns = ["line", "id", "path", "age_low", "gender", "race"]
    faces = pd.DataFrame(rows, columns=columns).set_index("line")
    faces = faces.assign(age_high=faces["age_low"], content=content_column(root, faces["path"]))
    return report.drop_rows(faces, faces["content"] == "", "path", "file cannot be read")


def _to_frame(faces: pd.DataFrame, report: ReadReport) -> pd.DataFrame:
    labels = faces["age_low"] * 100 + faces["gender"] * 10 + faces["race"]
    conflict = labels.groupby(faces["content"]).transform("nunique") > 1
    report.note_rows(faces, conflict, "path", "an exact copy has other labels")
    return make_frame(faces, "utkface", extra=("content",))


class UTKFace(FaceDataModule):
    """UTKFace: exact ages, gender and race; faces are aligned and cropped, subjects are unknown.

    The arguments are those of :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`. The protocol
    ``random`` keeps exact copies of an image in one part.
    """

    name = "utkface"
    race_classes = RACE_CLASSES
    protocols = ("random", "predefined", "whole", "train_all")
    expected_tree = TREE

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_utkface`."""
        return read_utkface(self.root, self.strict)


class UTKFaceDataset(ReleaseDataset):
    """UTKFace as a map-style dataset; see :class:`.ReleaseDataset`, :class:`UTKFace`."""

    datamodule = UTKFace
