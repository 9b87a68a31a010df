"""Age heads under one contract, one file each: the paper's Gaussian and its rivals in the literature."""

from mtmsa_lightning.models.age_heads.base import AgeHead
from mtmsa_lightning.models.age_heads.coral import CoralAgeHead
from mtmsa_lightning.models.age_heads.corn import CornAgeHead
from mtmsa_lightning.models.age_heads.cross_entropy import CrossEntropyAgeHead
from mtmsa_lightning.models.age_heads.dldl import DLDLAgeHead
from mtmsa_lightning.models.age_heads.dldl_v2 import DLDLv2AgeHead
from mtmsa_lightning.models.age_heads.gaussian import GaussianAgeHead
from mtmsa_lightning.models.age_heads.mean_variance import MeanVarianceAgeHead
from mtmsa_lightning.models.age_heads.regression import L1AgeHead, L2AgeHead

__all__ = [
    "AgeHead",
    "CoralAgeHead",
    "CornAgeHead",
    "CrossEntropyAgeHead",
    "DLDLAgeHead",
    "DLDLv2AgeHead",
    "GaussianAgeHead",
    "L1AgeHead",
    "L2AgeHead",
    "MeanVarianceAgeHead",
]
