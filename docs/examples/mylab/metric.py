"""A metric, and the callback that logs it."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mtmsa_lightning.metrics.base import Labels, Predictions, age_inputs


class AgeMedianError(Metric):
    """Median absolute error in years, over the faces with an exact age; NaN without one."""

    higher_is_better = False
    full_state_update = False
    errors: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("errors", default=[], dist_reduce_fx="cat")

    def update(self, preds: Predictions, target: Labels, high: Tensor | None = None) -> None:
        """Add faces; missing ages are NaN, and age groups have different ends."""
        age, low, high = age_inputs(preds, target, high)
        self.errors.append((age.mean - low).abs()[low == high])

    def compute(self) -> Tensor:
        """Return the median."""
        if len(self.errors) == 0:
            return torch.tensor(torch.nan, device=self.device)
        errors = dim_zero_cat(self.errors)
        return errors.quantile(0.5) if len(errors) else errors.new_tensor(torch.nan)


class LogMedianError(Callback):
    """Log ``val/age_median_error`` and ``test/age_median_error``, from all processes."""

    def __init__(self) -> None:
        self.metric = AgeMedianError()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *numbers: int
    ) -> None:
        """Add a batch; ``outputs`` are its predictions."""
        self.metric.to(pl_module.device).update(outputs.age, batch["age_low"], batch["age_high"])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metric of all batches; recorded and shown like those of the package."""
        stage = "test" if trainer.testing else "val"
        pl_module.log(f"{stage}/age_median_error", self.metric.compute())
        self.metric.reset()

    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end
