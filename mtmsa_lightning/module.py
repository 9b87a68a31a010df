"""MTMSA, the LightningModule: network, losses, metrics and optimisation of the three tasks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW
from torchmetrics import Metric

from mtmsa_lightning.data.face_dataset import FaceBatch
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.labels import GENDERS
from mtmsa_lightning.losses.weighting import TaskLosses, TaskWeighting, joined_loss
from mtmsa_lightning.metrics.epoch_sums import restore_sums
from mtmsa_lightning.metrics.source_metrics import SourceMetrics, only
from mtmsa_lightning.metrics.stage_metrics import StageMetrics
from mtmsa_lightning.models.backbones.build import build_trunk
from mtmsa_lightning.models.backbones.msa import MSAConfig
from mtmsa_lightning.models.backbones.trunk import LAST_STRIDE
from mtmsa_lightning.models.face_output import FaceOutput
from mtmsa_lightning.models.heads.age import AgeHead, GaussianAgeHead
from mtmsa_lightning.models.heads.classes import ClassHead
from mtmsa_lightning.optim.optimizers import (
    LearningRateFactors,
    build_optimizer,
    build_schedule,
    frozen_trunk,
    parameter_groups,
)
from mtmsa_lightning.optim.schedulers import LearningRateScaling, WarmupCosine, batch_lr_factor
from mtmsa_lightning.runs.face_module import TASKS, FaceModule, as_lists
from mtmsa_lightning.runs.head_specs import build_head, callable_spec, head_spec
from mtmsa_lightning.settings.defaults import IMAGE_SIZE

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class MTMSA(FaceModule):
    """Multi-task multi-scale attention network for facial age estimation.

    A ResNet34 with multi-scale attention is shared by three heads: age (a predictive distribution), gender
    and race (logits). After Shi et al., "Multi-task multi-scale attention learning-based facial age
    estimation", IET Signal Processing 17(2), 2023; ``docs/method.md`` compares its abstract with this
    implementation.

    Args:
        weights: Initial weights: ``imagenet``, another name of torchvision (``IMAGENET1K_V2``), a file, or
            None for random ones. From a network of this package (a checkpoint, a run, a folder of
            ``save_pretrained``) fitting heads are loaded too, from other files only the trunk. Loaded when a
            fit starts without a checkpoint.
        backbone: ``resnet18``, ``resnet34``, ``resnet50``, a network of timm, ``timm/NAME``, or the dotted
            name of a :class:`.Trunk`, ``mylab.MyTrunk``.
        msa: Multi-scale attention; None for the plain backbone. Rates and stages that are None are fitted to
            ``image_size``.
        last_stride: Stride of a ResNet's last stage; 1 for larger maps, for inputs well below 224 pixels.
        stem_pool: Whether a ResNet's stem has its max-pool; without it all maps have twice the width.
        aux_stage: Stage (1-4) after which the gender and race heads branch off.
        age: Age head, one of :mod:`mtmsa_lightning.models.heads.age`; None for no head.
        gender: Gender head; None for no head.
        race: Race head; None for no head. There is none for datasets without at least two
            races.
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
            (``linear``; Goyal et al., arXiv 1706.02677, for SGD) or by the root of that (``sqrt``; Malladi et
            al., NeurIPS 2022, for Adam and its kin).
        lr_batch_size: Global batch that the optimiser's learning rate belongs to.
        lr_factors: Factors of the learning rate for trunk, attention and heads, and its decay over the
            trunk's stages.
        teacher: Trained networks (as for ``weights``) whose mean predictions a fit learns beside the labels,
            see :class:`.runs.teacher.Teacher`.
        teacher_weight: Weight of the losses against the teacher in [0, 1]; those of labels have the rest.
        freeze_epochs: Number of first epochs in which the backbone's layers keep their weights and BatchNorm
            statistics; attention and heads learn.
        channels_last: Store images and convolutions channels last in memory, which is faster in half
            precision; results differ by rounding.
        checkpoint_activations: Recompute the trunk's activations in the backward pass, to save memory.
        flip_test: In evaluation, average the outputs of the heads (means and log-variances of age, logits of
            classes) over each face and its mirror image.
        image_size: Side of the input in pixels; set from the data.
        crop: Fraction of raw photos that the data used; set from the data, kept for prediction.
        gender_classes: Class names in index order; set from the data.
        race_classes: Class names in index order; set from the data.
        age_groups: Inclusive (low, high) age groups in years, or empty; set from the data.

    Raises:
        ConfigError: There is no head, or an argument is out of range.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        weights: str | None = None,
        backbone: str = "resnet34",
        msa: MSAConfig | None = MSAConfig(),  # noqa: B008  # never changed in place
        last_stride: int = LAST_STRIDE,
        stem_pool: bool = True,
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
        lr_factors: LearningRateFactors = LearningRateFactors(),  # noqa: B008  # never changed in place
        teacher: str | list[str] | None = None,
        teacher_weight: float = 0.5,
        freeze_epochs: int = 0,
        channels_last: bool = False,
        checkpoint_activations: bool = False,
        flip_test: bool = False,
        image_size: int = IMAGE_SIZE,
        crop: float = 1.0,
        gender_classes: Sequence[str] = GENDERS,
        race_classes: Sequence[str] = (),
        age_groups: Sequence[Sequence[int]] = (),
    ) -> None:
        settings = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        if lr_batch_size < 1:
            raise ConfigError(f"model.lr_batch_size {lr_batch_size} must be at least 1")
        if aux_stage not in (1, 2, 3, 4):
            raise ConfigError(f"model.aux_stage {aux_stage} is not one of the stages 1, 2, 3, 4")
        if not 0 <= teacher_weight <= 1:
            raise ConfigError(f"model.teacher_weight {teacher_weight} must lie between 0 and 1")
        msa = MSAConfig(**msa) if isinstance(msa, Mapping) else msa
        factors = LearningRateFactors(**lr_factors) if isinstance(lr_factors, Mapping) else lr_factors
        self.trunk = build_trunk(backbone, msa, image_size, last_stride, stem_pool, checkpoint_activations)
        msa = msa and msa.fitted(image_size, self.trunk.stage_strides)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.trunk.to(memory_format=self._memory_format)
        self.weights, self.aux_stage, self.flip_test = weights, aux_stage, flip_test
        self.image_size, self.crop = image_size, crop
        self.gender_classes, self.race_classes = tuple(gender_classes), tuple(race_classes)
        self.age_groups = tuple((int(low), int(high)) for low, high in age_groups)
        # recorded settings are not rebuilt
        self.optimizer = AdamW if isinstance(optimizer, Mapping) else optimizer
        self.scheduler = WarmupCosine if isinstance(scheduler, Mapping) else scheduler
        self.scheduler_interval, self.freeze_epochs = scheduler_interval, freeze_epochs
        self.lr_scaling, self.lr_batch_size, self.lr_factors = lr_scaling, lr_batch_size, factors
        self.teacher = [teacher] if isinstance(teacher, str) else list(teacher or ())
        self.teacher_weight = teacher_weight
        self._configure_heads(age, gender, race)
        task_weights = {"age": age_weight, "gender": gender_weight, "race": race_weight}
        present = {task: task_weights[task] for task in self.tasks}
        self.weighting = TaskWeighting(present, learned=weighting == "learned")
        self.configure_metrics()
        self.register_buffer("pixel_mean", _pixels(IMAGENET_MEAN), persistent=False)
        self.register_buffer("pixel_std", _pixels(IMAGENET_STD), persistent=False)
        settings["msa"] = msa and {key: as_lists(value) for key, value in asdict(msa).items()}
        settings |= {"lr_factors": asdict(factors), "teacher": self.teacher or None}
        settings |= {task: head_spec(getattr(self, task)) for task in TASKS}
        settings |= {"optimizer": callable_spec(optimizer), "scheduler": callable_spec(scheduler)}
        for name in ("gender_classes", "race_classes", "age_groups"):
            settings[name] = as_lists(getattr(self, name))
        self.save_hyperparameters(settings)  # plain values: checkpoints are loaded without running code

    # ---------------------------------------------------------------- parts

    def _configure_heads(self, age: Any, gender: Any, race: Any) -> None:
        channels = self.trunk.stage_channels
        aux = channels[self.aux_stage - 1]
        self.age: AgeHead | None = build_head(age, channels[-1])
        self.gender: ClassHead | None = build_head(gender, aux, len(self.gender_classes))
        races = len(self.race_classes)
        self.race: ClassHead | None = build_head(race, aux, races) if races > 1 else None
        self._race_wanted = race is not None
        if not self.tasks:
            raise ConfigError("no head is left: keep at least one of model.age, model.gender, model.race")

    def configure_metrics(self, sources: Sequence[str] = ()) -> None:
        """Build the metrics for the present heads and age groups, and for the sources of a mixture."""
        classes = {"age": 0, "gender": len(self.gender_classes), "race": len(self.race_classes)}
        present = {task: classes[task] for task in self.tasks}
        build = partial(StageMetrics, present, groups=self.age_groups)
        self._metric_attributes = None  # Lightning looks for logged metrics once
        self.metrics, self.source_metrics = build(), SourceMetrics(sources, build)

    # ---------------------------------------------------------------- network and losses

    def forward(self, images: Tensor) -> FaceOutput:
        """Return the age distribution in years and the class logits, shape (N, classes).

        Args:
            images: RGB faces, shape (N, 3, height, width): uint8, or floating point in [0, 1].
        """
        images = self.normalise(images)
        features, aux = self.trunk(images, self.aux_stage)
        if self.flip_test and not self.training:
            # The heads are linear, so averaging their inputs averages their outputs.
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
        """Normalise images with the ImageNet statistics, on their device."""
        images = images.contiguous(memory_format=self._memory_format)  # loaders return channels last
        if not images.is_floating_point():
            images = images.to(self.pixel_mean.dtype) / 255
        return (images - self.pixel_mean) / self.pixel_std

    def losses(self, output: FaceOutput, batch: FaceBatch) -> TaskLosses:
        """Return (sum, count) of every task's loss over the labelled faces of a batch."""
        losses: TaskLosses = {}
        if self.age is not None and output.age_raw is not None:
            losses["age"] = self.age.loss(output.age_raw, batch["age_low"], batch["age_high"])
        if self.gender is not None and output.gender is not None:
            losses["gender"] = self.gender.loss(output.gender, batch["gender"], self._learnt("gender"))
        if self.race is not None and output.race is not None:
            losses["race"] = self.race.loss(output.race, batch["race"], self._learnt("race"))
        return losses

    def _learnt(self, task: str) -> Sequence[int] | None:
        """Return the indices of the classes that have training faces; None for all."""
        mapping = self.class_mappings.get(task)
        return None if mapping is None else mapping.learnt

    def total_loss(self, losses: TaskLosses, soft: TaskLosses | None = None) -> Tensor:
        """Return the weighted sum of task losses and of those against soft labels, :func:`.joined_loss`."""
        return joined_loss(losses, self.weighting, soft, self.teacher_weight)

    def calibrated(self, output: FaceOutput) -> FaceOutput:
        """Apply the calibration, if there is one; ``age_raw`` is not changed."""
        return output if self.calibration is None else self.calibration.output(output)

    # ---------------------------------------------------------------- steps

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Return the total loss of a batch.

        It is logged for callbacks, not for Lightning's progress bar, which would synchronise every step.
        """
        output, _, losses = self._step("train", batch)
        soft = None if self.taught_by is None else self.taught_by.losses(output, batch["image"])
        total = self.total_loss(losses, soft)
        self.log("loss", total.detach(), logger=False)
        return total * self._accumulation_factor(batch_idx)

    def _accumulation_factor(self, batch_idx: int) -> float:
        """Return the factor for the last step of an epoch, which may have fewer batches than others."""
        accumulated = self.trainer.accumulate_grad_batches
        first = batch_idx - batch_idx % accumulated
        return accumulated / min(accumulated, self.trainer.num_training_batches - first)

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> FaceOutput:  # type: ignore[override]
        """Update the validation metrics and return the predictions for callbacks."""
        return self._step("val", batch)[1]

    def test_step(self, batch: FaceBatch, batch_idx: int) -> FaceOutput:  # type: ignore[override]
        """Update the test metrics and return the calibrated predictions; losses are of uncalibrated ones."""
        return self._step("test", batch)[1]

    def predict_step(self, batch: FaceBatch, batch_idx: int) -> FaceOutput:
        """Return calibrated predictions for a batch."""
        return self.calibrated(self(batch["image"]))

    def _step(self, stage: str, batch: FaceBatch) -> tuple[FaceOutput, FaceOutput, TaskLosses]:
        """Return output, output as evaluated (calibrated, of common classes) and losses; update metrics."""
        output: FaceOutput = self(batch["image"])
        batch = {**batch, **self._model_labels(batch)}
        losses = self.losses(output, batch)
        final = self.calibrated(output) if stage == "test" else output
        for metrics, number, faces in self.source_metrics.in_batch(stage, batch["index"]):
            own: Any = only(batch, faces)
            masked = final.common(self.source_mappings[number])
            self._update_metrics(metrics, stage, masked, self.losses(output, own), own)
        final = final.common(self.class_mappings)
        self._update_metrics(self.metrics, stage, final, losses, batch)
        return output, final, losses

    def _model_labels(self, batch: FaceBatch) -> Any:
        """Return the class labels of a batch as indices of the model's classes."""
        return {task: each.labels(batch[task]) for task, each in self.class_mappings.items()}  # type: ignore[literal-required]

    @torch.no_grad()
    def _update_metrics(
        self, metrics: StageMetrics, stage: str, output: FaceOutput, losses: TaskLosses, batch: FaceBatch
    ) -> None:
        inputs: dict[str, tuple[Any, ...]] = {f"{task}_loss": pair for task, pair in losses.items()}
        inputs["age"] = (output.age, batch["age_low"], batch["age_high"])
        if output.gender is not None:
            inputs["gender"] = (output.gender.double().softmax(1), batch["gender"])
        if output.race is not None:
            inputs["race"] = (output.race.double().softmax(1), batch["race"])
        metrics.update(stage, inputs)

    def stage_metrics(self, stage: str) -> dict[str, Metric]:
        """Return the metrics of ``train``, ``val`` or ``test`` for which the data has labels, by name."""
        return self.metrics.of(stage)

    def mean_loss(self, stage: str) -> Tensor:
        """Return the weighted sum of a stage's mean task losses so far, over all processes."""
        with torch.no_grad():
            total: Tensor = self.weighting(*self.metrics.mean_losses(stage))
        return total

    def _log_metrics(self, stage: str) -> None:
        for name in self.metrics.logged(stage):
            value: Any = self.mean_loss(stage) if name == "loss" else self.stage_metrics(stage)[name]
            self.log(f"{stage}/{name}", value, prog_bar=stage == "val" and name in ("age_mae", "group_acc"))
        for name, value in self.source_metrics.logged(stage):
            self.log(f"{stage}/{name}", value)

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

    # ---------------------------------------------------------------- training

    def on_train_start(self) -> None:
        """Restore the state within a continued epoch, for which Lightning calls no start hook."""
        self.on_train_epoch_start()
        if self._train_sums:
            metrics = self.metrics.all_of("train")
            restore_sums(metrics, self._train_sums, self.trainer.global_rank, self.trainer.world_size)
            self._train_sums = []

    def on_train_epoch_start(self) -> None:
        """Keep the BatchNorm statistics of a frozen backbone."""
        if self.freeze_epochs:
            self.trunk.train_pretrained(self.current_epoch >= self.freeze_epochs)

    def on_train_batch_start(self, batch: FaceBatch, batch_idx: int) -> None:
        """Raise ConfigError for faces of another size than the model was built for."""
        side = batch["image"].shape[-1]
        if side != self.image_size:
            raise ConfigError(
                f"faces of {side} px, but the model and its predictions use {self.image_size} px: "
                f"build it with MTMSA(image_size={side})"
            )

    # ---------------------------------------------------------------- optimisation

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the groups of :func:`.optimizers.parameter_groups`."""
        pretrained = self.trunk.pretrained_parameters()
        return parameter_groups(self, self.trunk, pretrained, self.lr_factors)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimiser and schedule; the learning rate follows the global batch, see ``lr_scaling``."""
        optimizer = build_optimizer(self.optimizer, self.parameter_groups())
        factor = batch_lr_factor(self.lr_scaling, self.lr_batch_size, self._trainer)
        for group in optimizer.param_groups:
            group["lr"] *= factor
        return build_schedule(self.scheduler, optimizer, self.scheduler_interval, self._trainer)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Step, with a learning rate of 0 for a frozen backbone."""
        with frozen_trunk(optimizer, active=epoch < self.freeze_epochs):
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)


def _pixels(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)
