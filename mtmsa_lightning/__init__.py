"""Facial age estimation with multi-task multi-scale attention, in PyTorch Lightning.

Names are imported when they are first used: the package itself, and its torch-only parts, load neither
Lightning nor wandb nor albumentations.
"""

from typing import TYPE_CHECKING

import mtmsa_lightning.opencv_limit  # noqa: F401  (before anything here loads OpenCV)
from mtmsa_lightning.lazy import lazy_names

if TYPE_CHECKING:
    from mtmsa_lightning.data.adience import Adience as Adience
    from mtmsa_lightning.data.datamodule import FaceDataModule as FaceDataModule
    from mtmsa_lightning.data.face_csv import FaceCSV as FaceCSV
    from mtmsa_lightning.data.morph import MORPH as MORPH
    from mtmsa_lightning.data.synthetic.datamodule import Synthetic as Synthetic
    from mtmsa_lightning.data.table import FaceTable as FaceTable
    from mtmsa_lightning.data.table import ReadReport as ReadReport
    from mtmsa_lightning.data.table import make_frame as make_frame
    from mtmsa_lightning.data.utkface import UTKFace as UTKFace
    from mtmsa_lightning.inference.estimator import AgeEstimator as AgeEstimator
    from mtmsa_lightning.losses import GaussianKLLoss as GaussianKLLoss
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
    from mtmsa_lightning.models.msa import MultiScaleAttention as MultiScaleAttention
    from mtmsa_lightning.models.resnet import MSAConfig as MSAConfig
    from mtmsa_lightning.models.resnet import MSAResNet34 as MSAResNet34
    from mtmsa_lightning.module import MTMSA as MTMSA

_HOMES = {
    "AgeEstimator": "inference.estimator",
    "MTMSA": "module",
    "MSAConfig": "models.resnet",
    "MSAResNet34": "models.resnet",
    "MultiScaleAttention": "models.msa",
    "AgeDistribution": "models.age_distribution",
    "CategoricalAge": "models.age_distribution",
    "GaussianAge": "models.age_distribution",
    "LaplaceAge": "models.age_distribution",
    "AgeHead": "models.age_heads",
    "GaussianAgeHead": "models.age_heads",
    "CoralAgeHead": "models.age_heads",
    "CornAgeHead": "models.age_heads",
    "CrossEntropyAgeHead": "models.age_heads",
    "DLDLAgeHead": "models.age_heads",
    "DLDLv2AgeHead": "models.age_heads",
    "L1AgeHead": "models.age_heads",
    "L2AgeHead": "models.age_heads",
    "MeanVarianceAgeHead": "models.age_heads",
    "ClassHead": "models.heads",
    "GaussianKLLoss": "losses",
    "FaceDataModule": "data.datamodule",
    "FaceTable": "data.table",
    "ReadReport": "data.table",
    "make_frame": "data.table",
    "MORPH": "data.morph",
    "Adience": "data.adience",
    "UTKFace": "data.utkface",
    "FaceCSV": "data.face_csv",
    "Synthetic": "data.synthetic.datamodule",
}
__all__ = sorted(_HOMES)
__version__ = "0.1.0"
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
