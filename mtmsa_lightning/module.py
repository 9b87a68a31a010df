"""MTMSA, the LightningModule: trunk, heads, losses and metrics, and nothing else."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Literal, NamedTuple, Self

import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import Metric

from mtmsa_lightning._utils.devices import check_device, check_precision
from mtmsa_lightning._utils.epoch_position import batches_into_epoch
from mtmsa_lightning._utils.joint_failure import JointFailure
from mtmsa_lightning.calibration.record import Calibration
from mtmsa_lightning.data.dataset import FaceBatch
from mtmsa_lightning.data.head_years import check_years
from mtmsa_lightning.data.preprocessing import describe_crop, preprocessing_of, warn_preprocessing
from mtmsa_lightning.data.splits import earlier
from mtmsa_lightning.data.splits.overlap import OverlapError, check_overlap
from mtmsa_lightning.data.table import label_kinds
from mtmsa_lightning.data.training_hashes import complete_checkpoints, training_hashes
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.labels import GENDERS
from mtmsa_lightning.losses.weighting import TaskWeighting
from mtmsa_lightning.metrics.suite import metric_specs
from mtmsa_lightning.metrics.sums import MetricSums, gather_sums, restore_sums
from mtmsa_lightning.metrics.task_loss import TaskLoss
from mtmsa_lightning.models.backbones.resnet import MSAConfig, MSAResNet34, padding_dominated_rates
from mtmsa_lightning.models.class_mapping import ClassMapping
from mtmsa_lightning.models.distributions import AgeDistribution
from mtmsa_lightning.models.heads.age import AgeHead, GaussianAgeHead
from mtmsa_lightning.models.heads.classes import ClassHead
from mtmsa_lightning.optim.schedulers import (
    BatchSize,
    LearningRateScaling,
    WarmupCosine,
    scale_learning_rate,
    wants_total_steps,
)
from mtmsa_lightning.runs.head_specs import build_head, callable_spec, head_spec
from mtmsa_lightning.runs.initial_weights import earlier_trainings, load_initial_weights
from mtmsa_lightning.settings.messages import as_config_error
from mtmsa_lightning.settings.named_classes import allowing

log = logging.getLogger(__name__)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

TaskLosses = dict[str, tuple[Tensor, Tensor]]
"""Task name -> (sum over the labelled faces, their count)."""


class FaceOutput(NamedTuple):
    """What the network says of N faces; a head that was left out says None.

    Attributes:
        age: Predictive distributions of age, in years.
        gender: Logits, shape (N, genders).
        race: Logits, shape (N, races).
        age_raw: What the age head computes its loss from.
    """

    age: AgeDistribution | None
    gender: Tensor | None
    race: Tensor | None
    age_raw: Tensor | None = None


class MTMSA(LightningModule):
    """Multi-task multi-scale attention network for facial age estimation.

    A ResNet34 with multi-scale attention is shared by three heads: age (a predictive distribution), gender
    and race (logits). After Shi et al., "Multi-task multi-scale attention learning-based facial age
    estimation", IET Signal Processing 17(2), 2023; the README lists what the paper's abstract says and what
    was chosen here.

    Args:
        weights: Initial weights: ``imagenet``, a file, or None for random ones. A network of this package (a
            checkpoint, a run, a folder of ``save_pretrained``) gives its heads too, where they fit; all else
            the trunk alone. They are loaded when a fit starts without a checkpoint.
        msa: Multi-scale attention; None gives the plain ResNet34.
        last_stride: Stride of the last stage; 1 keeps the map larger, for inputs well below 224 pixels.
        aux_stage: Stage (1-4) after which the gender and race heads branch off.
        age: Age head, one of :mod:`mtmsa_lightning.models.heads.age`; None leaves it out.
        gender: Gender head; None leaves it out.
        race: Race head; None leaves it out. A dataset without race labels has none either.
        age_weight: Weight of the age loss.
        gender_weight: Weight of the gender loss.
        race_weight: Weight of the race loss.
        weighting: ``fixed`` weights, or ``learned`` homoscedastic ones (Kendall et al., CVPR 2018) on top of
            them for gender and race.
        optimizer: Optimiser of all parameters; biases and normalisation layers are not decayed.
        scheduler: Learning rate schedule.
        scheduler_interval: Whether the schedule advances every ``step`` or every ``epoch``.
        lr_scaling: How the optimiser's learning rate follows the global batch (faces per step over all
            devices and accumulated batches): not at all (``none``), by its ratio to ``lr_batch_size``
            (``linear``; Goyal et al., arXiv 1706.02677, for SGD) or by the root of that (``sqrt``; Malladi
            et al., NeurIPS 2022, for Adam and its kin).
        lr_batch_size: Global batch that the optimiser's learning rate belongs to.
        freeze_epochs: Number of first epochs in which the ResNet layers keep their weights and BatchNorm
            statistics; attention and heads learn.
        channels_last: Hold images and convolutions channels last in memory, which kernels for half precision
            prefer; results differ by rounding.
        checkpoint_activations: Compute the trunk's activations again in the backward pass instead of keeping
            them: less memory, more time, the same results.
        flip_test: In evaluation, average the outputs of the heads over each face and its mirror image: means
            and log-variances of age, logits of classes. Not in training.
        image_size: Side of the input in pixels; set from the data.
        crop: Fraction of raw photos that the data used; set from the data, kept for prediction.
        gender_classes: Class names in index order; set from the data.
        race_classes: Class names in index order; set from the data.
        age_groups: Inclusive (low, high) age groups in years, or empty; set from the data.

    Raises:
        ConfigError: If no head is left or an argument is out of its range.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        weights: str | None = None,
        msa: MSAConfig | None = MSAConfig(),  # noqa: B008  # never changed in place
        last_stride: int = 2,
        aux_stage: int = 4,
        age: Callable[[int], AgeHead] | None = GaussianAgeHead,
        gender: Callable[[int, int], ClassHead] | None = ClassHead,
        race: Callable[[int, int], ClassHead] | None = ClassHead,
        age_weight: float = 1.0,
        gender_weight: float = 0.2,
        race_weight: float = 0.2,
        weighting: Literal["fixed", "learned"] = "fixed",
        optimizer: OptimizerCallable = AdamW,
        scheduler: LRSchedulerCallable = WarmupCosine,
        scheduler_interval: Literal["step", "epoch"] = "step",
        lr_scaling: LearningRateScaling = "none",
        lr_batch_size: int = 64,
        freeze_epochs: int = 0,
        channels_last: bool = False,
        checkpoint_activations: bool = False,
        flip_test: bool = False,
        image_size: int = 224,
        crop: float = 1.0,
        gender_classes: Sequence[str] = GENDERS,
        race_classes: Sequence[str] = (),
        age_groups: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__()
        if lr_batch_size < 1:
            raise ConfigError(f"model.lr_batch_size {lr_batch_size} must be at least 1")
        if aux_stage not in (1, 2, 3, 4):
            raise ConfigError(f"model.aux_stage {aux_stage} is none of the stages 1, 2, 3, 4")
        msa = MSAConfig(**msa) if isinstance(msa, Mapping) else msa
        self.trunk = MSAResNet34(msa, last_stride, checkpoint_activations)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.trunk.to(memory_format=self._memory_format)
        self.weights = weights
        self.aux_stage = aux_stage
        self.freeze_epochs = freeze_epochs
        self.flip_test = flip_test
        self.image_size, self.crop = image_size, crop
        self.gender_classes, self.race_classes = tuple(gender_classes), tuple(race_classes)
        self.age_groups = tuple((int(low), int(high)) for low, high in age_groups)
        self.optimizer = AdamW if isinstance(optimizer, Mapping) else optimizer  # a record is not rebuilt
        self.scheduler = WarmupCosine if isinstance(scheduler, Mapping) else scheduler
        self.scheduler_interval = scheduler_interval
        self.lr_scaling, self.lr_batch_size = lr_scaling, lr_batch_size
        self._configure_heads(age, gender, race)
        self._configure_loss({"age": age_weight, "gender": gender_weight, "race": race_weight}, weighting)
        self._configure_metrics()
        self.register_buffer("pixel_mean", _pixels(IMAGENET_MEAN), persistent=False)
        self.register_buffer("pixel_std", _pixels(IMAGENET_STD), persistent=False)
        self.provenance: dict[str, Any] | None = None
        self._initialised = False
        self._years_checked: set[tuple[int, str]] = set()
        self._train_sums: list[MetricSums] = []  # of a checkpoint that was saved within an epoch
        self.calibration: Calibration | None = None
        self.seed: int | None = None  # of the run, written into its checkpoints
        self.class_mappings: dict[str, ClassMapping] = {}
        self.allow_overlap = False
        self.overlap: list[str] = []  # what the test part shares with training, although it is allowed
        self.save_hyperparameters(
            {
                "weights": weights,
                "msa": None if msa is None else json.loads(json.dumps(asdict(msa))),  # lists, not tuples
                "last_stride": last_stride,
                "aux_stage": aux_stage,
                "age": head_spec(self.age),
                "gender": head_spec(self.gender),
                "race": head_spec(self.race),
                "age_weight": age_weight,
                "gender_weight": gender_weight,
                "race_weight": race_weight,
                "weighting": weighting,
                "optimizer": callable_spec(optimizer),
                "scheduler": callable_spec(scheduler),
                "scheduler_interval": scheduler_interval,
                "lr_scaling": lr_scaling,
                "lr_batch_size": lr_batch_size,
                "freeze_epochs": freeze_epochs,
                "channels_last": channels_last,
                "checkpoint_activations": checkpoint_activations,
                "flip_test": flip_test,
                "image_size": image_size,
                "crop": crop,
                "gender_classes": list(self.gender_classes),
                "race_classes": list(self.race_classes),
                "age_groups": [list(group) for group in self.age_groups],
            }
        )

    # ---------------------------------------------------------------- parts

    def _configure_heads(self, age: Any, gender: Any, race: Any) -> None:
        channels = MSAResNet34.stage_channels
        aux = channels[self.aux_stage - 1]
        self.age: AgeHead | None = build_head(age, channels[-1])
        self.gender: ClassHead | None = build_head(gender, aux, len(self.gender_classes))
        self.race: ClassHead | None = (
            build_head(race, aux, len(self.race_classes)) if self.race_classes else None
        )
        self._race_wanted = race is not None
        if not self.tasks:
            raise ConfigError("no head is left: keep at least one of model.age, model.gender, model.race")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the heads that exist."""
        return tuple(task for task in ("age", "gender", "race") if getattr(self, task) is not None)

    @property
    def trained_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by task, of the class heads that were trained: one without labels knows nothing."""
        labels = (self.provenance or {}).get("labels", ("gender", "race"))
        names = {"gender": self.gender_classes, "race": self.race_classes}
        return {task: classes for task, classes in names.items() if task in self.tasks and task in labels}

    def _configure_loss(self, weights: dict[str, float], weighting: str) -> None:
        self.weighting = TaskWeighting(
            {task: weights[task] for task in self.tasks}, learned=weighting == "learned"
        )

    def _configure_metrics(self) -> None:
        classes = {"age": 0, "gender": len(self.gender_classes), "race": len(self.race_classes)}
        self.figures = metric_specs(
            {task: classes[task] for task in self.tasks}, groups=bool(self.age_groups)
        )
        metrics: dict[str, nn.Module] = {}
        for stage in ("train", "val", "test"):
            losses: dict[str, nn.Module] = {f"{task}_loss": TaskLoss() for task in self.tasks}
            shown = [figure for figure in self.figures if figure.training or stage != "train"]
            built = {figure.name: figure.build(classes[figure.task]) for figure in shown}
            metrics[f"{stage}_metrics"] = nn.ModuleDict(losses | built)
        self.metrics = nn.ModuleDict(metrics)
        self._needs = {f"{task}_loss": task for task in self.tasks}
        self._needs |= {figure.name: figure.needs for figure in self.figures}
        self._inputs = {f"{task}_loss": f"{task}_loss" for task in self.tasks}
        self._inputs |= {figure.name: figure.task for figure in self.figures}
        self._kinds: dict[str, set[str]] = {}

    # ---------------------------------------------------------------- network

    def forward(self, images: Tensor) -> FaceOutput:
        """Predict age, gender and race.

        Args:
            images: RGB faces, shape (N, 3, height, width): uint8, or floating point in [0, 1].

        Returns:
            The age distribution in years and the class logits, shape (N, classes).
        """
        images = self.normalise(images)
        features, aux = self.trunk(images, self.aux_stage)
        if self.flip_test and not self.training:
            # The heads are linear up to what is averaged: averaging their inputs averages their outputs.
            mirrored, aux_mirrored = self.trunk(images.flip(-1), self.aux_stage)
            features, aux = (features + mirrored) / 2, (aux + aux_mirrored) / 2
        age_raw = None if self.age is None else self.age.raw(features)
        return FaceOutput(
            None if self.age is None or age_raw is None else self.age.distribution(age_raw),
            None if self.gender is None else self.gender(aux),
            None if self.race is None else self.race(aux),
            age_raw,
        )

    def normalise(self, images: Tensor) -> Tensor:
        """Scale images to the ImageNet statistics that the trunk expects, on the device that holds them."""
        images = images.contiguous(memory_format=self._memory_format)  # loaders leave the channels last
        if not images.is_floating_point():
            images = images.to(self.pixel_mean.dtype) / 255
        return (images - self.pixel_mean) / self.pixel_std

    def losses(self, output: FaceOutput, batch: FaceBatch) -> TaskLosses:
        """Return (sum, count) of every task's loss over the labelled faces of a batch."""
        losses: TaskLosses = {}
        if self.age is not None and output.age_raw is not None:
            losses["age"] = self.age.loss(output.age_raw, batch["age_low"], batch["age_high"])
        if self.gender is not None and output.gender is not None:
            losses["gender"] = self.gender.loss(output.gender, batch["gender"])
        if self.race is not None and output.race is not None:
            losses["race"] = self.race.loss(output.race, batch["race"])
        return losses

    def total_loss(self, losses: TaskLosses) -> Tensor:
        """Combine task losses to the one that is minimised.

        Counts are summed over all processes and sums scaled by the number of processes, because DDP averages
        gradients: so any number of processes gives the gradient of the joined batch, however the labels are
        spread over them. Batches that are accumulated one after the other are not joined: each is divided by
        its own counts, and a step takes their mean. That is the gradient of the joined batch where each has
        the same number of labels of every task.
        """
        counts = torch.stack([count.to(torch.float64) for _, count in losses.values()])
        processes = 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            processes = torch.distributed.get_world_size()
            torch.distributed.all_reduce(counts)
        pairs = zip(losses.items(), counts, strict=True)
        means = {task: loss * processes / _at_least_one(count) for (task, (loss, _)), count in pairs}
        present = dict(zip(losses, counts > 0, strict=True))
        total: Tensor = self.weighting(means, present)
        return total

    # ---------------------------------------------------------------- steps

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Return the total loss of a batch.

        It is logged for callbacks, not for Lightning's progress bar, which would wait for every step.
        """
        _, losses = self._step("train", batch)
        total = self.total_loss(losses)
        self.log("loss", total.detach(), logger=False)
        return total * self._batches_skipped(batch_idx)

    def _batches_skipped(self, batch_idx: int) -> float:
        """Return the factor for the last step of an epoch, for which Lightning divides by missing batches."""
        accumulated = self.trainer.accumulate_grad_batches
        first = batch_idx - batch_idx % accumulated
        return accumulated / min(accumulated, self.trainer.num_training_batches - first)

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> FaceOutput:  # type: ignore[override]
        """Update the validation metrics and hand the predictions to whoever shows them."""
        return self._step("val", batch)[0]

    def test_step(self, batch: FaceBatch, batch_idx: int) -> FaceOutput:  # type: ignore[override]
        """Update the test metrics and hand the predictions, calibrated, to whoever writes them.

        The losses are those of training, uncalibrated.
        """
        return self._step("test", batch)[0]

    def _step(self, stage: str, batch: FaceBatch) -> tuple[FaceOutput, TaskLosses]:
        output: FaceOutput = self(batch["image"])
        batch = self._by_name(batch)
        losses = self.losses(output, batch)
        output = self._comparable(self.calibrated(output) if stage == "test" else output)
        self._update(stage, output, losses, batch)
        return output, losses

    def predict_step(self, batch: FaceBatch, batch_idx: int) -> FaceOutput:
        """Predict a batch, calibrated."""
        return self.calibrated(self(batch["image"]))

    def calibrated(self, output: FaceOutput) -> FaceOutput:
        """Apply the calibration, if there is one; ``age_raw`` stays as it is."""
        if self.calibration is None:
            return output
        logits = {
            task: None if raw is None else self.calibration.logits(task, raw)
            for task, raw in (("gender", output.gender), ("race", output.race))
        }
        age = None if output.age is None else self.calibration.age(output.age)
        return FaceOutput(age, **logits, age_raw=output.age_raw)

    def _by_name(self, batch: FaceBatch) -> FaceBatch:
        """Renumber class labels where the data orders or names its classes differently from the model."""
        labels: Any = {task: each.labels(batch[task]) for task, each in self.class_mappings.items()}  # type: ignore[literal-required]
        return {**batch, **labels}

    def _comparable(self, output: FaceOutput) -> FaceOutput:
        """Mask the classes that the data does not have."""
        mappings = {task: each for task, each in self.class_mappings.items() if each.absent}
        logits = {task: getattr(output, task) for task in mappings}
        known: Any = {task: mappings[task].logits(raw) for task, raw in logits.items() if raw is not None}
        return output._replace(**known)

    # ---------------------------------------------------------------- metrics

    @torch.no_grad()
    def _update(self, stage: str, output: FaceOutput, losses: TaskLosses, batch: FaceBatch) -> None:
        known: dict[str, tuple[Any, ...]] = {f"{task}_loss": pair for task, pair in losses.items()}
        known["age"] = (output.age, batch["age_low"], batch["age_high"])
        if output.gender is not None:
            known["gender"] = (output.gender.double().softmax(1), batch["gender"])
        if output.race is not None:
            known["race"] = (output.race.double().softmax(1), batch["race"])
        for name, metric in self.stage_metrics(stage).items():
            metric.update(*known[self._inputs[name]])

    def stage_metrics(self, stage: str) -> dict[str, Metric]:
        """Return the metrics for which the stage's data has labels: no figure without a label behind it."""
        metrics: Any = self.metrics[f"{stage}_metrics"]
        kinds = self._kinds.get(stage)
        if kinds is None:
            return dict(metrics.items())
        return {name: metric for name, metric in metrics.items() if self._needs[name] in kinds}

    def logged(self, stage: str) -> list[str]:
        """Return the names of the figures that a stage logs.

        Exact and group ages together have no common age loss: the two differ by a constant.
        """
        mixed = stage != "train" and {"exact", "group"} <= self._kinds.get(stage, set())
        names = [*self.stage_metrics(stage), "loss"]
        return [name for name in names if not (mixed and name in ("age_loss", "loss"))]

    def _log_metrics(self, stage: str) -> None:
        for name in self.logged(stage):
            value: Any = self.mean_loss(stage) if name == "loss" else self.stage_metrics(stage)[name]
            self.log(f"{stage}/{name}", value, prog_bar=stage == "val" and name in ("age_mae", "group_acc"))

    @torch.no_grad()
    def mean_loss(self, stage: str) -> Tensor:
        """Return the weighted sum of a stage's mean task losses so far, over all processes."""
        metrics = self.stage_metrics(stage)
        zero = torch.zeros((), device=self.device, dtype=torch.float64)
        present = {task: torch.tensor(f"{task}_loss" in metrics, device=self.device) for task in self.tasks}
        means = {task: metrics[f"{task}_loss"].compute() if present[task] else zero for task in self.tasks}
        total: Tensor = self.weighting(means, present)
        return total

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics."""
        self._log_metrics("train")
        for task, weight in self.weighting.current().items():
            self.log(f"train/{task}_weight", weight)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_metrics("test")

    # ---------------------------------------------------------------- life cycle

    def configure_callbacks(self) -> list[Callback]:
        """Let the failure of one process end all of them."""
        if self.trainer.world_size == 1:
            return []
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        known = [each for each in callbacks if isinstance(each, JointFailure)]
        together = known[0] if known else JointFailure()
        together.watch(self.trainer)
        return [] if known else [together]

    def setup(self, stage: str) -> None:
        """Take what the model needs to know of the data: labels, and at the first fit age statistics.

        Raises:
            ConfigError: If losses and metrics could not be computed in float64, or most ages lie outside the
                years of the age head.
        """
        self._train_sums = []  # of an earlier checkpoint; one that is continued is loaded after this
        check_device(self.trainer.strategy.root_device)
        check_precision(self.trainer.precision)
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None or stage == "predict":
            return
        if stage == "fit":
            self._follow(data)
        self.match(data)
        if stage == "fit":
            self.hparams["age_groups"] = [list(group) for group in self.age_groups]
        if stage in ("validate", "test"):
            self._say_masked(data, "val" if stage == "validate" else "test")
        self._check_years(data, stage)
        if stage == "fit" and self.age is not None and not self.age.fitted:
            self.age.set_age_statistics(*data.age_statistics())

    def _check_years(self, data: Any, stage: str) -> None:
        """Warn of age labels that the head cannot learn or predict, once for each part."""
        years = None if self.age is None else self.age.year_range
        parts = {"fit": ("train", "val", "test"), "validate": ("val",)}.get(stage, ("test",))
        parts = tuple(part for part in parts if (id(data), part) not in self._years_checked)
        if years is not None:
            check_years({part: getattr(data, f"{part}_dataset").table for part in parts}, years)
        self._years_checked.update((id(data), part) for part in parts)

    def _follow(self, data: Any) -> None:
        """Take the size and the crop of the faces that are about to be learnt from, whatever was given.

        Raises:
            ConfigError: If the data has races, and a race head is wanted that was built for none.
        """
        self.image_size, self.crop = data.image_size, data.crop
        self.hparams.update({"image_size": self.image_size, "crop": self.crop})
        fresh = not self._initialised and self.trainer.ckpt_path is None
        if fresh and self._race_wanted and not self.race_classes and data.race_classes:
            raise ConfigError(
                f"{data.name} has races, but the model was built without their names: build it with "
                "MTMSA(race_classes=data.race_classes), or with race=None for no race head"
            )

    def on_train_batch_start(self, batch: FaceBatch, batch_idx: int) -> None:
        """Check the size of the faces, which predictions will be made at.

        Raises:
            ConfigError: If they have another than the model was built for.
        """
        side = batch["image"].shape[-1]
        if side != self.image_size:
            raise ConfigError(
                f"faces of {side} px, but the model was built for {self.image_size}, at which it would be "
                f"used: build it with MTMSA(image_size={side})"
            )

    def match(self, data: Any) -> None:
        """Match classes and age groups of the data and of the model, which may know others."""
        if tuple(data.age_groups) != self.age_groups:
            self.age_groups = tuple(data.age_groups)
            self._configure_metrics()
        classes = {"gender": data.gender_classes, "race": data.race_classes}
        of_model = {"gender": self.gender_classes, "race": self.race_classes}
        self.class_mappings = {task: ClassMapping(names, of_model[task]) for task, names in classes.items()}
        disjoint_tasks = {task for task, mapping in self.class_mappings.items() if not mapping.common}
        for part in ("train", "val", "test"):
            self._kinds[part] = label_kinds(getattr(data, f"{part}_dataset").table) - disjoint_tasks

    def masked_classes(self, data: Any, part: str) -> dict[str, Any]:
        """Return what is masked where data and model have other classes, as plain values.

        Args:
            data: The DataModule.
            part: The part that is evaluated: ``val`` or ``test``.

        Returns:
            By task: number of ``faces`` of the part that are not counted, by their class that the model does
            not know (``unknown``), and the classes that the data does not have and that are never the answer
            (``absent``); empty if nothing is.
        """
        masked = {}
        table = getattr(data, f"{part}_dataset").table
        for task, mapping in self.class_mappings.items():
            if task in self.tasks and mapping.data and mapping.data != mapping.model:
                counts = {
                    name: int((table[task] == mapping.data.index(name)).sum()) for name in mapping.unknown
                }
                masked[task] = {"unknown": counts, "absent": list(mapping.absent)}
        return masked

    def _say_masked(self, data: Any, part: str) -> None:
        faces = len(getattr(data, f"{part}_dataset"))
        for task, masked in self.masked_classes(data, part).items():
            for name, count in masked["unknown"].items():
                log.warning(
                    "%s: the checkpoint does not know %s: %d of %d %s faces are not counted",
                    task, name, count, faces, part,
                )  # fmt: skip
            if masked["absent"]:
                absent = ", ".join(masked["absent"])
                log.warning("%s: %s has no %s: the checkpoint may not answer so", task, data.name, absent)

    def on_fit_start(self) -> None:
        """Load the initial weights, unless a checkpoint has been loaded by now.

        Raises:
            CheckpointError: If they cannot be had.
            ConfigError: If the age head knows no age statistics, because the data is not of this package.
        """
        self.calibration = None  # it belongs to weights that training is about to change
        self._say_preprocessing()
        msa = self.hparams["msa"]
        for text in padding_dominated_rates(
            msa and MSAConfig(**msa), self.hparams["last_stride"], self.image_size
        ):
            log.warning("%s", text)
        started_from = None
        if not self._initialised:
            for turn in (True, False):  # one process per node downloads, the others find the file
                if (self.trainer.local_rank == 0) == turn:
                    started_from = load_initial_weights(self, self.weights)
                self.trainer.strategy.barrier("initial weights")
        self._begin_record(started_from)
        self._initialised = True
        if self.age is not None and not self.age.fitted:
            raise ConfigError(
                "the age head needs the mean and standard deviation of the training ages: fit with one of "
                "this package's DataModules, or call model.age.set_age_statistics(mean, std) first"
            )

    def _begin_record(self, started_from: dict[str, Any] | None) -> None:
        """Record what was trained on before, and refuse to train towards a test on faces of it.

        Args:
            started_from: Provenance of the network that gave the initial weights, None if none did.

        Raises:
            OverlapError: On every process, since all would wait for one that raised alone.
        """
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            return
        now = data.provenance()
        if self._initialised:
            before = earlier.inherited(self.provenance or {}, now["fingerprints"])
        else:
            before = earlier_trainings(self.weights, started_from, now["fingerprints"])
        self.provenance = now | {"seed": self.seed} | before
        refused = None
        if self.trainer.is_global_zero:
            try:
                check_overlap(before, data, force=self.allow_overlap)
                check_overlap(before, data, force=True, part="val")  # it will choose the checkpoint
            except OverlapError as error:
                refused = str(error)
        refused = self.trainer.strategy.broadcast(refused)
        if refused:
            raise OverlapError(refused)

    def on_fit_end(self) -> None:
        """Complete the record, also in the checkpoints that were saved before all images were hashed."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self._complete_record(wait=True)
        if data is not None and self.trainer.is_global_zero:
            complete_checkpoints(self.trainer, data)

    def _complete_record(self, wait: bool) -> None:
        """Add the hashes of the faces that are learnt from; the first process does so."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        fitting = self.trainer.state.fn == TrainerFn.FITTING  # a test on other data was no training
        if data is not None and fitting and self.trainer.is_global_zero:
            self.provenance = (self.provenance or {}) | training_hashes(data, wait)

    def on_train_start(self) -> None:
        """Go on within an epoch, whose start Lightning does not announce again."""
        self.on_train_epoch_start()
        if self._train_sums:
            metrics: Any = dict(self.metrics["train_metrics"].items())  # type: ignore[operator]
            restore_sums(metrics, self._train_sums, self.trainer.global_rank, self.trainer.world_size)
            self._train_sums = []

    def on_train_epoch_start(self) -> None:
        """Keep the BatchNorm statistics of a frozen ResNet."""
        if self.freeze_epochs:
            for module in self.trunk.resnet_modules():
                module.train(self.current_epoch >= self.freeze_epochs)

    def _say_preprocessing(self) -> None:
        """Warn where the data's faces are cropped otherwise than those of the checkpoint that was loaded."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is not None and self.provenance is not None:
            warn_preprocessing(self.provenance, preprocessing_of(data), str(data.root))

    def on_validation_start(self) -> None:
        """Say what differs from training, where this is no part of it."""
        if self.trainer.state.fn == TrainerFn.VALIDATING:
            self._say_preprocessing()

    def on_test_start(self) -> None:
        """Refuse test faces that the checkpoint was trained on."""
        self._say_preprocessing()
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is not None and self.provenance is not None:
            self.overlap = check_overlap(self.provenance, data, force=self.allow_overlap)
        fitted = self.calibration.fitted_on.get("flip_test", False) if self.calibration else self.flip_test
        if fitted != self.flip_test:
            log.warning(
                "the calibration was fitted with model.flip_test %s, this test has %s: calibrate again",
                fitted, self.flip_test,
            )  # fmt: skip

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down what the weights were trained on, as plain values."""
        self._complete_record(wait=False)
        if self.provenance is not None:
            checkpoint["provenance"] = self.provenance
        if self.calibration is not None:
            checkpoint["calibration"] = self.calibration.to_dict()
        # the same file whatever the memory format
        checkpoint["state_dict"] = {
            name: value.contiguous() for name, value in checkpoint["state_dict"].items()
        }
        if batches_into_epoch(self.trainer) and "loops" in checkpoint:  # not with weights alone
            checkpoint["train_sums"] = gather_sums(self.stage_metrics("train"))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember what the weights were trained and calibrated on; initial ones are not loaded over them."""
        self._initialised = True
        self.provenance = checkpoint.get("provenance")
        self._train_sums = checkpoint.get("train_sums", [])
        recorded = checkpoint.get("calibration")
        self.calibration = None if recorded is None else Calibration.from_dict(recorded)

    # ---------------------------------------------------------------- optimisation

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Group the parameters (ResNet first) and attach the schedule."""
        with as_config_error("model.optimizer"):
            optimizer = self.optimizer(self.parameter_groups())
        # A fused optimiser offers to divide by the scale of 16-mixed itself, in its step: after clipping. So
        # Lightning refuses both together, also in bf16-mixed, which scales nothing. Without the offer it
        # unscales before it clips.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        optimizer.register_load_state_dict_post_hook(_lay_out_as_parameters)
        scale_learning_rate(optimizer, self.lr_factor())
        length = {"total_steps": self._schedule_length()} if wants_total_steps(self.scheduler) else {}
        with as_config_error("model.scheduler"):
            scheduler: Any = self.scheduler(optimizer, **length)
        if isinstance(scheduler, WarmupCosine) and scheduler.total is None:
            scheduler.set_total_steps(self._schedule_length())
        config = {"scheduler": scheduler, "interval": self.scheduler_interval}
        if isinstance(scheduler, ReduceLROnPlateau) and not hasattr(scheduler, "monitor"):
            raise ConfigError(
                "model.scheduler ReduceLROnPlateau: torch's own watches no metric; give "
                "lightning.pytorch.cli.ReduceLROnPlateau and --model.scheduler.monitor val/loss"
            )
        if hasattr(scheduler, "monitor"):
            config |= {"monitor": scheduler.monitor, "interval": "epoch"}
        return {"optimizer": optimizer, "lr_scheduler": config}  # type: ignore[return-value]

    def lr_factor(self) -> float:
        """Return what the learning rate is multiplied by for the global batch of this training."""
        if self.lr_scaling == "none":
            return 1.0
        ratio = BatchSize.of(self.trainer).total / self.lr_batch_size
        return ratio if self.lr_scaling == "linear" else ratio**0.5

    def _schedule_length(self) -> int:
        """Return the number of times that the schedule advances in the whole training."""
        steps = self.trainer.estimated_stepping_batches
        if self.scheduler_interval == "epoch":
            steps = self.trainer.max_epochs or -1
        if not 0 < steps < float("inf"):
            raise ConfigError("this learning rate schedule needs a finite trainer.max_epochs or max_steps")
        return int(steps)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups named resnet/new and decayed or not (biases and normalisation are not)."""
        resnet = {
            id(parameter) for module in self.trunk.resnet_modules() for parameter in module.parameters()
        }
        groups: dict[str, dict[str, Any]] = {}
        for parameter in self.parameters():
            part = "resnet" if id(parameter) in resnet else "new"
            name = part if parameter.ndim > 1 else f"{part}_undecayed"
            extra = {} if parameter.ndim > 1 else {"weight_decay": 0.0}
            groups.setdefault(name, {"params": [], "name": name} | extra)["params"].append(parameter)
        return list(groups.values())

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Step with learning rate 0 for a frozen ResNet.

        Not by ``requires_grad``: DDP never reduces parameters that are unfrozen after it wrapped the model.
        """
        with _frozen_resnet(optimizer, active=epoch < self.freeze_epochs):
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def describe(self) -> str:
        """Say what the model was trained on, what it expects and what it answers, in one line."""
        provenance = self.provenance or {}
        dataset, protocol = provenance.get("dataset", "unknown data"), provenance.get("protocol", "?")
        crop = describe_crop(self.crop, provenance.get("preparation"))
        classes = f"gender: {', '.join(self.gender_classes)}; race: {', '.join(self.race_classes) or 'none'}"
        calibrated = "not calibrated" if self.calibration is None else self.calibration.describe()
        expected = f"input {self.image_size} px, {crop}"
        names = dict.fromkeys(
            str(each.get("dataset") or "unknown data") for each in provenance.get("earlier", [])
        )
        before = f", and before on {', '.join(names)}" if names else ""
        return f"trained on {dataset} ({protocol}){before}; {expected}; {classes}; {calibrated}"

    @classmethod
    def load(cls, path: str, allow_classes: Sequence[str] = ()) -> Self:
        """Load a checkpoint for prediction, without running code from it.

        Args:
            path: A ``.ckpt`` file of a run or of a Trainer, a run directory, or a folder of
                ``save_pretrained``.
            allow_classes: Modules or classes that the checkpoint may name as its heads, e.g. ``["mylab"]``,
                beside those of this package and those that have been imported.

        Returns:
            The model on the CPU, in evaluation mode.

        Raises:
            CheckpointError: If the file is no checkpoint of this package.
        """
        from mtmsa_lightning.runs.checkpoints import checkpoint_file, read_checkpoint
        from mtmsa_lightning.runs.status import warn_unfinished

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


def _pixels(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def _lay_out_as_parameters(optimizer: Optimizer) -> None:
    """Give a loaded state the memory format of its parameters: fused kernels walk through both in step."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.stride() != parameter.stride() and value.ndim:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _at_least_one(count: Tensor) -> Tensor:
    """Guard a division; class-weighted counts may lie below one, so only zero is replaced."""
    return torch.where(count > 0, count, torch.ones_like(count))


@contextmanager
def _frozen_resnet(optimizer: Any, active: bool) -> Iterator[None]:
    """Set the learning rate of the ResNet's groups to 0 and restore it for the schedule."""
    plain: Optimizer = getattr(optimizer, "optimizer", optimizer)
    groups = [group for group in plain.param_groups if active and group["name"].startswith("resnet")]
    rates = [group["lr"] for group in groups]
    for group in groups:
        group["lr"] = 0.0
    try:
        yield
    finally:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
