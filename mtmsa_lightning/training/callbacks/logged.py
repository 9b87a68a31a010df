"""The metrics that a stage has logged, ready for a record."""

from lightning.pytorch import Trainer


def logged_metrics(trainer: Trainer, stage: str) -> dict[str, float]:
    """Return the logged metrics of a stage (``val`` or ``test``) by name.

    A metric is NaN where too few faces stand behind it, and infinite where the network excludes a label.
    """
    return {
        name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(f"{stage}/")
    }
