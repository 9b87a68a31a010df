"""The loaders of a DataModule: batches of this rank, unreadable images, and the position in the epoch."""

import logging
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from mtmsa_lightning._utils.epoch_position import batches_into_epoch, epochs_done
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.data.augment.device import augment
from mtmsa_lightning.data.dataloader import face_loader
from mtmsa_lightning.data.face_dataset import FaceBatch, FaceDataset
from mtmsa_lightning.data.samplers import EvalSampler, TrainSampler
from mtmsa_lightning.errors import ConfigError, DataError

log = logging.getLogger(__name__)

MAX_UNREADABLE = 0.01
"""Fraction of unreadable images above which a run stops."""


class FaceLoaders(LightningDataModule):
    """Loads the faces of a DataModule, which sets the attributes; see :class:`.FaceDataModule`."""

    protocol: str
    image_size: int
    batch_size: int
    num_workers: int
    pin_memory: bool | None
    seed: int
    table: Any
    train_dataset: FaceDataset
    val_dataset: FaceDataset
    test_dataset: FaceDataset
    calibration_dataset: FaceDataset

    def __init__(self) -> None:
        super().__init__()
        self._unreadable: dict[str, str] = {}
        self._seen: set[str] = set()
        self._done = (0, 0)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled, augmented training batches of this rank."""
        faces = self.train_dataset
        settings = self.batch_size, self.seed, *self._rank(), self._done, self.sampling_weights(faces)
        return self._loader(faces, TrainSampler(faces, *settings))

    @property
    def epoch_size(self) -> int:
        """Number of training faces in an epoch, of all processes together."""
        return len(self.train_dataset)

    def sampling_weights(self, faces: FaceDataset) -> NDArray[np.float64] | None:
        """Return the relative frequency of each of the faces to train on; None for equal ones."""
        return None

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches of this rank, in table order."""
        return self._loader(self.val_dataset)

    def test_dataloader(self) -> DataLoader[Any]:
        """Test batches of this rank, in table order."""
        if not len(self.test_dataset):
            raise ConfigError(f"protocol {self.protocol} has no test part: choose another for `mtmsa test`")
        return self._loader(self.test_dataset)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of this rank for prediction: those of the test part."""
        return self.test_dataloader()

    def part_dataloader(self, part: str) -> DataLoader[Any]:
        """Batches of this rank of any part, in table order and without augmentation."""
        return self._loader(getattr(self, f"{part}_dataset"))

    def _loader(self, dataset: FaceDataset, sampler: TrainSampler | None = None) -> DataLoader[Any]:
        on_cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        pinned = on_cuda if self.pin_memory is None else self.pin_memory
        order = sampler or EvalSampler(dataset, *self._rank())
        return face_loader(dataset, order, self.batch_size, self.num_workers, pinned)

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    @property
    def unreadable(self) -> dict[str, str]:
        """Errors of the unreadable images that this process has loaded so far, by id."""
        return dict(self._unreadable)

    def on_before_batch_transfer(self, batch: FaceBatch, dataloader_idx: int) -> FaceBatch:
        """Count unreadable images in the main process.

        Raises:
            DataError: If they are more than ``MAX_UNREADABLE`` of the images of a rank, or of those that this
                process has loaded if these are more (the images of a rank change by epoch).
        """
        self._seen.update(batch["id"])
        for name, error in zip(batch["id"], batch["error"], strict=True):
            if error and name not in self._unreadable:
                self._unreadable[name] = error
                log.warning("skipped %s", error)
        world_size, _ = self._rank()
        if len(self._unreadable) > MAX_UNREADABLE * max(len(self.table) / world_size, len(self._seen)):
            shown = "\n  ".join(list(self._unreadable.values())[:10])
            raise DataError(
                f"{pluralize(len(self._unreadable), 'image')} could not be read, more than "
                f"{MAX_UNREADABLE:.0%} (`--data.verify true` lists all before a run):\n  {shown}"
            )
        return batch

    def on_after_batch_transfer(self, batch: FaceBatch, dataloader_idx: int) -> FaceBatch:
        """Augment a training batch on its device, with ``augment_on="device"``."""
        if batch["augmentation"] is None:
            return batch
        images = augment(batch["image"], batch["augmentation"], self.image_size)
        return {**batch, "image": images, "augmentation": None}

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the number of finished batches in it."""
        if self.trainer is None:
            return {}
        return {"epoch": epochs_done(self.trainer), "batches": batches_into_epoch(self.trainer)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the epoch and batch from which the next ``train_dataloader`` continues."""
        self._done = (state_dict["epoch"], state_dict["batches"])
