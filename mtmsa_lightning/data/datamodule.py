"""The base class of all DataModules: face table, split by a protocol, and datasets."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from torch import Tensor

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.images import unreadable
from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.data.augment.cpu import FaceTransform
from mtmsa_lightning.data.augment.params import AugmentationParamSampler
from mtmsa_lightning.data.augment.pipelines import AugmentSetting, build_augmentation, describe_augmentation
from mtmsa_lightning.data.balance import balancing_weights
from mtmsa_lightning.data.baselines import midpoints
from mtmsa_lightning.data.face_dataset import FaceDataset
from mtmsa_lightning.data.face_loaders import FaceLoaders
from mtmsa_lightning.data.face_table import FaceTable, classes_with_faces, label_kinds
from mtmsa_lightning.data.prepared.format import BOXED, is_prepared, is_synthetic, preparation, read_prepared
from mtmsa_lightning.data.prepared.pixels import PixelStore, open_pixels
from mtmsa_lightning.data.remote import local_copy
from mtmsa_lightning.data.splits.cleaning import check_rules, clean
from mtmsa_lightning.data.splits.split import PARTS, Split, fold_numbers, make_split
from mtmsa_lightning.data.splits.split_file import apply_split_file, sha256_of
from mtmsa_lightning.errors import ConfigError, DataError, MTMSAError
from mtmsa_lightning.labels import GENDERS, SYNTHETIC
from mtmsa_lightning.settings.defaults import BALANCE_SMOOTHING, BATCH_SIZE, IMAGE_SIZE, VAL_FRACTION

log = logging.getLogger(__name__)


class FaceDataModule(FaceLoaders, ABC):
    """Reads a release, splits it by a protocol and loads its faces.

    To add a dataset write a subclass with the class attributes below and ``read``.

    Args:
        root: Folder of the release or of a prepared set, or its URL (``data.remote``); by default
            ``${MTMSA_DATA:-data}/<name>``.
        protocol: Name of the split protocol.
        fold: Number of the test fold, from 0.
        image_size: Side of the network's input in pixels.
        crop: Side of the central square of a raw image that is used, as a fraction of its shorter side.
        batch_size: Faces per step and device.
        num_workers: Number of loader processes; by default one per available core, at most 8.
        pin_memory: Load batches into pinned memory; by default only if the Trainer uses CUDA.
        seed: Seed of the split, the shuffling and the augmentation, independent of ``seed_everything``.
        val_fraction: Fraction of the training images used for validation, split by subject. Use 0 if the
            split has its own validation part or nothing is trained.
        calibration_fraction: Fraction of the training images used for calibration, split by subject. With 0
            the validation part is used for calibration.
        augment: Augmentation of the training images: ``none``, ``light`` or ``strong``, any albumentations
            pipeline (a list of steps, a dict of ``to_dict``, a file of ``save``), or a class; see
            :func:`~mtmsa_lightning.data.augment.pipelines.build_augmentation`.
        augment_on: ``cpu`` augments in the loader processes, ``device`` augments whole batches on the
            training device. Both apply the same parameters to the same face and differ only in rounding and
            interpolation. ``device`` is slower on a CPU, and applies presets only.
        strict: Raise an error if rows cannot be used, instead of dropping them.
        verify: Decode every image before the run and report unreadable ones.
        split_file: For the protocol ``predefined``: a CSV with a column ``id`` and a column ``split`` (train,
            val, test) or ``fold``, or a folder with a list for each part (such as ``utk_train.csv`` and
            ``utk_test.csv``); for ``cvpr2024``: the benchmark's JSON file. It replaces the release's own
            split; faces that it does not list are dropped.
        sampler: ``uniform`` uses each training face once per epoch, ``balanced`` rare labels more often and
            common ones less, in epochs of the same length; see :mod:`~mtmsa_lightning.data.balance`.
        balance_by: Columns to balance over jointly: ``age`` and any columns of the table, such as ``gender``.
        balance_strength: From 0 (as ``uniform``) to 1 (each combination of labels equally often).
        balance_smoothing: Standard deviation in years of the kernel that smooths the density of ages (label
            distribution smoothing); 0 does not smooth.
        clean: Names of cleaning rules, applied in this order, e.g. ``[drop-conflicting]``; see
            ``data.splits.cleaning``.

    Attributes:
        name: Name of the dataset; first part of every id.
        gender_classes: Names in index order.
        race_classes: Names in index order; empty if the dataset records no race.
        age_groups: Inclusive (low, high) pairs in years; empty if ages are not grouped.
        protocols: Names of the supported protocols.
        expected_tree: Expected layout of ``root``, for error messages.
        prepared_rule: Label rule that a prepared set must have; None accepts any.
        train_dataset: Training faces, after ``setup``; likewise ``val_dataset``, ``test_dataset`` and
            ``calibration_dataset``.
        in_mixture: Whether it is a source of a mixture, which errors then say.
        mixture_fold: Fold that a mixture sets for its sources with several folds, instead of ``fold``.
        hashing: Hashes of the training images, computed in the background (``data.training_hashes``).
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
        image_size: int = IMAGE_SIZE,
        crop: float = 1.0,
        batch_size: int = BATCH_SIZE,
        num_workers: int | None = None,
        pin_memory: bool | None = None,
        seed: int = 0,
        val_fraction: float = VAL_FRACTION,
        calibration_fraction: float = 0.0,
        augment: AugmentSetting = "light",
        augment_on: Literal["cpu", "device"] = "cpu",
        strict: bool = False,
        verify: bool = False,
        split_file: str | None = None,
        clean: Sequence[str] = (),
        sampler: Literal["uniform", "balanced"] = "uniform",
        balance_by: Sequence[str] = ("age",),
        balance_strength: float = 1.0,
        balance_smoothing: float = BALANCE_SMOOTHING,
    ) -> None:
        super().__init__()
        self.root = local_copy(str(root)) if root is not None else default_root(self.name)
        self.protocol, self.fold, self.seed, self.clean = protocol, fold, seed, clean
        self.val_fraction, self.calibration_fraction = val_fraction, calibration_fraction
        self.split_file = Path(split_file) if split_file is not None else None
        self.image_size, self._raw_crop = image_size, crop
        self.augment, self.augment_on = augment, augment_on
        self._augmentation = build_augmentation(augment)
        self.batch_size, self.pin_memory = batch_size, pin_memory
        self.num_workers = available_workers() if num_workers is None else num_workers
        self.strict, self.verify = strict, verify
        self.sampler, self.balance_by = sampler, balance_by
        self.balance_strength, self.balance_smoothing = balance_strength, balance_smoothing
        self.in_mixture = False
        self.mixture_fold: int | None = None
        self._split_file_hash: str | None = None
        self.hashing: Future[Tensor] | None = None
        self._check_arguments()

    def _check_arguments(self) -> None:
        check_rules(self.clean)
        if self.protocol not in self.protocols:
            raise ConfigError(
                f"protocol {self.protocol!r} is not supported by {self.name}: choose one of "
                f"{', '.join(self.protocols)}"
            )
        if self.split_file is not None and self.protocol not in ("predefined", "cvpr2024"):
            raise ConfigError(f"data.split_file needs data.protocol 'predefined', not {self.protocol!r}")
        values = vars(self) | {"crop": self._raw_crop}
        most = 1 - self.val_fraction
        allowed = {
            "crop": (0 < self._raw_crop <= 1, "is not a fraction: choose a value in (0, 1]"),
            "val_fraction": (0 <= self.val_fraction < 1, "must lie between 0 and 1"),
            "calibration_fraction": (
                0 <= self.calibration_fraction < most,
                f"must lie between 0 and {most:g} (1 - data.val_fraction)",
            ),
            "image_size": (self.image_size >= 64, "is too small: the minimum is 64 pixels"),
            "augment_on": (self.augment_on in ("cpu", "device"), "must be 'cpu' or 'device'"),
            "batch_size": (self.batch_size >= 1, "must be at least 1"),
            "sampler": (self.sampler in ("uniform", "balanced"), "must be 'uniform' or 'balanced'"),
            "balance_by": (len(self.balance_by) > 0, "is empty: name columns, e.g. [age, gender]"),
            "balance_strength": (0 <= self.balance_strength <= 1, "must lie between 0 and 1"),
            "balance_smoothing": (
                0 <= self.balance_smoothing < np.inf,
                "must be 0 years or more",
            ),
            "num_workers": (self.num_workers >= 0, "must not be negative"),
        }
        if self.augment_on == "device" and not isinstance(self._augmentation, str):
            raise ConfigError(
                "data.augment_on 'device' applies presets only: use 'cpu' for this data.augment"
            )
        for name, (valid, rule) in allowed.items():
            if not valid:
                raise ConfigError(f"data.{name} {values[name]!r} {rule}")

    @abstractmethod
    def read(self) -> FaceTable:
        """Read the raw release at ``root``; raise a ``DataError`` with the expected tree if it is missing."""

    @property
    def crop(self) -> float:
        """Fraction of an image that is used; 1 for a prepared set, whose faces are already cropped."""
        return 1.0 if is_prepared(self.root) else self._raw_crop

    @property
    def preparation(self) -> dict[str, Any] | None:
        """How the faces of a prepared set were made; ``BOXED`` for raw images with face boxes, else None."""
        if is_prepared(self.root):
            return preparation(self.root)
        return BOXED if set(BOX) <= set(self.table.frame) else None

    @property
    def source(self) -> str:
        """Where the faces come from, as results name it: the dataset, or ``synthetic-`` and its layout."""
        drawn = self.name != SYNTHETIC and is_synthetic(self.root)
        return f"{SYNTHETIC}-{self.name}" if drawn else self.name

    @cached_property
    def table(self) -> FaceTable:
        """The validated and cleaned table of all faces, or of those in the split file."""
        with self._named_errors():
            return self._table()

    def _table(self) -> FaceTable:
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
        """The decoded faces of a prepared set; None if image files are read."""
        return open_pixels(self.root) if is_prepared(self.root) else None

    @cached_property
    def split(self) -> Split:
        """The split by protocol, fold and seed."""
        if self.mixture_fold is not None and len(self.folds) > 1:
            self.fold = self.mixture_fold
        return self.split_of(self.fold)

    @property
    def folds(self) -> tuple[int, ...]:
        """Numbers of the protocol's folds, for cross-validation."""
        table = self.table
        with self._named_errors():
            return fold_numbers(table, self.protocol, self.seed)

    def split_of(self, fold: int) -> Split:
        """Return the split of any fold, by protocol and seed."""
        table, sizes = self.table, (self.val_fraction, self.calibration_fraction)
        with self._named_errors():
            return make_split(table, self.protocol, fold, self.seed, *sizes)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Name a source of a mixture in the messages of errors, whose remedies are options of one dataset."""
        try:
            yield
        except MTMSAError as error:
            if not self.in_mixture:
                raise
            raise type(error)(
                f"data.sources, {self.name}: {error}\n"
                "Settings of a source, such as root or protocol, are its init_args in data.sources; "
                "--data.NAME sets those of the mixture."
            ) from error

    def prepare_data(self) -> None:
        """Read and split the data; Lightning calls this on one process of each node first."""
        _ = self.split
        if not self.verify:
            return
        errors = unreadable(self.table.root / path for path in self.table.frame["path"])
        if errors:
            shown = "\n  ".join(errors[:10])
            raise DataError(f"{len(errors)} of {len(self.table.frame)} images cannot be read:\n  {shown}")

    def setup(self, stage: str | None = None) -> None:
        """Build the datasets of all parts; repeated calls do nothing."""
        self.check_parts(stage)
        if stage == "fit":
            self._done = (0, 0)  # resets an earlier fit; a resumed checkpoint is loaded after this
        if hasattr(self, "train_dataset"):
            return
        self._report()
        self.train_dataset = self._dataset(self.split.train, augment=True)
        self.val_dataset = self._dataset(self.split.val)
        self.test_dataset = self._dataset(self.split.test)
        self.calibration_dataset = self._dataset(self.split.calibration)
        if stage == "fit" and (weights := self.sampling_weights(self.train_dataset)) is not None:
            uses = self.balance_by, weights.min(), weights.max()
            log.info("balanced sampling by %s: a face is used %.2g to %.2g times per epoch", *uses)
        elif stage == "fit" and list(self.balance_by) != ["age"]:
            log.warning("data.balance_by changes nothing with data.sampler uniform: --data.sampler balanced")

    def check_parts(self, stage: str | None) -> None:
        """Raise an error if a part that the stage needs is empty."""
        if stage == "fit" and not len(self.split.train):
            raise ConfigError(
                f"protocol {self.protocol} has no training part: choose another for `mtmsa fit`"
            )
        if stage in ("fit", "validate") and not len(self.split.val):
            raise ConfigError(
                f"protocol {self.protocol} with data.val_fraction {self.val_fraction:g} leaves no validation "
                "faces, which are needed to choose the best checkpoint: give a fraction, e.g. "
                "--data.val_fraction 0.05"
            )

    @rank_zero_only
    def _report(self) -> None:
        log.info("%s", self.table.report)
        log.info("%s", self.split.summary())
        if self.crop < 1:
            log.info("raw images: the central square of %.0f %% of the shorter side is used", 100 * self.crop)
        if set(BOX) <= set(self.table.frame):
            log.info("raw images: the squares around the face boxes of the table are used")

    def _dataset(self, rows: np.ndarray[Any, Any], augment: bool = False) -> FaceDataset:
        table, root = self.table.frame.iloc[rows], self.table.root
        augmentation = self._augmentation if augment else "none"
        if augmentation != "none" and self.augment_on == "device":
            size = self.pixels.size if self.pixels else round(self.image_size * 8 / 7)  # 256 for 224
            transform, sampler = (
                FaceTransform(size, self.crop),
                AugmentationParamSampler(size, self.image_size, augmentation),
            )
            return FaceDataset(table, root, transform, self.seed, self.pixels, sampler)
        transform = FaceTransform(self.image_size, self.crop, augmentation)
        return FaceDataset(table, root, transform, self.seed, self.pixels)

    def dataset_of(self, split: Split, part: str) -> FaceDataset:
        """Return the dataset of a part of any split, without augmentation."""
        return self._dataset(getattr(split, part))

    def sampling_weights(self, faces: FaceDataset) -> NDArray[np.float64] | None:
        """Return the relative frequency of each of the faces to train on; None for equal ones."""
        if self.sampler == "uniform":
            return None
        return balancing_weights(faces.table, self.balance_by, self.balance_strength, self.balance_smoothing)

    def _sampling(self) -> dict[str, Any]:
        """Return the settings of the training sampler, as plain values."""
        if self.sampler == "uniform":
            return {"sampler": "uniform"}
        balance = {name: getattr(self, f"balance_{name}") for name in ("strength", "smoothing")}
        return {"sampler": self.sampler, "by": list(self.balance_by), **balance}

    def age_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the training ages in years (midpoints for groups)."""
        ages = midpoints(self.train_dataset.table).to_numpy(np.float64)
        if not len(ages):
            raise DataError("no training face has an age: train without an age head (`--model.age null`)")
        return float(ages.mean()), float(ages.std()) or 1.0

    def provenance(self) -> dict[str, Any]:
        """Return the provenance of the data, as plain values: protocol, split, labels and fingerprints."""
        split, report = self.split, self.table.report
        shared = split.subjects_in_two_parts
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
            "trained_classes": classes_with_faces(
                self.table.frame.iloc[split.train], self.gender_classes, self.race_classes
            ),
            "fingerprints": dict(split.fingerprints),
            "faces": {part: len(getattr(split, part)) for part in PARTS},
            "subjects_in_two_parts": None if np.isnan(shared) else shared,
            "notes": list(split.notes),
            "gender_classes": list(self.gender_classes),
            "race_classes": list(self.race_classes),
            "age_groups": [list(group) for group in self.age_groups],
            "image_size": self.image_size,
            "crop": self.crop,
            "preparation": self.preparation,
            "sampling": self._sampling(),
            "augmentation": describe_augmentation(self.augment, self._augmentation, self.image_size),
        }


def default_root(name: str) -> Path:
    """Return ``${MTMSA_DATA:-data}/<name>``."""
    return Path(os.environ.get("MTMSA_DATA", "data")) / name


def available_workers() -> int:
    """Return the number of cores that this process may use, at most 8."""
    return min(8, available_cores())
