"""Plots and tables of every validation, for Weights & Biases and TensorBoard; errors become warnings."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray
from torchmetrics.classification import MulticlassConfusionMatrix

from mtmsa_lightning.data.face_dataset import FaceBatch, FaceDataset
from mtmsa_lightning.training.callbacks.prediction_writer import PredictionTable
from mtmsa_lightning.training.callbacks.run_record import git_commit, step_size
from mtmsa_lightning.training.callbacks.wandb import artifact_name

if TYPE_CHECKING:
    import wandb
    from matplotlib.figure import Figure

    from mtmsa_lightning.evaluation.predictions import Predictions

log = logging.getLogger(__name__)

FACES = 16
"""Faces of each kind in a table."""


def wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    """Return the W&B loggers; on processes other than the first they are dummies."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


@contextmanager
def warn_on_error(what: str) -> Iterator[None]:
    """Log an error as a warning."""
    try:
        yield
    except Exception as error:
        log.warning("%s not logged: %s: %s; training continues", what, type(error).__name__, error)


class Panels(Callback):
    """Log plots after each validation; to W&B also tables of faces and the provenance of the data.

    Plots show all faces together; TensorBoard gets nothing else.

    Args:
        faces: Put photos and ids of faces, which are sent to a server, into W&B's tables.
    """

    def __init__(self, faces: bool = False) -> None:
        self.faces = faces
        self._collected = PredictionTable()
        self._described = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Add the provenance of the data to W&B's config, and name the dataset."""
        if not trainer.is_global_zero or self._described:
            return
        self._described = True
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        record = {"provenance": data.provenance(), "git_commit": git_commit()}
        for logger in wandb_loggers(trainer):
            with warn_on_error("wandb: provenance"):
                logger.experiment.config.update(record, allow_val_change=True)
                use_dataset(logger, record["provenance"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add global batch size and learning rate to W&B's config."""
        for logger in wandb_loggers(trainer) if trainer.is_global_zero else ():
            with warn_on_error("wandb: batch size"):
                logger.experiment.config.update(step_size(trainer), allow_val_change=True)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: FaceBatch, *_: Any
    ) -> None:
        """Add the batch's predictions."""
        if not trainer.sanity_checking:
            self._collected.add(pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plot the predictions and log them."""
        if trainer.sanity_checking:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        table = self._collected.take(trainer, data.val_dataset)
        if not trainer.is_global_zero:
            return
        from mtmsa_lightning.evaluation.predictions import read_predictions

        pictures: dict[str, NDArray[np.uint8]] = {}
        with warn_on_error("pictures"):
            predictions = read_predictions(table)
            pictures = {f"val/{name}": _pixels(draw()) for name, draw in panels(predictions).items()}
        for logger in trainer.loggers:
            with warn_on_error(f"{type(logger).__name__}: pictures"):
                log_pictures(logger, pictures, trainer.global_step)
        photos = data.val_dataset if self.faces else None
        for logger in wandb_loggers(trainer):
            with warn_on_error("wandb: tables of faces"):
                tables = face_tables(predictions, photos).items()
                shown: dict[str, Any] = {f"val/{name}": table for name, table in tables}
                logger.log_metrics(shown, step=trainer.global_step)


def shows_pictures(logger: Any) -> bool:
    """Return whether :func:`log_pictures` supports a logger."""
    return isinstance(logger, WandbLogger | TensorBoardLogger)


def log_pictures(logger: Logger, pictures: dict[str, NDArray[np.uint8]], step: int) -> None:
    """Log images, shape (height, width, 3), to a logger that supports them."""
    if isinstance(logger, TensorBoardLogger):
        for name, pixels in pictures.items():
            logger.experiment.add_image(name, pixels, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger) and pictures:
        import wandb

        images: dict[str, Any] = {name: wandb.Image(pixels) for name, pixels in pictures.items()}
        logger.log_metrics(images, step=step)


def panels(predictions: "Predictions") -> "dict[str, Callable[[], Figure]]":
    """Return functions that draw the plots for which there are labels, by name."""
    from mtmsa_lightning.evaluation.age_groups import group_confusion, group_names
    from mtmsa_lightning.metrics.age import CumulativeScoreCurve
    from mtmsa_lightning.metrics.base import without_sync
    from mtmsa_lightning.models.distributions import printed_age
    from mtmsa_lightning.reports.plots import age as age_plots
    from mtmsa_lightning.reports.plots import classes as class_plots

    age, low, high = predictions.age, predictions.age_low, predictions.age_high
    labelled = predictions.labelled()
    drawn: dict[str, Callable[[], Figure]] = {}
    if age is not None and labelled["exact"]:
        curve, exact = without_sync(CumulativeScoreCurve()), low == high
        curve.update(age, low, high)
        fractions = curve.compute().numpy()
        drawn["cumulative_score"] = partial(
            age_plots.cumulative_score, range(len(fractions)), fractions, labelled["exact"]
        )
        drawn["predicted_against_true"] = lambda: age_plots.predicted_against_true(
            low[exact].numpy(), printed_age(age.mean[exact]).numpy()
        )
    if age is not None and labelled["age"]:
        drawn["confusion_age_groups"] = lambda: class_plots.confusion(
            group_confusion(predictions).numpy(), group_names(predictions), "age group (years)"
        )
    for task, head in (("gender", predictions.gender), ("race", predictions.race)):
        if head is not None and labelled[task]:
            matrix = without_sync(MulticlassConfusionMatrix(len(head.names), ignore_index=-1))
            matrix.update(head.probs, head.target)
            drawn[f"confusion_{task}"] = partial(
                class_plots.confusion, matrix.compute().numpy(), head.names, task
            )
    return drawn


def face_tables(predictions: "Predictions", photos: FaceDataset | None) -> "dict[str, wandb.Table]":
    """Return tables of the worst and the most uncertain faces.

    Without ``photos``, the network's inputs, the tables have neither photos nor ids (often file names), but
    the row of each face among the predictions.
    """
    import wandb

    from mtmsa_lightning.evaluation.shown_faces import faces_to_look_at

    chosen = faces_to_look_at(predictions, FACES)
    rows = {name: row for row, name in enumerate(predictions.ids)}
    tables = {}
    for kind in [kind for kind in ("worst", "most uncertain") if kind in chosen]:
        columns: dict[str, list[Any]] = {str(name): values.tolist() for name, values in chosen[kind].items()}
        names = columns["id"]
        if photos is None:
            columns = {"row": [rows[name] for name in names]} | columns
            del columns["id"]
        else:
            columns["photo"] = [wandb.Image(photos.image_of(name)) for name in names]
        data: list[Any] = [list(row) for row in zip(*columns.values(), strict=True)]
        tables[f"{kind.replace(' ', '_')}_faces"] = wandb.Table(columns=[*columns], data=data)
    return tables


def use_dataset(logger: WandbLogger, provenance: dict[str, Any]) -> None:
    """Log dataset and split of a run as an artifact of fingerprints, without faces and ids."""
    import wandb

    name = artifact_name(provenance["dataset"], provenance["protocol"], f"fold{provenance['fold']}")
    artifact = wandb.Artifact(name, type="dataset", metadata=provenance)
    with artifact.new_file("fingerprints.json") as file:
        file.write("\n".join(f"{part} {value}" for part, value in provenance["fingerprints"].items()))
    if logger.experiment.settings._offline:
        logger.experiment.log_artifact(artifact)  # offline runs cannot use one
    else:
        logger.experiment.use_artifact(artifact)


def _pixels(figure: "Figure") -> NDArray[np.uint8]:
    """Render a figure to pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(150)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
