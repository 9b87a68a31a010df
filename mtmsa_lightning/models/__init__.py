"""Networks: the trunk with multi-scale attention, the heads, and the age distributions that they predict."""

from mtmsa_lightning.models.age_distribution import AgeDistribution, CategoricalAge, GaussianAge, LaplaceAge
from mtmsa_lightning.models.age_heads import (
    AgeHead,
    CoralAgeHead,
    CornAgeHead,
    CrossEntropyAgeHead,
    DLDLAgeHead,
    DLDLv2AgeHead,
    GaussianAgeHead,
    L1AgeHead,
    L2AgeHead,
    MeanVarianceAgeHead,
)
from mtmsa_lightning.models.heads import ClassHead
from mtmsa_lightning.models.msa import MSAAttention, MultiScaleAttention
from mtmsa_lightning.models.resnet import MSAConfig, MSAResNet34, load_trunk_weights

__all__ = [
    "AgeDistribution",
    "AgeHead",
    "CategoricalAge",
    "ClassHead",
    "CoralAgeHead",
    "CornAgeHead",
    "CrossEntropyAgeHead",
    "DLDLAgeHead",
    "DLDLv2AgeHead",
    "GaussianAge",
    "GaussianAgeHead",
    "L1AgeHead",
    "L2AgeHead",
    "LaplaceAge",
    "MSAAttention",
    "MSAConfig",
    "MSAResNet34",
    "MeanVarianceAgeHead",
    "MultiScaleAttention",
    "load_trunk_weights",
]
