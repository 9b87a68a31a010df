"""Networks: the trunk with multi-scale attention, the heads, and the age distribution that they predict."""

from mtmsa_lightning.models.age_distribution import AgeDistribution, GaussianAge
from mtmsa_lightning.models.heads import AgeHead, ClassHead, GaussianAgeHead
from mtmsa_lightning.models.msa import MSAAttention, MultiScaleAttention
from mtmsa_lightning.models.resnet import MSAConfig, MSAResNet34, load_trunk_weights

__all__ = [
    "AgeDistribution",
    "AgeHead",
    "ClassHead",
    "GaussianAge",
    "GaussianAgeHead",
    "MSAAttention",
    "MSAConfig",
    "MSAResNet34",
    "MultiScaleAttention",
    "load_trunk_weights",
]
