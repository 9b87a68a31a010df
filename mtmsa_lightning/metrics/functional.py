"""Functional forms of the metrics, which return the value of one batch; each class has the definition.

The functions of age take ``preds`` (distributions of age, or ages in years), ``target`` (ages in completed
years, NaN where missing, or a pair of ends) and optionally ``high`` (upper ends); see
:func:`~mtmsa_lightning.metrics.base.age_inputs`. Values are float64, NaN without a label.
"""

from collections.abc import Sequence

from torch import Tensor
from torchmetrics import Metric

from mtmsa_lightning import metrics
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.metrics.base import CS_LIMIT, CS_YEARS, ECE_BINS, ENCE_BINS, Labels, Predictions
from mtmsa_lightning.models.distributions import AgeDistribution
from mtmsa_lightning.settings.defaults import INTERVAL_LEVEL, MIN_FACES


def _measure(metric: Metric, preds: Predictions, target: Labels, *high: Tensor | None) -> Tensor:
    device = (target if isinstance(target, Tensor) else target[0]).device
    value: Tensor = metric.to(device)(preds, target, *high)
    return value


def age_mae(preds: Predictions, target: Labels, high: Tensor | None = None) -> Tensor:
    """Return the mean absolute error in years; see :class:`~mtmsa_lightning.metrics.AgeMAE`."""
    return _measure(metrics.AgeMAE(), preds, target, high)


def age_balanced_mae(
    preds: Predictions, target: Labels, high: Tensor | None = None, min_faces: int = 1
) -> Tensor:
    """Return the mean of the MAE of the decades; see :class:`~mtmsa_lightning.metrics.AgeBalancedMAE`."""
    return _measure(metrics.AgeBalancedMAE(min_faces), preds, target, high)


def group_mae(
    preds: Predictions, target: Labels, group: Tensor, high: Tensor | None = None, groups: int | None = None
) -> Tensor:
    """Return the MAE of each group; see :class:`~mtmsa_lightning.metrics.GroupMAE`.

    Without ``groups`` their number is the largest index of ``group`` plus one.
    """
    number = int(group.max()) + 1 if groups is None else groups
    value: Tensor = metrics.GroupMAE(number).to(group.device)(preds, target, group, high)
    return value


def decade_mae(
    preds: Predictions, target: Labels, high: Tensor | None = None, min_faces: int = MIN_FACES
) -> Tensor:
    """Return the MAE of each decade of age; see :class:`~mtmsa_lightning.metrics.DecadeMAE`."""
    return _measure(metrics.DecadeMAE(min_faces), preds, target, high)


def age_rmse(preds: Predictions, target: Labels, high: Tensor | None = None) -> Tensor:
    """Return the root mean squared error in years; see :class:`~mtmsa_lightning.metrics.AgeRMSE`."""
    return _measure(metrics.AgeRMSE(), preds, target, high)


def age_bias(preds: Predictions, target: Labels, high: Tensor | None = None) -> Tensor:
    """Return the mean error in years; see :class:`~mtmsa_lightning.metrics.AgeBias`."""
    return _measure(metrics.AgeBias(), preds, target, high)


def cumulative_score(
    preds: Predictions, target: Labels, high: Tensor | None = None, threshold: float = CS_YEARS
) -> Tensor:
    """Return CS@threshold, in [0, 1]; see :class:`~mtmsa_lightning.metrics.CumulativeScore`."""
    return _measure(metrics.CumulativeScore(threshold), preds, target, high)


def cumulative_score_curve(
    preds: Predictions, target: Labels, high: Tensor | None = None, limit: int = CS_LIMIT
) -> Tensor:
    """Return CS@n for n = 0 ... limit; see :class:`~mtmsa_lightning.metrics.CumulativeScoreCurve`."""
    return _measure(metrics.CumulativeScoreCurve(limit), preds, target, high)


def cumulative_score_area(
    preds: Predictions, target: Labels, high: Tensor | None = None, limit: float = CS_LIMIT
) -> Tensor:
    """Return the area under CS@0 ... limit; see :class:`~mtmsa_lightning.metrics.CumulativeScoreArea`."""
    return _measure(metrics.CumulativeScoreArea(limit), preds, target, high)


def group_accuracy(
    preds: Predictions,
    target: Labels,
    high: Tensor | None = None,
    edges: Sequence[float] = AGE_GROUP_EDGES,
    offset: int = 0,
) -> Tensor:
    """Return the accuracy over age groups; see :class:`~mtmsa_lightning.metrics.GroupAccuracy`."""
    return _measure(metrics.GroupAccuracy(edges, offset), preds, target, high)


def age_nll(preds: AgeDistribution, target: Labels, high: Tensor | None = None) -> Tensor:
    """Return the negative log-likelihood of exact ages; see :class:`~mtmsa_lightning.metrics.AgeNLL`."""
    return _measure(metrics.AgeNLL(), preds, target, high)


def age_interval_nll(preds: AgeDistribution, target: Labels, high: Tensor | None = None) -> Tensor:
    """Return the negative log-likelihood of groups; see :class:`~mtmsa_lightning.metrics.AgeIntervalNLL`."""
    return _measure(metrics.AgeIntervalNLL(), preds, target, high)


def crps(preds: AgeDistribution, target: Labels, high: Tensor | None = None) -> Tensor:
    """Return the mean CRPS of exact ages in years; see :class:`~mtmsa_lightning.metrics.AgeCRPS`."""
    return _measure(metrics.AgeCRPS(), preds, target, high)


def interval_coverage(
    preds: AgeDistribution, target: Labels, high: Tensor | None = None, level: float = INTERVAL_LEVEL
) -> Tensor:
    """Return the coverage of intervals; see :class:`~mtmsa_lightning.metrics.IntervalCoverage`."""
    return _measure(metrics.IntervalCoverage(level), preds, target, high)


def interval_width(
    preds: AgeDistribution, target: Labels, high: Tensor | None = None, level: float = INTERVAL_LEVEL
) -> Tensor:
    """Return the mean width of intervals; see :class:`~mtmsa_lightning.metrics.IntervalWidth`."""
    return _measure(metrics.IntervalWidth(level), preds, target, high)


def ence(preds: AgeDistribution, target: Labels, high: Tensor | None = None, bins: int = ENCE_BINS) -> Tensor:
    """Return the normalised calibration error; see :class:`~mtmsa_lightning.metrics.ENCE`."""
    return _measure(metrics.ENCE(bins), preds, target, high)


def aurc(preds: AgeDistribution, target: Labels, high: Tensor | None = None) -> Tensor:
    """Return the area under the risk-coverage curve; see :class:`~mtmsa_lightning.metrics.AURC`."""
    return _measure(metrics.AURC(), preds, target, high)


def epsilon_error(preds: Predictions, target: Tensor, std: Tensor) -> Tensor:
    """Return the epsilon error of apparent age; see :class:`~mtmsa_lightning.metrics.EpsilonError`."""
    return _measure(metrics.EpsilonError(), preds, target, std)


def votes_crps(preds: AgeDistribution, target: Tensor, std: Tensor) -> Tensor:
    """Return the distance from the guesses in years; see :class:`~mtmsa_lightning.metrics.VotesCRPS`."""
    return _measure(metrics.VotesCRPS(), preds, target, std)


def votes_coverage(
    preds: AgeDistribution, target: Tensor, std: Tensor, level: float = INTERVAL_LEVEL
) -> Tensor:
    """Return the fraction of guesses in intervals; see :class:`~mtmsa_lightning.metrics.VotesCoverage`."""
    return _measure(metrics.VotesCoverage(level), preds, target, std)


def class_accuracy(probs: Tensor, target: Tensor) -> Tensor:
    """Return the accuracy; see :class:`~mtmsa_lightning.metrics.ClassAccuracy`."""
    return _measure(metrics.ClassAccuracy(probs.shape[1]), probs, target)


def balanced_accuracy(probs: Tensor, target: Tensor) -> Tensor:
    """Return the mean recall of the occurring classes; see ``BalancedAccuracy``."""
    return _measure(metrics.BalancedAccuracy(probs.shape[1]), probs, target)


def class_calibration_error(probs: Tensor, target: Tensor, bins: int = ECE_BINS) -> Tensor:
    """Return the expected calibration error; see ``ClassCalibrationError``."""
    return _measure(metrics.ClassCalibrationError(bins), probs, target)
