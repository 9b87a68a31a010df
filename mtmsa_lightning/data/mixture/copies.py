"""Exact copies of images in several sources."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.data.joined_dataset import JoinedDataset
from mtmsa_lightning.errors import DataError

log = logging.getLogger(__name__)

LEARNT = ("train", "val")
"""Parts that train, or choose the checkpoint."""


class Copies(NamedTuple):
    """Images with equal bytes in several sources.

    Attributes:
        images: Number of different images that several sources have.
        leaks: Test or calibration faces (``held``) and the copies that another source trains on
            (``learnt``), as ids with the ``part`` of the former.
    """

    images: int
    leaks: pd.DataFrame

    def record(self, allowed: bool) -> dict[str, Any]:
        """Return plain values for the provenance."""
        leaks = self.leaks.groupby("part")["held"].nunique()
        return {"images": self.images, "learnt_from": leaks.to_dict(), "allowed": allowed}


def find_copies(parts: Mapping[str, JoinedDataset], hashes: Mapping[str, npt.NDArray[np.uint64]]) -> Copies:
    """Find images that several sources have, by the hashes of their files.

    Args:
        parts: Faces of the mixture by part.
        hashes: Hashes of their image files by part; 0 for an unreadable one.
    """
    frames = [
        pd.DataFrame({"id": faces.table["id"], "source": faces.source, "part": part, "hash": hashes[part]})
        for part, faces in parts.items()
    ]
    faces = pd.concat(frames, ignore_index=True)
    faces = faces[faces["hash"] != 0]  # unreadable
    faces = faces[faces.groupby("hash")["source"].transform("nunique") > 1]
    learnt = faces["part"].isin(LEARNT)
    pairs = faces[~learnt].merge(faces[learnt], on="hash", suffixes=("", "_learnt"))
    pairs = pairs[pairs["source"] != pairs["source_learnt"]]
    leaks = pairs[["id", "part", "id_learnt"]].rename(columns={"id": "held", "id_learnt": "learnt"})
    return Copies(int(np.unique(faces["hash"]).size), leaks.reset_index(drop=True))


def refuse_leaks(copies: Copies, allowed: bool) -> list[str]:
    """Raise an error if a source trains on copies of another's test or calibration faces.

    Args:
        copies: The copies.
        allowed: Warn instead of raising.

    Returns:
        Notes on the copies.

    Raises:
        DataError: The message has the number of faces and the first few pairs.
    """
    if not copies.images:
        return []
    found = f"{pluralize(copies.images, 'image is', 'images are')} in several sources (equal bytes)"
    if not len(copies.leaks):
        log.info("%s, none of them in test and in training", found)
        return [found]
    held = copies.leaks.drop_duplicates("held")
    counts = ", ".join(f"{count:,} {part} faces" for part, count in held["part"].value_counts().items())
    shown = ", ".join(f"{row.held} = {row.learnt}" for row in held.head(5).itertuples())
    text = f"{counts} have the same bytes as training or validation images of another source: {shown}"
    if not allowed:
        raise DataError(
            f"{text}{', ...' if len(held) > 5 else ''}\nRemove them from one of the sources (`mtmsa audit` "
            "lists all), or keep and record them with --data.allow_copies true."
        )
    log.warning("%s", text)
    return [f"{found}; {counts} have a copy in training or validation"]
