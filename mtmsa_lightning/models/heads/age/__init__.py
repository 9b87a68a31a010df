"""Age heads: the paper's Gaussian head and alternatives from the literature, one file each."""

from mtmsa_lightning.models.heads.age.base import AgeHead
from mtmsa_lightning.models.heads.age.coral import CoralAgeHead
from mtmsa_lightning.models.heads.age.corn import CornAgeHead
from mtmsa_lightning.models.heads.age.cross_entropy import CrossEntropyAgeHead
from mtmsa_lightning.models.heads.age.dldl import DLDLAgeHead
from mtmsa_lightning.models.heads.age.dldl_v2 import DLDLv2AgeHead
from mtmsa_lightning.models.heads.age.gaussian import GaussianAgeHead
from mtmsa_lightning.models.heads.age.mean_variance import MeanVarianceAgeHead
from mtmsa_lightning.models.heads.age.regression import L1AgeHead, L2AgeHead

__all__ = [
    "AgeHead", "CoralAgeHead", "CornAgeHead", "CrossEntropyAgeHead", "DLDLAgeHead", "DLDLv2AgeHead",
    "GaussianAgeHead", "L1AgeHead", "L2AgeHead", "MeanVarianceAgeHead",
]  # fmt: skip
