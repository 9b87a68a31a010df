"""The base of all DataModules: a table of faces, a split by a named protocol, and loaders."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.epoch_position import batches_into_epoch, epochs_done
from mtmsa_lightning._utils.images import unreadable
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.data.augment.cpu import AugmentationParamSampler, FaceTransform
from mtmsa_lightning.data.augment.device import augment
from mtmsa_lightning.data.dataset import FaceBatch, FaceDataset
from mtmsa_lightning.data.loader import face_loader
from mtmsa_lightning.data.prepared.format import is_prepared, is_synthetic, preparation, read_prepared
from mtmsa_lightning.data.prepared.pixels import PixelStore, open_pixels
from mtmsa_lightning.data.samplers import EvalSampler, TrainSampler
from mtmsa_lightning.data.splits.cleaning import check_rules, clean
from mtmsa_lightning.data.splits.protocols import PARTS, Split, make_split
from mtmsa_lightning.data.splits.split_file import apply_split_file, sha256_of
from mtmsa_lightning.data.table import FaceTable, label_kinds
from mtmsa_lightning.errors import ConfigError, DataError
from mtmsa_lightning.labels import GENDERS, SYNTHETIC

log = logging.getLogger(__name__)

MAX_UNREADABLE = 0.01
"""Share of the table's images that may turn out unreadable while loading before the run is stopped."""


class FaceDataModule(LightningDataModule, ABC):
    """Reads a release, splits it by a protocol and loads its faces.

    A dataset is added by a subclass with the class attributes below and ``read``.

    Args:
        root: Folder of the release or of a prepared set; by default ``${MTMSA_DATA:-data}/<name>``.
        protocol: Name of the split protocol.
        fold: Number of the test fold, from 0.
        image_size: Side of the network's input in pixels.
        crop: Side of the central square that is used of a raw photo, as a fraction of its shorter side.
        batch_size: Faces per step and device.
        num_workers: Loader processes; by default one per available core, at most 8.
        pin_memory: Load batches into page-locked memory, from which CUDA copies beside other work; by default
            where the Trainer computes on CUDA.
        seed: Seed of the split, the shuffling and the augmentation, apart from ``seed_everything``.
        val_fraction: Share of the training images that is taken out for validation, by subject. 0 where the
            split brings a validation part of its own, or nothing is trained.
        calibration_fraction: Share of the training images that is taken out for calibration, likewise: faces
            that neither train nor choose the checkpoint. 0 leaves calibration to the validation part.
        augment: Augment the training images.
        augment_on: Where: on the ``cpu``, in the loader processes, or on the ``device`` that trains, a batch
            at a time, so that the loader only copies pixels. Both do the same to the same face, apart from
            rounding and interpolation. For accelerators: a CPU is slower at it than the loaders.
        strict: Rows that cannot be used are an error instead of a report.
        verify: Decode every image before anything starts and name the bad ones.
        split_file: For the protocol ``predefined``: a CSV with a column ``id`` and a column ``split`` (train,
            val, test) or ``fold``, such as a published list. It replaces what the release says itself; faces
            that it does not list are left out.
        clean: Cleaning rules, applied in this order to the faces in use, e.g. ``[drop-conflicting]``; see
            ``data.cleaning``. None by default.

    Attributes:
        name: Name of the dataset; first part of every id.
        gender_classes: Names in index order.
        race_classes: Names in index order; empty if the dataset records no race.
        age_groups: Inclusive (low, high) pairs in years; empty if ages are not grouped.
        protocols: Names of the protocols that make sense on this dataset.
        expected_tree: What ``root`` should look like, for error messages.
        prepared_rule: Label rule that a prepared set must have been made by; None accepts any.
        train_dataset: Faces to train on, after ``setup``; likewise ``val_dataset``, ``test_dataset`` and
            ``calibration_dataset``.
        split: The parts as row numbers, with their fingerprints, after ``setup``.
        hashing: Hashes of the images that are learnt from, computed in the background (``data.provenance``).
    """

    name: str
    gender_classes: tuple[str, ...] = GENDERS
    race_classes: tuple[str, ...] = ()
    age_groups: tuple[tuple[int, int], ...] = ()
    protocols: ClassVar[tuple[str, ...]]
    expected_tree: ClassVar[str] = ""
    prepared_rule: str | None = None

    def __init__(
        self,
        root: str | None = None,
        protocol: str = "random",
        fold: int = 0,
        image_size: int = 224,
        crop: float = 1.0,
        batch_size: int = 32,
        num_workers: int | None = None,
        pin_memory: bool | None = None,
        seed: int = 0,
        val_fraction: float = 0.1,
        calibration_fraction: float = 0.0,
        augment: bool = True,
        augment_on: Literal["cpu", "device"] = "cpu",
        strict: bool = False,
        verify: bool = False,
        split_file: str | None = None,
        clean: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.root = Path(root) if root is not None else default_root(self.name)
        self.protocol = protocol
        self.fold = fold
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_workers = available_workers() if num_workers is None else num_workers
        self.pin_memory = pin_memory
        self.seed = seed
        self.val_fraction = val_fraction
        self.calibration_fraction = calibration_fraction
        self.augment = augment
        self.augment_on = augment_on
        self.strict = strict
        self.verify = verify
        self.split_file = Path(split_file) if split_file is not None else None
        self.clean = clean
        self._raw_crop = crop
        self._faults: dict[str, str] = {}
        self._seen: set[str] = set()
        self._split_file_hash: str | None = None
        self._done = (0, 0)
        self.hashing: Future[Tensor] | None = None
        self._check_arguments()

    def _check_arguments(self) -> None:
        check_rules(self.clean)
        if self.protocol not in self.protocols:
            raise ConfigError(
                f"protocol {self.protocol!r} is none of {self.name}'s: {', '.join(self.protocols)}"
            )
        if self.split_file is not None and self.protocol != "predefined":
            raise ConfigError(
                f"data.split_file is followed by protocol 'predefined' only, not by {self.protocol!r}"
            )
        if not 0 < self._raw_crop <= 1:
            raise ConfigError(f"data.crop {self._raw_crop} is not a fraction: choose a value in (0, 1]")
        if not 0 <= self.val_fraction < 1:
            raise ConfigError(f"data.val_fraction {self.val_fraction} must lie between 0 and 1")
        if not 0 <= self.calibration_fraction < 1 - self.val_fraction:
            raise ConfigError(
                f"data.calibration_fraction {self.calibration_fraction} must lie between 0 and "
                f"{1 - self.val_fraction:g}, what validation leaves"
            )
        if self.image_size < 64:
            raise ConfigError(f"data.image_size {self.image_size} is too small: 64 pixels is the least")
        if self.augment_on not in ("cpu", "device"):
            raise ConfigError(f"data.augment_on {self.augment_on!r} must be 'cpu' or 'device'")
        if self.batch_size < 1:
            raise ConfigError(f"data.batch_size {self.batch_size} must be at least 1")
        if self.num_workers < 0:
            raise ConfigError(f"data.num_workers {self.num_workers} must not be negative")

    @abstractmethod
    def read(self) -> FaceTable:
        """Read the raw release at ``root``.

        Raises:
            DataError: If it is not there or not readable; the message shows the expected tree.
        """

    @property
    def crop(self) -> float:
        """Fraction of an image that is used: 1 for a prepared set, whose faces are cropped already."""
        return 1.0 if is_prepared(self.root) else self._raw_crop

    @property
    def source(self) -> str:
        """Where the faces come from, as results name it: the dataset, or ``synthetic-`` and its layout."""
        drawn = self.name != SYNTHETIC and is_synthetic(self.root)
        return f"{SYNTHETIC}-{self.name}" if drawn else self.name

    @cached_property
    def table(self) -> FaceTable:
        """The validated table, read once and cleaned: all faces, or those that the split file lists."""
        prepared = is_prepared(self.root)
        table = read_prepared(self.root, self.name, self.prepared_rule) if prepared else self.read()
        if table.race_classes != self.race_classes:
            raise DataError(
                f"{self.root}: its race classes {table.race_classes} differ from {type(self).__name__}'s "
                f"{self.race_classes}; choose the DataModule that belongs to the set"
            )
        if self.split_file is not None:
            self._split_file_hash = sha256_of(self.split_file)
            table = apply_split_file(table, self.split_file)
        return clean(table, self.clean)

    @cached_property
    def pixels(self) -> PixelStore | None:
        """The decoded faces of a prepared set; None where image files are read."""
        return open_pixels(self.root) if is_prepared(self.root) else None

    @cached_property
    def split(self) -> Split:
        """The parts of this protocol, fold and seed."""
        return self.split_of(self.fold)

    def split_of(self, fold: int) -> Split:
        """Return the parts of any fold of this protocol and seed."""
        fractions = self.val_fraction, self.calibration_fraction
        return make_split(self.table, self.protocol, fold, self.seed, *fractions)

    def prepare_data(self) -> None:
        """Read and split: Lightning lets one process of each node do so first, while the others wait."""
        _ = self.split
        if self.verify:
            self._verify()

    def _verify(self) -> None:
        faults = unreadable(self.table.root / path for path in self.table.frame["path"])
        if faults:
            shown = "\n  ".join(faults[:10])
            raise DataError(f"{len(faults)} of {len(self.table.frame)} images cannot be read:\n  {shown}")

    def setup(self, stage: str | None = None) -> None:
        """Build the datasets of all parts; cheap after the first call."""
        if stage == "fit" and not len(self.split.train):
            raise ConfigError(
                f"protocol {self.protocol} has no training part: choose another for `mtmsa fit`"
            )
        if stage in ("fit", "validate") and not len(self.split.val):
            raise ConfigError(
                f"protocol {self.protocol} with data.val_fraction {self.val_fraction:g} leaves no validation "
                "faces, which choose the best checkpoint: give a fraction of the training faces, e.g. "
                "--data.val_fraction 0.05"
            )
        if stage == "fit":
            self._done = (0, 0)  # of an earlier fit; a checkpoint that is continued is loaded after this
        if hasattr(self, "train_dataset"):
            return
        self._report()
        self.train_dataset = self._dataset(self.split.train, augment=self.augment)
        self.val_dataset = self._dataset(self.split.val)
        self.test_dataset = self._dataset(self.split.test)
        self.calibration_dataset = self._dataset(self.split.calibration)

    @rank_zero_only
    def _report(self) -> None:
        log.info("%s", self.table.report)
        log.info("%s", self.split.summary())
        if self.crop < 1:
            log.info("raw photos: the central square of %.0f %% of the shorter side is used", 100 * self.crop)

    def _dataset(self, rows: np.ndarray[Any, Any], augment: bool = False) -> FaceDataset:
        table, root = self.table.frame.iloc[rows], self.table.root
        if augment and self.augment_on == "device":
            size = self.pixels.size if self.pixels else uncropped_size(self.image_size)
            transform, sampler = (
                FaceTransform(size, self.crop),
                AugmentationParamSampler(size, self.image_size),
            )
            return FaceDataset(table, root, transform, self.seed, self.pixels, sampler)
        transform = FaceTransform(self.image_size, self.crop, augment)
        return FaceDataset(table, root, transform, self.seed, self.pixels)

    def dataset_of(self, split: Split, part: str) -> FaceDataset:
        """Return the faces of a part of any split, as for evaluation."""
        return self._dataset(getattr(split, part))

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled, augmented training batches of this rank."""
        sampler = TrainSampler(self.train_dataset, self.batch_size, self.seed, *self._rank(), self._done)
        return self._loader(self.train_dataset, sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches of this rank, in table order."""
        return self._eval_loader(self.val_dataset)

    def test_dataloader(self) -> DataLoader[Any]:
        """Test batches of this rank, in table order."""
        if not len(self.test_dataset):
            raise ConfigError(f"protocol {self.protocol} has no test part: choose another for `mtmsa test`")
        return self._eval_loader(self.test_dataset)

    def part_dataloader(self, part: str) -> DataLoader[Any]:
        """Batches of this rank of any part, as for evaluation: in table order."""
        return self._eval_loader(getattr(self, f"{part}_dataset"))

    def _eval_loader(self, dataset: FaceDataset) -> DataLoader[Any]:
        return self._loader(dataset, EvalSampler(dataset, *self._rank()))

    def _loader(self, dataset: FaceDataset, sampler: TrainSampler | EvalSampler) -> DataLoader[Any]:
        on_cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        pinned = on_cuda if self.pin_memory is None else self.pin_memory
        return face_loader(dataset, sampler, self.batch_size, self.num_workers, pinned)

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    @property
    def faults(self) -> dict[str, str]:
        """Why images could not be read, by id: those that this process met so far."""
        return dict(self._faults)

    def on_before_batch_transfer(self, batch: FaceBatch, dataloader_idx: int) -> FaceBatch:
        """Count unreadable images, in the main process, and stop when they are too many.

        Raises:
            DataError: If this process could not read more than ``MAX_UNREADABLE`` of its share of all images,
                or of the images that it met, whichever are more (the ranks' shares change by the epoch).
        """
        self._seen.update(batch["id"])
        for name, fault in zip(batch["id"], batch["error"], strict=True):
            if fault and name not in self._faults:
                self._faults[name] = fault
                log.warning("skipped %s", fault)
        world_size, _ = self._rank()
        if len(self._faults) > MAX_UNREADABLE * max(len(self.table) / world_size, len(self._seen)):
            shown = "\n  ".join(list(self._faults.values())[:10])
            raise DataError(
                f"{pluralize(len(self._faults), 'image')} could not be read, more than {MAX_UNREADABLE:.0%} "
                f"(`--data.verify true` names all before a run):\n  {shown}"
            )
        return batch

    def on_after_batch_transfer(self, batch: FaceBatch, dataloader_idx: int) -> FaceBatch:
        """Augment a training batch on its device, if that is where it is done."""
        if batch["augmentation"] is None:
            return batch
        return {
            **batch,
            "image": augment(batch["image"], batch["augmentation"], self.image_size),
            "augmentation": None,
        }

    def state_dict(self) -> dict[str, Any]:
        """Say how far the training has come: the epoch, and the batches of it that are done."""
        if self.trainer is None:
            return {}
        epoch = epochs_done(self.trainer)
        return {"epoch": epoch, "batches": batches_into_epoch(self.trainer)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the training where it was; read by the next ``train_dataloader``."""
        self._done = (state_dict["epoch"], state_dict["batches"])

    def age_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the training ages in years (midpoints for groups)."""
        ages = midpoints(self.train_dataset.table)
        if not len(ages):
            raise DataError("no training face has an age: leave the age head out (`--model.age null`)")
        return float(ages.mean()), float(ages.std()) or 1.0

    def provenance(self) -> dict[str, Any]:
        """What a result of this data must be quoted with, as plain values."""
        split, report = self.split, self.table.report
        return {
            "dataset": self.source,
            "protocol": split.protocol,
            "fold": split.fold,
            "split_seed": split.seed,
            "split_file": self._split_file_hash,
            "label_rule": self.table.label_rule,
            "cleaning": list(self.table.cleaning),
            "rows": {"read": report.read, "kept": report.kept, "dropped": dict(report.reasons())},
            "labels": sorted(label_kinds(self.table.frame.iloc[split.train])),
            "fingerprints": dict(split.fingerprints),
            "faces": {part: len(getattr(split, part)) for part in PARTS},
            "subjects_in_two_parts": _or_none(split.subjects_in_two_parts),
            "notes": list(split.notes),
            "gender_classes": list(self.gender_classes),
            "race_classes": list(self.race_classes),
            "age_groups": [list(group) for group in self.age_groups],
            "image_size": self.image_size,
            "crop": self.crop,
            "preparation": preparation(self.root),
        }


def midpoints(table: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the midpoints of all known ages in years."""
    return ((table["age_low"] + table["age_high"]) / 2).dropna().to_numpy(np.float64)


def uncropped_size(image_size: int) -> int:
    """Return the side of the images out of which the device crops: the usual 256 pixels for 224."""
    return round(image_size * 8 / 7)


def _or_none(value: float) -> float | None:
    """NaN is no JSON."""
    return None if np.isnan(value) else float(value)


def default_root(name: str) -> Path:
    """Return ``${MTMSA_DATA:-data}/<name>``."""
    return Path(os.environ.get("MTMSA_DATA", "data")) / name


def available_workers() -> int:
    """Return the number of cores that this process may use, at most 8."""
    return min(8, available_cores())
