"""A LightningModule that records its data: classes, preprocessing and training data."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from mtmsa_lightning._utils.devices import check_device, check_precision
from mtmsa_lightning._utils.epoch_position import batches_into_epoch
from mtmsa_lightning._utils.joint_failure import JointFailure
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.data.age_range import check_years
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.face_table import classes_with_faces, label_kinds
from mtmsa_lightning.data.mixture.datamodule import Mixture
from mtmsa_lightning.data.overlap import check_overlap
from mtmsa_lightning.data.preprocessing_check import preprocessing_of, warn_preprocessing
from mtmsa_lightning.data.training_hashes import complete_checkpoints, training_hashes
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.metrics.epoch_sums import MetricSums, gather_sums
from mtmsa_lightning.metrics.source_metrics import SourceMetrics
from mtmsa_lightning.metrics.stage_metrics import StageMetrics
from mtmsa_lightning.models.backbones.msa import MSAConfig, padding_dominated_rates
from mtmsa_lightning.models.backbones.trunk import Trunk
from mtmsa_lightning.models.class_mapping import (
    ClassMapping,
    masked_classes,
    trained_only,
    warn_masked,
    warn_untrained,
)
from mtmsa_lightning.models.heads.age import AgeHead
from mtmsa_lightning.models.heads.classes import ClassHead
from mtmsa_lightning.runs import provenance
from mtmsa_lightning.runs.checkpoints import checkpoint_file, read_checkpoint
from mtmsa_lightning.runs.initial_weights import load_initial_weights
from mtmsa_lightning.runs.status import warn_unfinished
from mtmsa_lightning.runs.teacher import Teacher
from mtmsa_lightning.settings.class_paths import allowing

log = logging.getLogger(__name__)

TASKS = ("age", "gender", "race")


class FaceModule(LightningModule):
    """Base of :class:`~mtmsa_lightning.module.MTMSA`: everything about data and checkpoints, no network.

    Attributes:
        provenance: Training data of the weights, as plain values; None before a training.
        calibration: Calibration of the predictions; training removes it.
        class_mappings: Mapping between the classes of data and model, by task.
        source_mappings: The same for every source of a mixture.
        seed: Seed of the run, written into its checkpoints.
        allow_overlap: Warn of test faces that were trained on instead of refusing them.
        overlap: Notes on test faces that were trained on, if that is allowed.
    """

    trunk: Trunk
    age: AgeHead | None
    gender: ClassHead | None
    race: ClassHead | None
    metrics: StageMetrics
    source_metrics: SourceMetrics
    weights: str | None
    teacher: list[str]
    image_size: int
    crop: float
    flip_test: bool
    gender_classes: tuple[str, ...]
    race_classes: tuple[str, ...]
    age_groups: tuple[tuple[int, int], ...]

    def __init__(self) -> None:
        super().__init__()
        self.calibration: Calibration | None = None
        self.class_mappings: dict[str, ClassMapping] = {}
        self.source_mappings: list[dict[str, ClassMapping]] = []
        self.provenance: dict[str, Any] | None = None
        self.seed: int | None = None
        self.allow_overlap = False
        self.overlap: list[str] = []
        self.taught_by: Teacher | None = None
        self._race_wanted = False
        self._initialised = False
        self._years_checked: set[tuple[int, str]] = set()
        self._train_sums: list[MetricSums] = []  # of a checkpoint saved within an epoch

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the heads that exist."""
        return tuple(task for task in TASKS if getattr(self, task) is not None)

    @property
    def trained_classes(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes with training faces by task, for class heads that were trained with labels."""
        known = self.provenance or {}
        labels, trained = known.get("labels", ("gender", "race")), known.get("trained_classes", {})
        return {
            task: trained_only(names, trained.get(task))
            for task, names in self._classes.items()
            if task in self.tasks and task in labels
        }

    @property
    def _classes(self) -> dict[str, tuple[str, ...]]:
        return {"gender": self.gender_classes, "race": self.race_classes}

    def trained_logits(self, output: Any) -> dict[str, Tensor]:
        """Return the logits ``(N, classes)`` of the ``trained_classes`` of an output, by task."""
        columns = {
            task: [self._classes[task].index(name) for name in names]
            for task, names in self.trained_classes.items()
        }
        return {
            task: logits if len(kept) == logits.shape[1] else logits[:, kept]
            for task, kept in columns.items()
            if (logits := getattr(output, task)) is not None
        }

    def describe(self) -> str:
        """Describe training data, input and predictions of the model in one line."""
        trained = provenance.describe(self.provenance, self.image_size, self.crop)
        names = self._classes | self.trained_classes
        classes = "; ".join(f"{task}: {', '.join(each) or 'none'}" for task, each in names.items())
        return f"{trained}; {classes}; {self.describe_calibration() or 'not calibrated'}"

    def describe_calibration(self) -> str:
        """Describe the calibration; empty without one."""
        return "" if self.calibration is None else self.calibration.describe()

    def configure_metrics(self, sources: Sequence[str] = ()) -> None:
        """Build ``metrics`` for the present heads and age groups, ``source_metrics`` for named sources."""
        raise NotImplementedError

    @property
    def _data(self) -> FaceDataModule | None:
        """The DataModule of the Trainer; None for plain loaders and DataModules of others."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        return data if isinstance(data, FaceDataModule) else None

    def setup(self, stage: str) -> None:
        """Set classes from the data, at the first fit the age statistics; check device and precision."""
        self._train_sums = []  # of an earlier checkpoint; a continued one is loaded later
        check_device(self.trainer.strategy.root_device)
        check_precision(self.trainer.precision)
        data = self._data
        if data is None or stage == "predict":
            return
        trained = None
        if stage == "fit":
            self._follow(data)
            trained = classes_with_faces(data.train_dataset.table, data.gender_classes, data.race_classes)
            warn_untrained(trained, self._classes, self.tasks)
        self.match(data, trained)
        if stage == "fit":
            self.hparams["age_groups"] = as_lists(self.age_groups)
        self._check_years(data, stage)
        if stage == "fit" and self.teacher:
            self.taught_by = Teacher({path: type(self).load(path) for path in self.teacher}, self)
        if stage == "fit" and self.age is not None and not self.age.fitted:
            self.age.set_age_statistics(*data.age_statistics())

    def _follow(self, data: Any) -> None:
        """Set image size and crop from the training data, and check that a race head has its races."""
        self.image_size, self.crop = data.image_size, data.crop
        self.hparams.update({"image_size": self.image_size, "crop": self.crop})
        fresh = not self._initialised and self.trainer.ckpt_path is None
        if fresh and self._race_wanted and not self.race_classes and data.race_classes:
            raise ConfigError(
                f"{data.name} has races, but the model was built without their names: build it with "
                "MTMSA(race_classes=data.race_classes), or with race=None for no race head"
            )

    def match(self, data: Any, trained: Mapping[str, Sequence[str]] | None = None) -> None:
        """Match classes and age groups of data and model, which may differ.

        Args:
            data: The DataModule.
            trained: Names of the classes that are trained, by task; by default the ``trained_classes``.
        """
        sources = data.names if isinstance(data, Mixture) else ()
        if tuple(data.age_groups) != self.age_groups or sources != self.source_metrics.names:
            self.age_groups = tuple(data.age_groups)
            self.configure_metrics(sources)
        self._match_classes(data, self.trained_classes if trained is None else trained)

    def _match_classes(self, data: Any, trained: Mapping[str, Sequence[str]]) -> None:
        self.class_mappings = self._mappings(data, trained)
        for part in ("train", "val", "test"):
            table = getattr(data, f"{part}_dataset").table
            masked = {task for task, each in self.class_mappings.items() if not each.any_common(table[task])}
            self.metrics.labels[part] = label_kinds(table) - masked
        if isinstance(data, Mixture):
            self._match_sources(data, trained)

    def _mappings(self, data: Any, trained: Mapping[str, Sequence[str]]) -> dict[str, ClassMapping]:
        of_data = {"gender": data.gender_classes, "race": data.race_classes}
        return {
            task: ClassMapping(names, self._classes[task], trained.get(task) or None)
            for task, names in of_data.items()
        }

    def _match_sources(self, data: Mixture, trained: Mapping[str, Sequence[str]]) -> None:
        """Match the classes of every source of a mixture, whose faces are also evaluated by themselves."""
        self.source_mappings = [self._mappings(source, trained) for source in data.sources]
        for part in ("val", "test"):
            source = torch.from_numpy(getattr(data, f"{part}_dataset").source)
            kinds = self.metrics.labels[part]
            self.source_metrics.follow(part, source, [labels & kinds for labels in data.labels_of(part)])

    def masked_classes(self, data: Any, part: str) -> dict[str, Any]:
        """Return the masked classes of a part of the data; see :func:`.class_mapping.masked_classes`."""
        table = getattr(data, f"{part}_dataset").table
        mappings = {task: each for task, each in self.class_mappings.items() if task in self.tasks}
        return masked_classes(mappings, {task: table[task].tolist() for task in mappings})

    def _start_evaluation(self, part: str) -> None:
        """Match classes with those of the loaded checkpoint, and warn of differences from training."""
        if self._data is not None:
            self._match_classes(self._data, self.trained_classes)
            faces = len(getattr(self._data, f"{part}_dataset"))
            warn_masked(self.masked_classes(self._data, part), self._data.name, part, faces)
        self._warn_preprocessing()

    def _check_years(self, data: Any, stage: str) -> None:
        """Warn of age labels outside the head's years, once for each part."""
        years = None if self.age is None else self.age.year_range
        parts = {"fit": ("train", "val", "test"), "validate": ("val",)}.get(stage, ("test",))
        parts = tuple(part for part in parts if (id(data), part) not in self._years_checked)
        if years is not None:
            check_years({part: getattr(data, f"{part}_dataset").table for part in parts}, years)
        self._years_checked.update((id(data), part) for part in parts)

    def _warn_preprocessing(self) -> None:
        """Warn if the data's faces are cropped differently from those of the checkpoint."""
        if self._data is not None and self.provenance is not None:
            warn_preprocessing(self.provenance, preprocessing_of(self._data), str(self._data.root))

    def configure_callbacks(self) -> list[Callback]:
        """Return the callback that ends all processes if one fails."""
        return JointFailure.for_trainer(self.trainer)

    # ---------------------------------------------------------------- start and end of stages

    def on_fit_start(self) -> None:
        """Load the initial weights, unless a checkpoint was loaded, and record the training data."""
        self.calibration = None  # training changes its weights
        self._warn_preprocessing()
        msa = self.hparams["msa"] and MSAConfig(**self.hparams["msa"])
        for text in padding_dominated_rates(msa, self.image_size, self.trunk.stage_strides):
            log.warning("%s", text)
        if self.taught_by is not None:
            self.taught_by.to(self.device)
        initial = None if self._initialised else (self.weights, self._load_initial_weights())
        if self._data is not None:
            teachers = {} if self.taught_by is None else self.taught_by.provenances
            self.provenance = provenance.start_record(
                self.trainer, self.provenance, initial, teachers, self.seed, self.allow_overlap
            )
        self._initialised = True
        if self.age is not None and not self.age.fitted:
            raise ConfigError(
                "the age head needs the mean and standard deviation of the training ages: fit with one of "
                "this package's DataModules, or call model.age.set_age_statistics(mean, std) first"
            )

    def _load_initial_weights(self) -> dict[str, Any] | None:
        started_from = None
        for turn in (True, False):  # one process per node downloads
            if (self.trainer.local_rank == 0) == turn:
                started_from = load_initial_weights(self, self.weights)
            self.trainer.strategy.barrier("initial weights")
        return started_from

    def on_fit_end(self) -> None:
        """Complete the provenance, also in checkpoints saved before all images were hashed."""
        self._record_hashes(wait=True)
        if self._data is not None and self.trainer.is_global_zero:
            complete_checkpoints(self.trainer, self._data)

    def _record_hashes(self, wait: bool) -> None:
        """Add the hashes of the training faces to the provenance, on the first process."""
        fitting = self.trainer.state.fn == TrainerFn.FITTING  # not in tests
        if self._data is not None and fitting and self.trainer.is_global_zero:
            self.provenance = (self.provenance or {}) | training_hashes(self._data, wait)

    def on_validation_start(self) -> None:
        """Warn of differences from training, except in a validation during training."""
        if self.trainer.state.fn == TrainerFn.VALIDATING:
            self._start_evaluation("val")

    def on_test_start(self) -> None:
        """Refuse test faces that were trained on, and warn of differences from training."""
        self._start_evaluation("test")
        if self._data is not None and self.provenance is not None:
            self.overlap = check_overlap(self.provenance, self._data, force=self.allow_overlap)
        fitted = self.calibration.fitted_on.get("flip_test", False) if self.calibration else self.flip_test
        if fitted != self.flip_test:
            log.warning(
                "the calibration was fitted with model.flip_test %s, this test has %s: calibrate again",
                fitted, self.flip_test,
            )  # fmt: skip

    # ---------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add provenance and calibration as plain values."""
        self._record_hashes(wait=False)
        if self.provenance is not None:
            checkpoint["provenance"] = self.provenance
        if self.calibration is not None:
            checkpoint["calibration"] = self.calibration.to_dict()
        state = checkpoint["state_dict"]  # independent of the memory format
        checkpoint["state_dict"] = {name: value.contiguous() for name, value in state.items()}
        if batches_into_epoch(self.trainer) and "loops" in checkpoint:  # not with weights alone
            checkpoint["train_sums"] = gather_sums(self.metrics.of("train"))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore provenance and calibration; initial weights are not loaded after this."""
        self._initialised = True
        self.provenance = checkpoint.get("provenance")
        self._train_sums = checkpoint.get("train_sums", [])
        recorded = checkpoint.get("calibration")
        self.calibration = None if recorded is None else Calibration.from_dict(recorded)

    @classmethod
    def load(cls, path: str, allow_classes: Sequence[str] = ()) -> Self:
        """Load a checkpoint for prediction, without running code from it: on the CPU, in evaluation mode.

        Args:
            path: A ``.ckpt`` file of a run or of a Trainer, a run directory, or a folder of
                ``save_pretrained``.
            allow_classes: Modules or classes of heads that the checkpoint may name, e.g. ``["mylab"]``, in
                addition to those of this package and imported ones.

        Raises:
            CheckpointError: The file is not a checkpoint of this package.
        """
        file = checkpoint_file(path)
        checkpoint = read_checkpoint(file)
        warn_unfinished(file)
        try:
            with allowing(allow_classes):
                model = cls(**checkpoint["hyper_parameters"])
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        except (TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
            raise CheckpointError(
                f"{path}: its settings build no network of this version: {error}"
            ) from error
        try:
            model.load_state_dict(checkpoint["state_dict"])
        except RuntimeError as error:
            raise CheckpointError(f"{path}: its weights do not fit its settings: {error}") from error
        model.on_load_checkpoint(checkpoint)
        return model.eval()


def as_lists(value: Any) -> Any:
    """Convert nested tuples to lists, as in a checkpoint."""
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value
