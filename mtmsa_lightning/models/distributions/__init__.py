"""Predictive distributions of age, one file for each family."""

from mtmsa_lightning.models.distributions.base import AgeDistribution, printed_age
from mtmsa_lightning.models.distributions.calibrated import CalibratedAge, without_intervals
from mtmsa_lightning.models.distributions.categorical import CategoricalAge
from mtmsa_lightning.models.distributions.gaussian import GaussianAge
from mtmsa_lightning.models.distributions.laplace import LaplaceAge
from mtmsa_lightning.models.distributions.mixture import MixtureAge
from mtmsa_lightning.models.distributions.point import PointAge
from mtmsa_lightning.models.distributions.table_columns import (
    distribution_columns,
    distribution_from_columns,
    printed_columns,
)

__all__ = [
    "AgeDistribution", "CalibratedAge", "CategoricalAge", "GaussianAge", "LaplaceAge", "MixtureAge",
    "PointAge", "distribution_columns", "distribution_from_columns", "printed_age", "printed_columns",
    "without_intervals",
]  # fmt: skip
