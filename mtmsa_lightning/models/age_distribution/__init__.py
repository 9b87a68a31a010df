"""Predictive distributions of age: one contract, and one file for each family."""

from mtmsa_lightning.models.age_distribution.base import AgeDistribution, printed_age
from mtmsa_lightning.models.age_distribution.calibrated import CalibratedAge
from mtmsa_lightning.models.age_distribution.categorical import CategoricalAge
from mtmsa_lightning.models.age_distribution.columns import (
    distribution_columns,
    distribution_from_columns,
    printed_columns,
)
from mtmsa_lightning.models.age_distribution.gaussian import GaussianAge
from mtmsa_lightning.models.age_distribution.laplace import LaplaceAge

__all__ = [
    "AgeDistribution",
    "CalibratedAge",
    "CategoricalAge",
    "GaussianAge",
    "LaplaceAge",
    "distribution_columns",
    "distribution_from_columns",
    "printed_age",
    "printed_columns",
]
