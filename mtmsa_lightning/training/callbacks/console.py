"""Console output: progress bar, a line per epoch and a table at the end."""

import logging
import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.early_stopping import EarlyStopping, EarlyStoppingReason
from rich.table import Table

from mtmsa_lightning._utils.logs import drawn
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.data.joined_dataset import JoinedDataset
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.metrics.suite import METRICS
from mtmsa_lightning.metrics.titles import format_metric
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.run_json import partial_note, partial_text
from mtmsa_lightning.runs.status import recorded_seed

log = logging.getLogger(__name__)

TITLES = {spec.name: spec.title for spec in METRICS if spec.headline} | {"loss": "loss"}


class LossBar(RichProgressBar):
    """Lightning's progress bar with the loss of every 20th step, since reading it waits for the device."""

    STEPS = 20

    def __init__(self) -> None:
        super().__init__()
        self._loss: float | None = None

    def _get_train_description(self, current_epoch: int) -> str:
        """Return the epoch, counted as by :class:`EpochLine`."""
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the values beside the bar."""
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)  # of Lightning's own run folders
        loss = trainer.callback_metrics.get("loss")
        if loss is not None and (self._loss is None or trainer.global_step % self.STEPS == 0):
            self._loss = float(loss)
        return shown if self._loss is None else {"loss": self._loss} | shown


class EpochLine(Callback):
    """Log one line per epoch, with its duration, at level INFO."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, also of a continued epoch."""
        self._start = time.perf_counter()
        self._validated = False

    on_train_epoch_start = on_train_start

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that the epoch was validated."""
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log training and validation of the epoch in one line."""
        seconds = time.perf_counter() - self._start
        pl_module.log("train/seconds", seconds)
        limited = limited_batches(trainer)
        for part, (seen, of) in limited.items():  # beside the metrics, wherever they are logged
            pl_module.log(f"partial/{part}", seen / of)
        notes = {part: f", {partial_text(*count, 'batches', part)}" for part, count in limited.items()}
        metrics = trainer.callback_metrics
        assert isinstance(pl_module, MTMSA)
        loss = float(pl_module.mean_loss("train"))  # logged by the module only after this hook
        shown = [
            f"{TITLES[name]} {format_metric(name, float(metrics[f'val/{name}']))}"
            for name in ("age_mae", "group_acc", "gender_acc", "race_acc")
            if self._validated and f"val/{name}" in metrics
        ]
        if trainer.is_global_zero:
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            trained = f"train loss {loss:.3f}{notes.get('train', '')}"
            validated = f"val {', '.join(shown)}{notes.get('val', '')}"
            validated = validated if self._validated else "not validated"
            log.info("%s  %s  %s  (%.0f s)", epoch, trained, validated, seconds)
        if not math.isfinite(loss):
            self._check_weights(trainer, pl_module, loss)

    def _check_weights(self, trainer: Trainer, pl_module: LightningModule, loss: float) -> None:
        """Raise on all processes if training has diverged, before the weights are saved."""
        # including BatchNorm statistics: a loss scaler skips the step, but not their update
        broken = [name for name, value in pl_module.state_dict().items() if not value.isfinite().all()]
        if broken:
            raise ConfigError(
                f"training has diverged in epoch {trainer.current_epoch + 1}: its loss is {loss}, and "
                f"{pluralize(len(broken), 'weight tensor')} hold NaN or infinity. Checkpoints of earlier "
                "epochs are kept. Lower the learning rate, clip gradients (trainer.gradient_clip_val) or use "
                "another --trainer.precision"
            )
        log.warning("epoch %d: the training loss is %s", trainer.current_epoch + 1, loss)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log that training has stopped early, and why."""
        for each in trainer.early_stopping_callbacks if trainer.should_stop else ():
            if isinstance(each, EarlyStopping) and each.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
                done = f"{each.stopped_epoch + 1} of {trainer.max_epochs}"
                why = str(each.stopping_reason_message).removesuffix(" Signaling Trainer to stop.")
                log.info("stopped early, after epoch %s: %s", done, why)


def limited_batches(trainer: Trainer) -> dict[str, tuple[int, int]]:
    """Return the numbers of used and of all batches of the parts that ``limit_*_batches`` limits."""
    batches = {"train": (int(trainer.num_training_batches), len(trainer.train_dataloader or ()))}
    batches["val"] = (int(sum(trainer.num_val_batches)), len(trainer.val_dataloaders or ()))
    return {part: (seen, of) for part, (seen, of) in batches.items() if 0 < seen < of}


def report(run: Path, record: dict[str, Any], data: Any) -> None:
    """Log the table of a finished run: metrics, protocol, classes, seeds and files."""
    labelled = (data.table.frame["gender"] >= 0).any()
    genders, races = data.gender_classes if labelled else (), data.race_classes
    lines = [
        f"{record.get('name', run.name)}: {data.source} {data.protocol} fold {data.fold}, "
        f"{data.table.label_rule}",
        metrics_table(record, faces_by_column(data)),
    ]
    if record.get("best_epoch") is not None:
        best = f"best epoch: {record['best_epoch'] + 1} of {record.get('epochs')} by {record.get('monitor')}"
        lines.append(best)
    if record.get("calibration"):
        lines.append(f"test metrics: {Calibration.from_dict(record['calibration']).describe()}")
    lines += [
        f"classes: gender {', '.join(genders) or 'none'}; race {', '.join(races) or 'none'}",
        f"split fingerprint (test): {data.split.fingerprints['test'][:16]}; seeds: split {data.split.seed}, "
        f"run {recorded_seed(run)}",
        f"files: {run}",
    ]
    if (mae := record.get("test", {}).get("test/age_mae")) is not None:
        guess, note = record.get("constant_age_mae"), partial_note(record, "test")
        beside = "" if guess is None else f" (constant guess {guess:.2f})"
        lines.append(f"age MAE {mae:.2f}{beside}{f', {note}' if note else ''}")
    log.info("%s", "\n".join(lines))


def faces_by_column(data: Any) -> dict[str, int]:
    """Return the number of faces of ``val`` and ``test`` and, of a mixture, of ``val/<source>`` ..."""
    faces = {}
    for stage in ("val", "test"):
        dataset = getattr(data, f"{stage}_dataset")
        faces[stage] = len(dataset)
        if isinstance(dataset, JoinedDataset):
            parts = zip(data.names, dataset.parts, strict=True)
            faces |= {f"{stage}/{name}": len(part) for name, part in parts if len(part)}
    return faces


def metrics_table(record: dict[str, Any], faces: dict[str, int]) -> str:
    """Return the table of a run's metrics as text; ``faces`` are the sizes of its columns."""
    table = Table()
    table.add_column("metric", no_wrap=True)
    titles = {"val": "validation", "test": "test"}
    columns = {name: name.partition("/")[0] for name in faces}
    columns = {name: stage for name, stage in columns.items() if record.get(stage)}
    for name, stage in columns.items():
        source = name.partition("/")[2]
        seen = faces[name] if source else record.get("seen", {}).get(stage, {"faces": faces[name]})["faces"]
        of = f" of {faces[stage]}, partial" if partial_note(record, stage) and not source else ""
        title = f"{titles[stage]}\n{source}\n" if source else f"{titles[stage]} "
        table.add_column(f"{title}(n = {seen}{of})", justify="right", no_wrap=bool(source))
    for name, title in TITLES.items():
        values = [record[stage].get(f"{column}/{name}") for column, stage in columns.items()]
        if any(value is not None for value in values):
            table.add_row(title, *(format_metric(name, value) for value in values))
    return drawn(table, max(100, 40 + 20 * len(columns)))
