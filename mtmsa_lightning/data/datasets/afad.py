"""AFAD: about 165,000 photos of Asian faces, ages 15 and up, labels in the folder names, no subjects."""

from pathlib import Path

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.reader_steps import finish_table, image_rows, keep_first, label_ages, parse_names

TREE = """
<root>/
  AFAD-Full/  (or AFAD-Lite)
    15/
      111/            (male)
        292943-0.jpg  (<photo>-<face>.jpg)
        ...
      112/            (female)
    ...
"""
NAMES = r"(?P<age>[0-9]{1,3})/(?P<sex>111|112)/(?P<photo>[0-9]+)-[0-9]+\.jpg"
LAYOUT = "<age>/<111|112>/<photo>-<face>.jpg"


def read_afad(root: str | Path, strict: bool = False) -> FaceTable:
    """Read AFAD-Full or AFAD-Lite from its folder names, anywhere below ``root``.

    There are no subjects. The extra column ``photo`` is the photo's number in the file name; 647 of them
    carry faces of both genders, so that a split by it separates photos, not people.

    Args:
        root: Folder of the images.
        strict: Raise an error instead of dropping files.

    Raises:
        DataError: No image is found (the message shows the expected tree), or ``strict`` and a file was
            dropped.
    """
    rows, report = image_rows(Path(root), TREE)
    rows = parse_names(rows, report, f"(?:.*/)?(?P<id>{NAMES})", LAYOUT, "path")
    rows = keep_first(rows, report, "id")
    rows = rows.assign(gender=rows["sex"].map({"111": 0, "112": 1}))
    rows = label_ages(rows, rows["age"].astype("float64"), report)
    edition = (
        "lite" if "afad-lite" in f"{Path(root).resolve()}/{rows['path'].iloc[:1].sum()}".lower() else "full"
    )
    return finish_table(
        rows, Path(root), report, "afad", f"afad {edition} folder names", strict, extra=("photo",)
    )


class AFAD(FaceDataModule):
    """AFAD: exact ages and gender of Asian faces; subjects are unknown.

    The arguments are those of :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "afad"
    protocols = ("random", "predefined", "cvpr2024", "whole", "train_all")
    expected_tree = TREE

    def read(self) -> FaceTable:
        """Read the raw release at ``root``; see :func:`read_afad`."""
        return read_afad(self.root, self.strict)


class AFADDataset(ReleaseDataset):
    """AFAD as a map-style dataset; see :class:`.ReleaseDataset`, :class:`AFAD`."""

    datamodule = AFAD
