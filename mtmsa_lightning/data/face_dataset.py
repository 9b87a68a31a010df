"""Dataset and collation of faces.

A sample depends only on ``(seed, epoch, index)``. Samplers yield keys with the epoch instead of plain
indices, because persistent workers keep their copy of the dataset over all epochs.
"""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from mtmsa_lightning._utils.images import Image, UnreadableImageError, read_reduced
from mtmsa_lightning.align.box import box_rows, crop_box
from mtmsa_lightning.data.augment.cpu import FaceTransform
from mtmsa_lightning.data.augment.params import AugmentationParams, AugmentationParamSampler
from mtmsa_lightning.data.augment.random_state import sample_seed
from mtmsa_lightning.data.prepared.pixels import PixelStore


class SampleKey(NamedTuple):
    """Key of a sample.

    Attributes:
        row: Row of the dataset's table.
        epoch: Epoch of the augmentation.
        padding: The sample pads a rank's last batch. Its labels are masked, so that losses, metrics and
            predictions ignore it.
        copy: Number of earlier uses of the row in the epoch; each use is augmented differently.
    """

    row: int
    epoch: int = 0
    padding: bool = False
    copy: int = 0


class FaceSample(TypedDict):
    """One face; a missing age is NaN, a missing class is -1."""

    image: Image
    age_low: float
    age_high: float
    gender: int
    race: int
    id: str
    index: int
    valid: bool
    error: str
    augmentation: AugmentationParams | None


class FaceBatch(TypedDict):
    """A batch of N faces.

    Attributes:
        image: uint8 RGB, shape (N, 3, size, size), in channels-last memory format; floating point in [0, 1]
            after augmentation on the device.
        age_low: float64, completed years, shape (N,); NaN where missing.
        age_high: The same; equal to ``age_low`` for an exact age.
        gender: int64, shape (N,); -1 where missing; likewise ``race``.
        id: N identifiers.
        index: int64 rows of the dataset's table, shape (N,).
        valid: bool, shape (N,); False for padding and unreadable images, whose labels are masked.
        error: N messages, empty for readable images.
        augmentation: Parameters of the augmentation on the device, float32, shape (N, 19), an
            ``AugmentationParams`` per face; None without one or after it.
    """

    image: Tensor
    age_low: Tensor
    age_high: Tensor
    gender: Tensor
    race: Tensor
    id: list[str]
    index: Tensor
    valid: Tensor
    error: list[str]
    augmentation: NDArray[np.float32] | None


class FaceDataset(Dataset[FaceSample]):
    """Faces of a table with their labels.

    Args:
        table: Rows of a face table (see ``FaceTable``); images with a face box (``align.box``) are cropped.
        root: Folder that the table's paths are relative to.
        transform: Crop, augmentation and resizing.
        seed: Seed of the augmentation.
        pixels: The decoded images of the table's paths; None reads the files.
        sampler: Draws the parameters of the augmentation on the device.

    Attributes:
        table: The rows, in the order of the indices.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        root: Path,
        transform: FaceTransform,
        seed: int = 0,
        pixels: PixelStore | None = None,
        sampler: AugmentationParamSampler | None = None,
    ) -> None:
        self.table = table.reset_index(drop=True)
        self.root, self.seed, self.pixels = root, seed, pixels
        self.transform, self.sampler, self._boxes = transform, sampler, box_rows(self.table)
        self._paths = self.table["path"].tolist()  # plain lists: a row access through pandas costs 50 us
        self._ids = self.table["id"].tolist()
        self._ages = self.table[["age_low", "age_high"]].to_numpy(np.float64)
        self._classes = self.table[["gender", "race"]].to_numpy(np.int64)

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, index: int) -> Path:
        """Return the image file of a row."""
        path: str = self._paths[index]
        return self.root / path

    def image_of(self, name: str) -> Image:
        """Return the image of the face with an id, transformed as in epoch 0."""
        return self[self._rows[name]]["image"]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.table["id"])}

    def __getitem__(self, key: SampleKey | int) -> FaceSample:
        key = key if isinstance(key, SampleKey) else SampleKey(key)
        seed = sample_seed(self.seed, key.epoch, key.row + key.copy * len(self))
        image, error = self._image(key.row, seed)
        valid = not key.padding and not error
        low, high = self._ages[key.row] if valid else (np.nan, np.nan)
        gender, race = self._classes[key.row] if valid else (-1, -1)
        return FaceSample(
            image=image, age_low=float(low), age_high=float(high), gender=int(gender), race=int(race),
            id=self._ids[key.row], index=key.row, valid=valid, error=error,
            augmentation=None if self.sampler is None else self.sampler(seed),
        )  # fmt: skip

    def _image(self, row: int, seed: int) -> tuple[Image, str]:
        """Return the transformed image and an empty text, or a grey image and an error message."""
        try:
            image = self._read(row)
        except UnreadableImageError as error:
            size = self.transform.image_size
            return np.full((size, size, 3), 127, np.uint8), str(error)
        return self.transform(image, seed), ""

    def _read(self, row: int) -> Image:
        if self.pixels is not None:
            return self.pixels.read(self._paths[row])
        (image, factor), box = read_reduced(self.path(row)), self._boxes[row]
        return image if box is None else crop_box(image, box, factor=factor)


def collate(samples: list[FaceSample]) -> FaceBatch:
    """Collate samples into a batch."""
    images = [{name: value for name, value in face.items() if name != "augmentation"} for face in samples]
    params = [face["augmentation"] for face in samples if face["augmentation"] is not None]
    batch: FaceBatch = default_collate(images)
    batch["image"] = batch["image"].permute(0, 3, 1, 2)  # a view: moving the bytes is cheaper on the device
    batch["augmentation"] = np.array(params, np.float32) if params else None
    return batch
