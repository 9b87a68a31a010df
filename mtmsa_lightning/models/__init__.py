"""Networks: the trunk with multi-scale attention, the heads, and the age distributions that they predict."""

from typing import TYPE_CHECKING

from mtmsa_lightning.lazy import lazy_names

if TYPE_CHECKING:
    from mtmsa_lightning.models.age_distribution import AgeDistribution as AgeDistribution
    from mtmsa_lightning.models.age_distribution import CategoricalAge as CategoricalAge
    from mtmsa_lightning.models.age_distribution import GaussianAge as GaussianAge
    from mtmsa_lightning.models.age_distribution import LaplaceAge as LaplaceAge
    from mtmsa_lightning.models.age_heads import AgeHead as AgeHead
    from mtmsa_lightning.models.age_heads import CoralAgeHead as CoralAgeHead
    from mtmsa_lightning.models.age_heads import CornAgeHead as CornAgeHead
    from mtmsa_lightning.models.age_heads import CrossEntropyAgeHead as CrossEntropyAgeHead
    from mtmsa_lightning.models.age_heads import DLDLAgeHead as DLDLAgeHead
    from mtmsa_lightning.models.age_heads import DLDLv2AgeHead as DLDLv2AgeHead
    from mtmsa_lightning.models.age_heads import GaussianAgeHead as GaussianAgeHead
    from mtmsa_lightning.models.age_heads import L1AgeHead as L1AgeHead
    from mtmsa_lightning.models.age_heads import L2AgeHead as L2AgeHead
    from mtmsa_lightning.models.age_heads import MeanVarianceAgeHead as MeanVarianceAgeHead
    from mtmsa_lightning.models.heads import ClassHead as ClassHead
    from mtmsa_lightning.models.msa import MSAAttention as MSAAttention
    from mtmsa_lightning.models.msa import MultiScaleAttention as MultiScaleAttention
    from mtmsa_lightning.models.resnet import MSAConfig as MSAConfig
    from mtmsa_lightning.models.resnet import MSAResNet34 as MSAResNet34
    from mtmsa_lightning.models.resnet import load_trunk_weights as load_trunk_weights

_HOMES = {
    "AgeDistribution": "age_distribution",
    "CategoricalAge": "age_distribution",
    "GaussianAge": "age_distribution",
    "LaplaceAge": "age_distribution",
    "AgeHead": "age_heads",
    "CoralAgeHead": "age_heads",
    "CornAgeHead": "age_heads",
    "CrossEntropyAgeHead": "age_heads",
    "DLDLAgeHead": "age_heads",
    "DLDLv2AgeHead": "age_heads",
    "GaussianAgeHead": "age_heads",
    "L1AgeHead": "age_heads",
    "L2AgeHead": "age_heads",
    "MeanVarianceAgeHead": "age_heads",
    "ClassHead": "heads",
    "MSAAttention": "msa",
    "MultiScaleAttention": "msa",
    "MSAConfig": "resnet",
    "MSAResNet34": "resnet",
    "load_trunk_weights": "resnet",
}
__all__ = sorted(_HOMES)
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
