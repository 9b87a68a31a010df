"""Weighted sum of the task losses, with fixed or learned weights."""

import math
from collections.abc import Mapping

import torch
import torch.distributed
from torch import Tensor, nn

from mtmsa_lightning.losses.special import soft_bound

TaskLosses = dict[str, tuple[Tensor, Tensor]]
"""Task name -> (sum over the labelled faces, their count)."""


class TaskWeighting(nn.Module):
    """Combine the mean losses of the tasks into one.

    Fixed weights give ``sum w L``. With ``learned`` every task but ``age`` is weighted by its homoscedastic
    uncertainty, ``w (exp(-s) L + s / 2)`` (Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh
    Losses", CVPR 2018, section 3.2). ``s`` is learned and softly bounded to (-5, 5); without the bound it
    would fall for ever on a perfect fit. Age keeps its fixed weight: its loss learns its own sigma and may be
    negative, so that ``exp(-s) L + s / 2`` would have no lower bound.

    Raises:
        ValueError: If there is no task, or a weight is negative or not finite.
    """

    def __init__(self, weights: Mapping[str, float], learned: bool = False) -> None:
        super().__init__()
        if not weights or not all(0 <= weight < math.inf for weight in weights.values()):
            raise ValueError(
                f"task weights must be finite and not negative, one or more, got {dict(weights)}"
            )
        self.weights = dict(weights)
        names = [name for name in weights if learned and name != "age"]
        self.raw_log_scales = nn.ParameterDict({name: torch.zeros(()) for name in names})

    def forward(self, losses: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the mean losses of all tasks.

        ``present`` is whether any face is labelled for a task, on any rank; other tasks contribute an
        exact zero that is still part of the graph.
        """
        if not losses.keys() == present.keys() == self.weights.keys():
            raise ValueError(
                f"expected losses of {sorted(self.weights)}, got {sorted(losses)}, present: {sorted(present)}"
            )
        terms = [
            torch.where(present[name].bool(), self._term(name, losses[name]), 0.0) for name in self.weights
        ]
        return sum(terms[1:], start=terms[0])

    def current(self) -> dict[str, Tensor]:
        """Return the current factor of each loss, detached, for logging."""
        factors = {name: torch.tensor(weight) for name, weight in self.weights.items()}
        for name in self.raw_log_scales:
            factors[name] = (self.weights[name] * (-self._log_scale(name)).exp()).detach()
        return factors

    def _term(self, name: str, loss: Tensor) -> Tensor:
        if name not in self.raw_log_scales:
            return self.weights[name] * loss
        log_scale = self._log_scale(name)
        return self.weights[name] * ((-log_scale).exp() * loss + 0.5 * log_scale)

    def _log_scale(self, name: str) -> Tensor:
        return soft_bound(self.raw_log_scales[name], -5.0, 5.0)


def joined_loss(
    losses: TaskLosses, weighting: TaskWeighting, soft: TaskLosses | None = None, soft_weight: float = 0.0
) -> Tensor:
    """Combine the task losses into the total loss, a scalar.

    With losses against soft labels (``soft``), the loss of a task is ``(1 - soft_weight)`` times its loss
    against the labels, plus ``soft_weight`` times its soft one.

    Counts are summed over all processes, and sums are scaled by the number of processes because DDP averages
    gradients. Any number of processes thus gives the gradient of the joined batch. Accumulated batches are
    each divided by their own counts; their mean is the gradient of the joined batch if all have the same
    number of labels of every task.
    """
    means, present = _joined_means(losses)
    if soft:
        soft_means, soft_present = _joined_means(soft)
        for task, mean in soft_means.items():
            means[task] = (1 - soft_weight) * means[task] + soft_weight * mean
            present[task] = present[task] | soft_present[task]
    total: Tensor = weighting(means, present)
    return total


def _joined_means(losses: TaskLosses) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the mean loss of each task for all processes' labels, and whether there are labels."""
    counts = torch.stack([count.to(torch.float64) for _, count in losses.values()])
    processes = 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        processes = torch.distributed.get_world_size()
        torch.distributed.all_reduce(counts)
    pairs = zip(losses.items(), counts, strict=True)
    # a count of 0 becomes 1; class-weighted counts may lie in between
    means = {task: loss * processes / count.where(count > 0, 1.0) for (task, (loss, _)), count in pairs}
    return means, dict(zip(losses, counts > 0, strict=True))
