"""Facial age estimation with multi-task multi-scale attention, in PyTorch Lightning.

Public names are listed in ``__init__.pyi`` and imported on first use. Importing the package, or a part of it
that needs only torch, imports neither Lightning nor wandb nor albumentations.
"""

import lazy_loader

import mtmsa_lightning._utils.onnx_runtime  # before ONNX Runtime is imported
import mtmsa_lightning._utils.opencv_limit  # noqa: F401  # before OpenCV is imported

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
