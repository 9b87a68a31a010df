"""Metrics of age and of age groups."""

from mtmsa_lightning.metrics.age import AgeIntervalNLL, AgeMAE, AgeNLL, CumulativeScore
from mtmsa_lightning.metrics.groups import GroupAccuracy
from mtmsa_lightning.metrics.task_loss import MeanTaskLoss

__all__ = ["AgeIntervalNLL", "AgeMAE", "AgeNLL", "CumulativeScore", "GroupAccuracy", "MeanTaskLoss"]
