"""Map-style datasets of releases, for training loops without Lightning."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import label_kinds
from mtmsa_lightning.data.splits.split import PARTS
from mtmsa_lightning.errors import ConfigError, DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LOADING = (
    "batch_size", "num_workers", "pin_memory", "augment", "augment_on",
    "sampler", "balance_by", "balance_strength", "balance_smoothing",
)  # fmt: skip
"""Arguments of the DataModule that only concern its loaders and the training images."""


class ReleaseDataset(Dataset[dict[str, Any]]):
    """One part of a release as a map-style dataset, read and split as by its DataModule.

    A sample is a dict:

    - ``image``: uint8 RGB, ``(3, image_size, image_size)``, or the result of ``transform``.
    - ``age_low``, ``age_high``: float64 scalars, completed years; equal for an exact age, NaN where missing.
    - ``gender``, ``race``: int64 scalars, class indices; -1 where missing.
    - ``id``: identifier of the image, a text.

    Args:
        root: Folder of the release or of a prepared set; by default ``${MTMSA_DATA:-data}/<name>``.
        split: ``train``, ``val``, ``test`` or ``calibration``.
        protocol: Name of the split protocol; by default that of the DataModule.
        fold: Number of the test fold, from 0.
        transform: Function of the image, such as one of ``torchvision.transforms.v2``.
        **kwargs: Other arguments of the DataModule, such as ``image_size``, ``crop``, ``seed`` and
            ``val_fraction``, but none of its loaders (``LOADING``).

    Attributes:
        table: Rows of the face table of this part; see :class:`~mtmsa_lightning.data.face_table.FaceTable`.
        gender_classes: Names in index order.
        race_classes: Names in index order; empty if race is not labelled.

    Raises:
        ConfigError: If the part or an argument does not exist.
        DataError: If the release cannot be read or split.
    """

    datamodule: ClassVar[type[FaceDataModule]]

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "train",
        protocol: str | None = None,
        fold: int = 0,
        transform: Callable[[Tensor], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if split not in PARTS:
            raise ConfigError(f"split {split!r} must be one of {', '.join(PARTS)}")
        given = [name for name in LOADING if name in kwargs]
        if given:
            raise ConfigError(
                f"{type(self).__name__} takes no {', '.join(given)}: give batch_size, num_workers, "
                "pin_memory and a sampler to your DataLoader, and the augmentation as transform"
            )
        kwargs |= {} if protocol is None else {"protocol": protocol}
        data = self.datamodule(root=None if root is None else str(root), fold=fold, num_workers=0, **kwargs)
        data.prepare_data()
        self.root, self.split, self.protocol, self.fold = data.root, split, data.protocol, fold
        self.transform = transform
        self.gender_classes, self.race_classes = data.gender_classes, data.race_classes
        self._faces = data.dataset_of(data.split, split)

    @property
    def table(self) -> pd.DataFrame:
        """Rows of the face table, in the order of the samples."""
        return self._faces.table

    def __len__(self) -> int:
        return len(self._faces)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample.

        Raises:
            DataError: If the image cannot be read.
        """
        face = self._faces[range(len(self))[index]]
        if face["error"]:
            raise DataError(face["error"])
        image = torch.from_numpy(face["image"]).permute(2, 0, 1).contiguous()
        return {
            "image": image if self.transform is None else self.transform(image),
            **{name: torch.tensor(face[name], dtype=torch.float64) for name in ("age_low", "age_high")},
            **{name: torch.tensor(face[name]) for name in ("gender", "race")},
            "id": face["id"],
        }

    def plot(self, sample: dict[str, Any]) -> "Figure":
        """Plot a sample: its image (floating point in [0, 1]), with the labels as title."""
        from matplotlib.figure import Figure  # slow to import

        figure = Figure(figsize=(3, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.imshow(np.asarray(sample["image"].permute(1, 2, 0)))
        axes.set_title(self._describe(sample), fontsize=10)
        axes.set_axis_off()
        return figure

    def _describe(self, sample: dict[str, Any]) -> str:
        low, high = float(sample["age_low"]), float(sample["age_high"])
        age = f"{low:.0f}" if low == high else f"{low:.0f}-{high:.0f}"
        texts = [] if np.isnan(low) else [f"{age} years"]
        for names, index in ((self.gender_classes, sample["gender"]), (self.race_classes, sample["race"])):
            texts += [names[index]] if index >= 0 else []
        return ", ".join(texts) or "no labels"

    def __repr__(self) -> str:
        labels = ", ".join(sorted(label_kinds(self.table) - {"age"})) or "none"
        split = f"{self.split} (protocol {self.protocol}, fold {self.fold})"
        return (
            f"Dataset {type(self).__name__}\n    Number of faces: {len(self)}\n"
            f"    Root location: {self.root}\n    Split: {split}\n    Labels: {labels}"
        )
