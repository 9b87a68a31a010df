"""DataModule of several datasets in one training."""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from mtmsa_lightning.data.augment.pipelines import AugmentSetting
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import FaceTable, label_kinds
from mtmsa_lightning.data.joined_dataset import JoinedDataset
from mtmsa_lightning.data.mixture.copies import Copies, find_copies, refuse_leaks
from mtmsa_lightning.data.mixture.joining import (
    MIXTURE,
    common_root,
    join_splits,
    join_tables,
    starts_of,
    unite,
)
from mtmsa_lightning.data.mixture.sampling import MixtureSampler, faces_per_epoch
from mtmsa_lightning.data.release_files import nearest
from mtmsa_lightning.data.splits.split import PARTS, Split
from mtmsa_lightning.data.training_hashes import image_hashes
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.settings.defaults import BATCH_SIZE, IMAGE_SIZE

log = logging.getLogger(__name__)

COMMON = ("image_size", "batch_size", "pin_memory", "augment", "augment_on", "verify")
"""Settings that the sources have in common: those of the mixture apply."""


class Mixture(FaceDataModule):
    """Several datasets in one training, each with its own protocol, fold, cleaning and root.

    A label that a source lacks is missing for its faces, which losses and metrics ignore. Race classes are
    merged by name. Validation and test are of the sources' own parts, together and for each source.

    Args:
        sources: The DataModules, with distinct names. Each has its own ``sampler``; ``image_size``,
            ``batch_size``, ``num_workers``, ``pin_memory``, ``augment``, ``augment_on`` and ``verify`` are
            those of the mixture. A source without a training part (protocol ``whole``) is only tested.
        weights: How often an epoch uses each face of a source, by name; 1 by default. With 2 an epoch has
            every face twice, with 0.5 half of them, drawn again for every epoch.
        caps: The most training faces of a source in an epoch, by name.
        allow_copies: Keep test faces whose image another source trains on (equal bytes), instead of refusing
            them; recorded.
        age_groups: Name of the source whose age groups are predicted and evaluated, for faces of all sources;
            needed if sources have different ones.
        fold: Fold of all sources that have several; by default each has its own.
        image_size: Side of the network's input in pixels.
        batch_size: Faces per step and device.
        num_workers: Number of loader processes; by default one per available core, at most 8.
        pin_memory: Load batches into pinned memory; by default only if the Trainer uses CUDA.
        seed: Seed of the sampling and the augmentation; the splits have those of the sources.
        augment: Augmentation of the training images, see
            :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
        augment_on: ``cpu`` or ``device``; see :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
        verify: Decode every image before the run and report unreadable ones.

    Attributes:
        sources: The DataModules.
        weights: The given weights.
        caps: The given caps.
        copy_notes: Notes on images in several sources, after ``prepare_data``.
    """

    name = MIXTURE
    protocols = (MIXTURE,)

    def __init__(
        self,
        sources: list[FaceDataModule],
        weights: dict[str, float] | None = None,
        caps: dict[str, int] | None = None,
        allow_copies: bool = False,
        age_groups: str | None = None,
        fold: int | None = None,
        image_size: int = IMAGE_SIZE,
        batch_size: int = BATCH_SIZE,
        num_workers: int | None = None,
        pin_memory: bool | None = None,
        seed: int = 0,
        augment: AugmentSetting = "light",
        augment_on: Literal["cpu", "device"] = "cpu",
        verify: bool = False,
    ) -> None:
        self.sources = tuple(sources)
        _check_sources(self.sources)
        self.weights = _checked("weights", weights, self.names)
        self.caps = _checked("caps", caps, self.names)
        self.allow_copies = allow_copies
        super().__init__(
            str(common_root(source.root for source in sources)),
            protocol=MIXTURE,
            fold=fold or 0,
            image_size=image_size,
            batch_size=batch_size,
            num_workers=num_workers,
            pin_memory=pin_memory,
            seed=seed,
            augment=augment,
            augment_on=augment_on,
            verify=verify,
        )
        for source in sources:
            source.in_mixture, source.mixture_fold = True, fold
            self._set_common(source)
        self.race_classes = unite(source.race_classes for source in sources)
        self.age_groups = _chosen_groups(self.sources, age_groups)
        self._copies: Copies | None = None
        self._hashes: NDArray[np.uint64] | None = None  # of all images, after prepare_data
        self.copy_notes: tuple[str, ...] = ()

    def _set_common(self, source: FaceDataModule) -> None:
        """Set the common settings of a source; refuse one that was given for the source alone."""
        defaults = inspect.signature(FaceDataModule).parameters
        for key in COMMON:
            value, ours = getattr(source, key), getattr(self, key)
            if value not in (defaults[key].default, ours):
                raise ConfigError(
                    f"data.sources: {source.name} has {key} {value!r}, but all sources share it: give "
                    f"data.{key} of the mixture"
                )
            setattr(source, key, ours)
        source.num_workers, source._augmentation = self.num_workers, self._augmentation

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources."""
        return tuple(source.name for source in self.sources)

    def read(self) -> FaceTable:
        """Read and join the tables of the sources."""
        return join_tables(self._tables, self.race_classes)

    @property
    def _tables(self) -> dict[str, FaceTable]:
        return {source.name: source.table for source in self.sources}

    @property
    def crop(self) -> float:
        """Fraction of a photo that is used in prediction: that of the first source."""
        return self.sources[0].crop

    @property
    def preparation(self) -> dict[str, Any] | None:
        """How the faces of the first source were prepared."""
        return self.sources[0].preparation

    @property
    def source(self) -> str:
        """The names of the sources, joined by ``+``."""
        return "+".join(source.source for source in self.sources)

    @cached_property
    def table(self) -> FaceTable:
        """The joined table, see :func:`.joining.join_tables`."""
        return self.read()

    @cached_property
    def pixels(self) -> None:
        """None: every source has its own."""
        return

    @cached_property
    def split(self) -> Split:
        """The joined splits of the sources."""
        joined = join_splits({each.name: each.split for each in self.sources}, self._tables, self.seed)
        return replace(joined, fold=self.fold)

    @property
    def folds(self) -> tuple[int, ...]:
        """Numbers of the folds that all sources with several have.

        Raises:
            ConfigError: These sources have different folds, or another one has a test part, whose faces every
                fold would test.
        """
        several = {source.name: source.folds for source in self.sources if len(source.folds) > 1}
        if len(set(several.values())) != 1:
            found = ", ".join(f"{name} {len(folds)}" for name, folds in several.items()) or "none"
            raise ConfigError(
                "a mixture is cross-validated over folds that its sources share; sources with several: "
                f"{found}. Choose protocols with equal folds, or run `mtmsa fit` with a fold of each source"
            )
        fixed = [each for each in self.sources if each.name not in several and len(each.split.test)]
        if fixed:
            raise ConfigError(
                f"data.sources, {fixed[0].name}: protocol {fixed[0].protocol} has one fold, whose test faces "
                "every fold of the mixture would test: give it the protocol train_all, or remove it"
            )
        return next(iter(several.values()))

    def split_of(self, fold: int) -> Split:
        """Return the joined splits of a fold of all sources that have several."""
        splits = {
            source.name: source.split_of(fold) if len(source.folds) > 1 else source.split
            for source in self.sources
        }
        return replace(join_splits(splits, self._tables, self.seed), fold=fold)

    def prepare_data(self) -> None:
        """Read and split the sources, and refuse copies of test faces in the training of another source."""
        for source in self.sources:
            source.prepare_data()
        _ = self.split
        parts = {part: self.dataset_of(self.split, part) for part in PARTS}
        hashes = {part: image_hashes(faces) for part, faces in parts.items()}
        self._hashes = np.zeros(len(self.table), np.uint64)
        for part in PARTS:
            self._hashes[getattr(self.split, part)] = hashes[part]
        self._copies = find_copies(parts, hashes)  # type: ignore[arg-type]
        self.copy_notes = (*refuse_leaks(self._copies, self.allow_copies),)

    def check_parts(self, stage: str | None) -> None:
        """Raise an error if no source has a part that the stage needs."""
        needed = {"fit": ("train", "val"), "validate": ("val",)}.get(str(stage), ())
        for part in needed:
            if not len(getattr(self.split, part)):
                wanted = "a protocol with a training part" if part == "train" else "a val_fraction above 0"
                raise ConfigError(f"data.sources: no source has a {part} part: give one {wanted}")

    @rank_zero_only
    def _report(self) -> None:
        for source in self.sources:
            source._report()
        log.info("%s", self.describe_epoch())
        crops = {(source.crop, str((source.preparation or {}).get("crop"))) for source in self.sources}
        if len(crops) > 1:
            log.warning(
                "the sources are cropped differently (data.sources: crop, or prepared sets); predictions on "
                "photos crop as for the first, %s", self.names[0],
            )  # fmt: skip

    def describe_epoch(self) -> str:
        """Describe the faces of an epoch in one line."""
        used = faces_per_epoch(self._sizes("train"), self.weights, self.caps)
        total = max(1, sum(used.values()))
        of_sources = (
            f"{used[name]:,} of {size:,} {name} ({100 * used[name] / total:.0f} %)"
            for name, size in self._sizes("train").items()
        )
        return f"training faces in an epoch: {', '.join(of_sources)}"

    def _sizes(self, part: str) -> dict[str, int]:
        return {source.name: len(getattr(source.split, part)) for source in self.sources}

    def _dataset(self, rows: np.ndarray[Any, Any], augment: bool = False) -> JoinedDataset:
        parts = [
            source._dataset(rows[(rows >= start) & (rows < start + len(source.table))] - start, augment)
            for source, start in zip(self.sources, starts_of(self._tables).values(), strict=True)
        ]
        sides = {name: part.transform.image_size for name, part in zip(self.names, parts, strict=True)}
        if len(set(sides.values())) > 1:
            stored = ", ".join(f"{name} {side} px" for name, side in sides.items())
            raise ConfigError(
                f"data.augment_on 'device' needs sources with images of one size, not {stored}: use 'cpu'"
            )
        hashes = None if self._hashes is None else self._hashes[rows]
        return JoinedDataset(parts, self.table.frame.iloc[rows], self.table.root, self.seed, hashes)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled, augmented training batches of this rank, by weights and caps."""
        amounts = faces_per_epoch(self._sizes("train"), self.weights, self.caps).values()
        faces = self.train_dataset
        assert isinstance(faces, JoinedDataset)
        frequencies = [
            source.sampling_weights(part) if len(part) else None
            for source, part in zip(self.sources, faces.parts, strict=True)
        ]
        place = *self._rank(), self._done
        sampler = MixtureSampler(faces, [*amounts], frequencies, self.batch_size, self.seed, *place)
        return self._loader(faces, sampler)

    @property
    def epoch_size(self) -> int:
        """Number of training faces in an epoch, by weights and caps."""
        return sum(faces_per_epoch(self._sizes("train"), self.weights, self.caps).values())

    def provenance(self) -> dict[str, Any]:
        """Return the provenance of the joined data, and under ``sources`` that of every source."""
        joined = super().provenance()
        used = faces_per_epoch(self._sizes("train"), self.weights, self.caps)
        sources = {
            source.name: source.provenance()
            | {
                "weight": self.weights.get(source.name, 1.0),
                "cap": self.caps.get(source.name),
                "faces_per_epoch": used[source.name],
            }
            for source in self.sources
        }
        copies = None if self._copies is None else self._copies.record(self.allow_copies)
        return joined | {"sources": sources, "copies": copies, "notes": [*joined["notes"], *self.copy_notes]}

    def labels_of(self, part: str) -> Iterator[set[str]]:
        """Yield the kinds of labels that a part of every source has."""
        for source in self.sources:
            yield label_kinds(source.table.frame.iloc[getattr(source.split, part)])


def sources_of(data: FaceDataModule) -> tuple[FaceDataModule, ...]:
    """Return the sources of a mixture, or the DataModule itself."""
    return data.sources if isinstance(data, Mixture) else (data,)


def _check_sources(sources: Sequence[FaceDataModule]) -> None:
    names = [source.name for source in sources]
    if not sources:
        raise ConfigError("data.sources: is empty: list the DataModules, each by class_path and init_args")
    if MIXTURE in names:
        raise ConfigError("data.sources: a mixture cannot be a source: list its sources")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(
            f"data.sources: {twice[0]} is the name of two sources: list a dataset once; tables have their "
            "names by data.dataset_name"
        )


def _checked(key: str, values: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any]:
    """Return weights or caps by the name of the source, if they are valid."""
    least = "at least 1" if key == "caps" else "above 0"
    for name, value in (values or {}).items():
        if name not in names:
            known = ", ".join(names)
            raise ConfigError(
                f"data.{key}: there is no source {name!r}{nearest(name, names)}; sources: {known}"
            )
        if not (value >= 1 if key == "caps" else 0 < value < float("inf")):
            raise ConfigError(
                f"data.{key}: {value} of {name} must be {least}; remove a source to leave it out"
            )
    return dict(values or {})


def _chosen_groups(sources: Sequence[FaceDataModule], chosen: str | None) -> tuple[tuple[int, int], ...]:
    """Return the age groups of the chosen source; by default those that all sources with groups share."""
    groups = {source.name: tuple(source.age_groups) for source in sources if source.age_groups}
    if chosen is not None and chosen not in groups:
        known = ", ".join(groups) or "none"
        raise ConfigError(
            f"data.age_groups {chosen!r}{nearest(chosen, groups)} is not a source with age groups; those "
            f"with some: {known}"
        )
    if chosen is None and len(set(groups.values())) > 1:
        raise ConfigError(
            f"data.sources: {', '.join(groups)} have different age groups: choose those to predict and "
            f"evaluate, e.g. --data.age_groups {next(iter(groups))}"
        )
    return groups[chosen] if chosen else next(iter(groups.values()), ())
