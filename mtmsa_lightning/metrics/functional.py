"""Functional forms of the metrics.

All functions of age take ``preds`` (distributions of age, or ages in years), ``low`` (ages in completed
years, NaN where missing, or a pair of ends) and optionally ``high`` (upper ends); see
:func:`~mtmsa_lightning.metrics.base.age_inputs`. They return a float64 scalar, NaN without a label. See the
class of each metric for its definition.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.metrics.base import Labels, Predictions, age_inputs, check_shapes
from mtmsa_lightning.models.distributions import AgeDistribution

ENCE_BINS = 10
"""Bins of the expected normalised calibration error."""

ECE_BINS = 15
"""Bins of the expected calibration error."""

PerFace = tuple[Tensor, Tensor]
"""Value of each face, ``(N,)``, and whether it counts, bool ``(N,)``."""


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the valid values in float64, NaN without any."""
    check_shapes(values, valid)
    return torch.where(valid, values.double(), 0.0).sum() / valid.sum()


# ---------------------------------------------------------------------------- errors of the age


def age_errors(preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
    """Return ``prediction - age`` of each face, valid for exact ages."""
    return preds.mean - low, low == high


def age_mae(preds: Predictions, low: Labels, high: Tensor | None = None) -> Tensor:
    """Return the mean absolute error in years; see :class:`~mtmsa_lightning.metrics.AgeMAE`."""
    error, exact = age_errors(*age_inputs(preds, low, high))
    return masked_mean(error.abs(), exact)


def age_rmse(preds: Predictions, low: Labels, high: Tensor | None = None) -> Tensor:
    """Return the root mean squared error in years; see :class:`~mtmsa_lightning.metrics.AgeRMSE`."""
    error, exact = age_errors(*age_inputs(preds, low, high))
    return masked_mean(error.square(), exact).sqrt()


def age_bias(preds: Predictions, low: Labels, high: Tensor | None = None) -> Tensor:
    """Return the mean error in years; see :class:`~mtmsa_lightning.metrics.AgeBias`."""
    return masked_mean(*age_errors(*age_inputs(preds, low, high)))


def cumulative_score(
    preds: Predictions, low: Labels, high: Tensor | None = None, threshold: float | Tensor = 5.0
) -> Tensor:
    """Return CS@threshold, in [0, 1]; see :class:`~mtmsa_lightning.metrics.CumulativeScore`."""
    error, exact = age_errors(*age_inputs(preds, low, high))
    return masked_mean(error.abs() <= threshold, exact)


def cumulative_score_curve(
    preds: Predictions, low: Labels, high: Tensor | None = None, limit: int = 30
) -> Tensor:
    """Return CS@n for n = 0 ... limit; see :class:`~mtmsa_lightning.metrics.CumulativeScoreCurve`."""
    within, count = errors_within(*age_errors(*age_inputs(preds, low, high)), limit)
    return within.double() / count


def errors_within(error: Tensor, exact: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Return the numbers of faces with an error of at most 0 ... limit years, and of all faces that count."""
    check_shapes(error, exact)
    thresholds = torch.arange(limit + 1, device=error.device)
    return ((error.abs()[:, None] <= thresholds) & exact[:, None]).sum(0), exact.sum()


def cumulative_score_area(
    preds: Predictions, low: Labels, high: Tensor | None = None, limit: float = 30.0
) -> Tensor:
    """Return the area under CS@0 ... limit; see :class:`~mtmsa_lightning.metrics.CumulativeScoreArea`."""
    return masked_mean(*areas_above_error(*age_inputs(preds, low, high), limit))


def areas_above_error(preds: AgeDistribution, low: Tensor, high: Tensor, limit: float) -> PerFace:
    """Return ``max(0, 1 - |error| / limit)`` of each face, valid for exact ages."""
    error, exact = age_errors(preds, low, high)
    return (1 - error.abs() / limit).clamp(min=0), exact


# ---------------------------------------------------------------------------- age groups


def group_cells(
    preds: AgeDistribution, low: Tensor, high: Tensor, edges: Sequence[float], edge_tensor: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the predicted cell (-1 for NaN) and the label's cell of each face, indices ``(N,)`` each."""
    predicted = predicted_classes(preds.group_probs(edges))
    return predicted, torch.bucketize((low.double() + high.double()) / 2, edge_tensor)


def group_accuracy(
    preds: Predictions,
    low: Labels,
    high: Tensor | None = None,
    edges: Sequence[float] = AGE_GROUP_EDGES,
    offset: int = 0,
) -> Tensor:
    """Return the accuracy over age groups; see :class:`~mtmsa_lightning.metrics.GroupAccuracy`."""
    dist, low, high = age_inputs(preds, low, high)
    edge_tensor = torch.tensor(edges, dtype=torch.float64, device=low.device)
    cells = group_cells(dist, low, high, edges, edge_tensor)
    return masked_mean(right_groups(*cells, offset), ~(low + high).isnan())


def right_groups(predicted: Tensor, labelled: Tensor, offset: int) -> Tensor:
    """Return whether each predicted cell is at most ``offset`` cells away from the label's."""
    return (predicted >= 0) & ((predicted - labelled).abs() <= offset)


# ---------------------------------------------------------------------------- predictive distributions


def age_nll(preds: AgeDistribution, low: Labels, high: Tensor | None = None) -> Tensor:
    """Return the negative log-likelihood of exact ages; see :class:`~mtmsa_lightning.metrics.AgeNLL`."""
    return masked_mean(*nlls(*age_inputs(preds, low, high)))


def nlls(preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
    """Return the negative log-density of each label, valid for exact ages."""
    return -preds.log_prob(preds.nearest(low)), low == high


def age_interval_nll(preds: AgeDistribution, low: Labels, high: Tensor | None = None) -> Tensor:
    """Return the negative log-likelihood of groups; see :class:`~mtmsa_lightning.metrics.AgeIntervalNLL`."""
    return masked_mean(*interval_nlls(*age_inputs(preds, low, high)))


def interval_nlls(preds: AgeDistribution, low: Tensor, high: Tensor) -> PerFace:
    """Return the negative log-probability of each group, valid for groups."""
    return -preds.log_interval_prob(preds.nearest(low) - 0.5, preds.nearest(high) + 0.5), low < high


def crps(preds: AgeDistribution, low: Labels, high: Tensor | None = None) -> Tensor:
    """Return the mean CRPS of exact ages in years; see :class:`~mtmsa_lightning.metrics.AgeCRPS`."""
    dist, low, high = age_inputs(preds, low, high)
    return masked_mean(dist.crps(low), low == high)


def interval_coverage(
    preds: AgeDistribution, low: Labels, high: Tensor | None = None, level: float = 0.9
) -> Tensor:
    """Return the coverage of intervals; see :class:`~mtmsa_lightning.metrics.IntervalCoverage`."""
    dist, low, high = age_inputs(preds, low, high)
    return masked_mean(covered(dist, low, high, level), ~low.isnan())


def covered(preds: AgeDistribution, low: Tensor, high: Tensor, level: float) -> Tensor:
    """Return whether the interval of ``level`` contains each label."""
    first, last = preds.interval(level)
    return (first <= low) & (high <= last)


def interval_width(
    preds: AgeDistribution, low: Labels, high: Tensor | None = None, level: float = 0.9
) -> Tensor:
    """Return the mean width of intervals; see :class:`~mtmsa_lightning.metrics.IntervalWidth`."""
    dist, low, high = age_inputs(preds, low, high)
    first, last = dist.interval(level)
    return masked_mean(last - first, ~low.isnan())


# ---------------------------------------------------------------------------- standard deviation


def ence(preds: AgeDistribution, low: Labels, high: Tensor | None = None, bins: int = ENCE_BINS) -> Tensor:
    """Return the normalised calibration error; see :class:`~mtmsa_lightning.metrics.ENCE`."""
    return normalised_calibration_error(*_std_and_error(preds, low, high), bins)


def aurc(preds: AgeDistribution, low: Labels, high: Tensor | None = None) -> Tensor:
    """Return the area under the risk-coverage curve; see :class:`~mtmsa_lightning.metrics.AURC`."""
    return risk_coverage(*_std_and_error(preds, low, high)).risk.mean()


def _std_and_error(preds: AgeDistribution, low: Labels, high: Tensor | None) -> tuple[Tensor, Tensor]:
    dist, low, high = age_inputs(preds, low, high)
    error, exact = age_errors(dist, low, high)
    return dist.std[exact].double(), error[exact].abs().double()


class RiskCoverageCurve(NamedTuple):
    """Risk of the k most certain faces, k = 1 ... n.

    Attributes:
        coverage: ``k / n``, ``(n,)``.
        risk: Mean absolute error of these faces in years, ``(n,)``.
        std: Largest predicted std among them in years, ``(n,)``: the threshold that keeps them.
    """

    coverage: Tensor
    risk: Tensor
    std: Tensor


def risk_coverage(std: Tensor, error: Tensor) -> RiskCoverageCurve:
    """Return the risk-coverage curve.

    Args:
        std: Predicted standard deviations in years, ``(n,)``.
        error: Absolute errors in years, ``(n,)``.
    """
    std, error = _by_std(std, error)
    faces = torch.arange(1, len(std) + 1, dtype=torch.float64, device=std.device)
    return RiskCoverageCurve(faces / len(std), error.cumsum(0) / faces, std)


def normalised_calibration_error(std: Tensor, error: Tensor, bins: int = ENCE_BINS) -> Tensor:
    """Return the expected normalised calibration error; arguments as for :func:`risk_coverage`."""
    if len(std) < bins:
        return std.new_tensor(torch.nan)
    std, square = _by_std(std, error.square())
    parts = zip(std.square().tensor_split(bins), square.tensor_split(bins), strict=True)
    roots = [(variance.mean().sqrt(), squares.mean().sqrt()) for variance, squares in parts]
    return torch.stack([(rmv - rmse).abs() / rmv for rmv, rmse in roots]).mean()


def _by_std(std: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Sort by std; replace the values of faces with equal std by their mean."""
    std, order = std.sort(stable=True)
    _, tie, sizes = torch.unique_consecutive(std, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(sizes), dtype=values.dtype, device=values.device).index_add_(0, tie, values[order])
    return std, (sums / sizes)[tie]


# ---------------------------------------------------------------------------- classes


def predicted_classes(probs: Tensor) -> Tensor:
    """Return the most probable class, ``(N,)``; -1, which equals no label, if a probability is NaN."""
    return torch.where(probs.isnan().any(dim=1), -1, probs.argmax(dim=1))


def class_counts(probs: Tensor, target: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return the numbers of correct predictions and of labels by class, ``(num_classes,)`` each."""
    check_shapes(probs[:, 0], target)
    of_class = target[:, None] == torch.arange(num_classes, device=target.device)
    return (of_class & (predicted_classes(probs) == target)[:, None]).sum(0), of_class.sum(0)


def class_accuracy(probs: Tensor, target: Tensor) -> Tensor:
    """Return the accuracy; see :class:`~mtmsa_lightning.metrics.ClassAccuracy`."""
    right, count = class_counts(probs, target, probs.shape[1])
    return right.sum().double() / count.sum()


def balanced_accuracy(probs: Tensor, target: Tensor) -> Tensor:
    """Return the mean recall of the occurring classes; see ``BalancedAccuracy``."""
    return mean_recall(*class_counts(probs, target, probs.shape[1]))


def mean_recall(right: Tensor, count: Tensor) -> Tensor:
    """Return the mean of the recalls of all classes with labels, NaN without any."""
    return torch.where(count > 0, right.double() / count, torch.nan).nanmean()


def class_calibration_error(probs: Tensor, target: Tensor, bins: int = ECE_BINS) -> Tensor:
    """Return the expected calibration error; see ``ClassCalibrationError``."""
    return calibration_error(*confidence_bins(probs, target, bins))


def confidence_bins(probs: Tensor, target: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return sum of confidence, number of correct predictions and of labels of each bin, ``(bins,)``."""
    confidence, valid = probs.double().amax(dim=1), (target >= 0).double()
    right = (predicted_classes(probs) == target) * valid
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=probs.device)
    bin_of = torch.bucketize(confidence, edges[1:-1], right=True)
    zeros = torch.zeros(bins, dtype=torch.float64, device=probs.device)
    sums, hits, counts = (zeros.index_add(0, bin_of, values) for values in (confidence * valid, right, valid))
    return sums, hits, counts


def calibration_error(confidence: Tensor, right: Tensor, count: Tensor) -> Tensor:
    """Return the calibration error from the sums of :func:`confidence_bins`."""
    return (right - confidence).abs().sum() / count.sum()
