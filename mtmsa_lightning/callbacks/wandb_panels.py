"""What a W&B dashboard shows beside the metrics: curves after each validation, and how fast a training is.

Nothing here may end a training: what cannot be drawn or sent is warned of.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch.nn.utils import get_total_norm
from torchmetrics.classification import MulticlassConfusionMatrix

from mtmsa_lightning.callbacks.predictions import PredictionTable
from mtmsa_lightning.callbacks.run_record import git_commit, step_size
from mtmsa_lightning.data.dataset import FaceBatch, FaceDataset

if TYPE_CHECKING:
    import wandb
    from matplotlib.figure import Figure

    from mtmsa_lightning.evaluation.predictions import Predictions

log = logging.getLogger(__name__)

FACES = 16
"""Faces of each kind in a table."""


def wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    """Return the loggers that send to W&B; on other processes than the first they are dummies."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


@contextmanager
def only_warned_of(what: str) -> Iterator[None]:
    """Let nothing that goes wrong inside end a training."""
    try:
        yield
    except Exception as error:
        log.warning("wandb: no %s: %s: %s; training goes on", what, type(error).__name__, error)


class WandbPanels(Callback):
    """Logs pictures and tables of faces after each validation, and what the run's data are.

    Args:
        faces: Put photos into the tables. They are sent to a server: off unless the user decides so.
    """

    def __init__(self, faces: bool = False) -> None:
        self.faces = faces
        self._collected = PredictionTable()
        self._said = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put what figures must be quoted with into the run's config, and name its dataset."""
        if not trainer.is_global_zero or self._said:
            return
        self._said = True
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        said = {"provenance": data.provenance(), "git_commit": git_commit()}
        for logger in wandb_loggers(trainer):
            with only_warned_of("provenance"):
                logger.experiment.config.update(said, allow_val_change=True)
                use_dataset(logger, said["provenance"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the batch over all devices and its learning rate into the run's config."""
        for logger in wandb_loggers(trainer) if trainer.is_global_zero else ():
            with only_warned_of("batch size"):
                logger.experiment.config.update(step_size(trainer), allow_val_change=True)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: FaceBatch, *_: Any
    ) -> None:
        """Keep the batch's predictions."""
        if not trainer.sanity_checking:
            self._collected.add(pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what the validation faces show."""
        if trainer.sanity_checking:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        table = self._collected.take(trainer, data.val_dataset)
        if not trainer.is_global_zero:
            return
        from mtmsa_lightning.evaluation.predictions import read_predictions

        with only_warned_of("panels"):
            predictions = read_predictions(table)
            shown: dict[str, Any] = {
                f"val/{name}": _image(draw()) for name, draw in panels(predictions).items()
            }
            photos = data.val_dataset if self.faces else None
            shown |= {f"val/{name}": each for name, each in face_tables(predictions, photos).items()}
            for logger in wandb_loggers(trainer):
                logger.log_metrics(shown, step=trainer.global_step)


def panels(predictions: "Predictions") -> "dict[str, Callable[[], Figure]]":
    """Return what draws each picture for which there are labels, by name."""
    from mtmsa_lightning.evaluation import plots
    from mtmsa_lightning.evaluation.groups import group_confusion, group_names
    from mtmsa_lightning.metrics.age import CumulativeScoreCurve
    from mtmsa_lightning.metrics.alone import alone

    age, low, high = predictions.age, predictions.age_low, predictions.age_high
    labelled = predictions.labelled()
    drawn: dict[str, Callable[[], Figure]] = {}
    if age is not None and labelled["exact"]:
        curve, exact = alone(CumulativeScoreCurve()), low == high
        curve.update(age, low, high)
        shares = curve.compute().numpy()
        drawn["cumulative_score"] = lambda: plots.cumulative_score(
            range(len(shares)), shares, labelled["exact"]
        )
        drawn["predicted_against_true"] = lambda: plots.predicted_against_true(
            low[exact].numpy(), age.mean[exact].numpy()
        )
    if age is not None and labelled["age"]:
        drawn["confusion_age_groups"] = lambda: plots.confusion(
            group_confusion(predictions).numpy(), group_names(predictions), "age group (years)"
        )
    for task, head in (("gender", predictions.gender), ("race", predictions.race)):
        if head is not None and labelled[task]:
            matrix = alone(MulticlassConfusionMatrix(len(head.names), ignore_index=-1))
            matrix.update(head.probs, head.target)
            drawn[f"confusion_{task}"] = partial(plots.confusion, matrix.compute().numpy(), head.names, task)
    return drawn


def face_tables(predictions: "Predictions", photos: FaceDataset | None) -> "dict[str, wandb.Table]":
    """Return tables of the worst and the most uncertain faces.

    Args:
        predictions: Predictions of labelled faces.
        photos: The faces themselves, as the network sees them; None leaves photos out.
    """
    import wandb

    from mtmsa_lightning.evaluation.faces import faces_to_look_at

    chosen = faces_to_look_at(predictions, FACES)
    rows = {} if photos is None else {name: row for row, name in enumerate(photos.table["id"])}
    tables = {}
    for kind in [kind for kind in ("worst", "most uncertain") if kind in chosen]:
        columns: dict[str, list[Any]] = {str(name): values.tolist() for name, values in chosen[kind].items()}
        if photos is not None:
            columns["photo"] = [wandb.Image(photos[rows[name]]["image"]) for name in chosen[kind]["id"]]
        data: list[Any] = [list(row) for row in zip(*columns.values(), strict=True)]
        tables[f"{kind.replace(' ', '_')}_faces"] = wandb.Table(columns=[*columns], data=data)
    return tables


def use_dataset(logger: WandbLogger, provenance: dict[str, Any]) -> None:
    """Name the data and split that a run uses, by fingerprints: no faces and no ids are sent."""
    import wandb

    name = f"{provenance['dataset']}-{provenance['protocol']}-fold{provenance['fold']}".replace(" ", "-")
    artifact = wandb.Artifact(name, type="dataset", metadata=provenance)
    with artifact.new_file("fingerprints.json") as file:
        file.write("\n".join(f"{part} {value}" for part, value in provenance["fingerprints"].items()))
    if logger.experiment.settings._offline:
        logger.experiment.log_artifact(artifact)  # offline runs cannot use one
    else:
        logger.experiment.use_artifact(artifact)


def _image(figure: "Figure") -> "wandb.Image":
    """Render a figure, which belongs to no display."""
    import numpy as np
    import wandb
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(150)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return wandb.Image(np.asarray(canvas.buffer_rgba())[..., :3])  # type: ignore[no-untyped-call]


class TrainingMonitor(Callback):
    """Logs the size of gradients, speed and memory of every training epoch to W&B.

    - ``train/grad_norm`` and ``train/grad_norm_max``: 2-norm of all gradients before clipping, mean and
      largest of the epoch's steps;
    - ``speed/images_per_second``: over all processes, validation not counted;
    - ``speed/data_wait_share``: share of the epoch's time that the loop waited for the loader. A GPU works on
      meanwhile, so that a share above 0 costs time only where it runs dry;
    - ``memory/gpu_peak_gib``: the most that the first GPU held so far.
    """

    def __init__(self) -> None:
        self._norms: list[torch.Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the norms of the steps so far, for a run that is continued within the epoch."""
        return {"norms": torch.stack(self._norms).cpu() if self._norms else torch.zeros(0)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on within an epoch; its speed is that of the rest."""
        self._norms = list(state_dict["norms"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, of an epoch too that is continued."""
        self._norms = [norm.to(trainer.strategy.root_device) for norm in self._norms]
        self._start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew."""
        self._norms = []
        self._start()

    def _start(self) -> None:
        self._faces, self._waited = 0, 0.0
        self._started = self._ready = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        """Count the wait for the batch."""
        self._waited += time.perf_counter() - self._ready
        self._faces += len(batch["image"])

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Keep the norm of the gradients where it is, without waiting for the device."""
        gradients = [each.grad for each in pl_module.parameters() if each.grad is not None]
        self._norms.append(get_total_norm(gradients))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Wait for the next batch from now on."""
        self._ready = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's figures."""
        seconds = max(self._ready - self._started, 1e-9)
        figures = {
            "speed/images_per_second": self._faces * trainer.world_size / seconds,
            "speed/data_wait_share": self._waited / seconds,
        }
        if self._norms:
            norms = torch.stack(self._norms)
            figures |= {"train/grad_norm": float(norms.mean()), "train/grad_norm_max": float(norms.max())}
        device = trainer.strategy.root_device
        if device.type == "cuda":
            figures["memory/gpu_peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        with only_warned_of("speed and gradients"):
            for logger in wandb_loggers(trainer):
                logger.log_metrics(figures, step=trainer.global_step)
