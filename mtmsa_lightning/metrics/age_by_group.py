"""Mean absolute errors of the predicted age by group of faces, and their mean over decades.

Only faces with an exact label are used, as in :mod:`.age`; a group with fewer than ``min_faces`` of them has
no metric of its own.
"""

from typing import Any

import torch
from torch import Tensor

from mtmsa_lightning.metrics.base import Labels, PlotMetric, Predictions, age_inputs, check_shapes
from mtmsa_lightning.settings.defaults import MIN_FACES

DECADES = 14
"""Decades of age, 0-9 to 130-139; the last one includes older ages."""


class _MAEByGroup(PlotMetric):
    """Base class: sums of errors and numbers of faces by group, exact over uneven ranks.

    Args:
        name: Name of the groups in the names of the states, which MetricCollection compares.
        groups: Number of groups.
        min_faces: Minimum number of faces of a group.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    is_differentiable = True
    higher_is_better: bool | None = False
    count: Tensor

    def __init__(self, name: str, groups: int, min_faces: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.min_faces = min_faces
        self._errors = f"error_by_{name}"
        self.add_state(self._errors, torch.zeros(groups, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(groups, dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, error: Tensor, valid: Tensor, group: Tensor) -> None:
        """Add absolute errors, ``(N,)``, of the faces that are valid and in a group."""
        check_shapes(error, valid)
        check_shapes(error, group)
        inside = (group[:, None] == torch.arange(len(self.count), device=group.device)) & valid[:, None]
        errors = getattr(self, self._errors) + torch.where(inside, error.double()[:, None], 0.0).sum(0)
        setattr(self, self._errors, errors)
        self.count += inside.sum(0)

    @property
    def enough(self) -> Tensor:
        """Whether each group has enough faces, bool ``(groups,)``."""
        return self.count >= max(1, self.min_faces)

    def compute(self) -> Tensor:
        """Return the errors per group, float64."""
        return torch.where(self.enough, getattr(self, self._errors) / self.count, torch.nan)


class GroupMAE(_MAEByGroup):
    """Mean absolute error per group of faces, e.g. per gender: ``compute`` returns ``(groups,)`` years.

    Args:
        groups: Number of groups.
        min_faces: Minimum number of faces of a group.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    def __init__(self, groups: int, min_faces: int = 1, **kwargs: Any) -> None:
        super().__init__("group", groups, min_faces, **kwargs)

    def update(self, preds: Predictions, target: Labels, group: Tensor, high: Tensor | None = None) -> None:
        """Add a batch; arguments as for :class:`AgeMAE`, and the group of each face, ``(N,)`` (-1: none)."""
        dist, low, high = age_inputs(preds, target, high)
        self._add((dist.mean - low).abs(), low == high, group)


class DecadeMAE(_MAEByGroup):
    """Mean absolute error per decade of the true age: ``compute`` returns ``(DECADES,)`` years.

    Decades are 0-9, 10-19 and so on; a decade with fewer than ``min_faces`` faces is NaN.

    Args:
        min_faces: Minimum number of faces of a decade.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    def __init__(self, min_faces: int = MIN_FACES, **kwargs: Any) -> None:
        super().__init__("decade", DECADES, min_faces, **kwargs)

    def update(self, preds: Predictions, target: Labels, high: Tensor | None = None) -> None:
        """Add a batch; arguments as for :class:`AgeMAE`."""
        dist, low, high = age_inputs(preds, target, high)
        exact = low == high
        decade = (torch.where(exact, low, 0.0) // 10).long().clamp(0, DECADES - 1)
        self._add((dist.mean - low).abs(), exact, decade)


class WorstDecadeMAE(DecadeMAE):
    """Largest mean absolute error of a decade with enough faces, in years; NaN without any.

    Arguments as for :class:`DecadeMAE`.
    """

    def compute(self) -> Tensor:
        """Return the largest error, a float64 scalar."""
        worst = torch.where(self.enough, super().compute(), -torch.inf).max()  # NaN if an error is
        return torch.where(self.enough.any(), worst, torch.nan)


class AgeBalancedMAE(DecadeMAE):
    """Mean over the decades of their mean absolute errors, in years: every decade counts the same.

    As the balanced MAE of Ren et al., "Balanced MSE for Imbalanced Visual Regression", CVPR 2022, with
    decades as bins.

    Args:
        min_faces: Minimum number of faces of a decade; others are ignored.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    def __init__(self, min_faces: int = 1, **kwargs: Any) -> None:
        super().__init__(min_faces, **kwargs)

    def compute(self) -> Tensor:
        """Return the mean of the errors of the decades, a float64 scalar; NaN without any."""
        return torch.where(self.enough, super().compute(), 0.0).sum() / self.enough.sum()
