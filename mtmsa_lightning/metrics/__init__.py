"""Metrics of age, age groups, uncertainty, gender and race, for torchmetrics; see also :mod:`.functional`."""

from mtmsa_lightning.metrics.age import (
    AgeBias,
    AgeMAE,
    AgeRMSE,
    CumulativeScore,
    CumulativeScoreArea,
    CumulativeScoreCurve,
)
from mtmsa_lightning.metrics.age_by_group import AgeBalancedMAE, DecadeMAE, GroupMAE, WorstDecadeMAE
from mtmsa_lightning.metrics.age_groups import GroupAccuracy
from mtmsa_lightning.metrics.classes import BalancedAccuracy, ClassAccuracy, ClassCalibrationError
from mtmsa_lightning.metrics.probabilistic import (
    AgeCRPS,
    AgeIntervalNLL,
    AgeNLL,
    IntervalCoverage,
    IntervalWidth,
)
from mtmsa_lightning.metrics.stage_metrics import TaskLoss
from mtmsa_lightning.metrics.uncertainty import AURC, ENCE
from mtmsa_lightning.metrics.votes import EpsilonError, VotesCoverage, VotesCRPS

__all__ = [
    "AURC", "ENCE", "AgeBalancedMAE", "AgeBias", "AgeCRPS", "AgeIntervalNLL", "AgeMAE", "AgeNLL", "AgeRMSE",
    "BalancedAccuracy", "ClassAccuracy", "ClassCalibrationError", "CumulativeScore", "CumulativeScoreArea",
    "CumulativeScoreCurve", "DecadeMAE", "EpsilonError", "GroupAccuracy", "GroupMAE", "IntervalCoverage",
    "IntervalWidth", "TaskLoss", "VotesCRPS", "VotesCoverage", "WorstDecadeMAE",
]  # fmt: skip
