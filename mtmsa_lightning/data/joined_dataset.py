"""Dataset of the faces of several sources."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.data.face_dataset import FaceDataset


class JoinedDataset(FaceDataset):
    """Faces of several sources, each with its own root, crop and pixels.

    Args:
        parts: The datasets of the sources, in order.
        table: Their joined rows, in the order of the parts.
        root: Folder that the table's paths are relative to.
        seed: Seed of the augmentation.
        hashes: Hashes of the image files, if they are known (``data.training_hashes.image_hashes``).

    Attributes:
        source: Number of the source of every row, shape (N,).
        hashes: The given hashes, or None.
    """

    def __init__(
        self,
        parts: Sequence[FaceDataset],
        table: pd.DataFrame,
        root: Path,
        seed: int,
        hashes: NDArray[np.uint64] | None = None,
    ) -> None:
        super().__init__(table, root, parts[0].transform, seed, sampler=parts[0].sampler)
        self.parts, self.hashes = tuple(parts), hashes
        sizes = [len(part) for part in parts]
        self.source: NDArray[np.int64] = np.repeat(np.arange(len(parts)), sizes)
        self._row = np.concatenate([np.arange(size) for size in sizes])

    def path(self, index: int) -> Path:
        """Return the image file of a row."""
        part: FaceDataset = self.parts[self.source[index]]
        return part.path(int(self._row[index]))

    def _image(self, row: int, seed: int) -> tuple[Image, str]:
        part: FaceDataset = self.parts[self.source[row]]
        return part._image(int(self._row[row]), seed)
