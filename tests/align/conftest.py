import numpy as np
import pytest
import skimage.data

from mtmsa_lightning.align.tiny_retinaface import TinyRetinaFace


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """An astronaut by NASA, in the public domain, 512 x 512 pixels, from scikit-image's wheel."""
    return skimage.data.astronaut()


@pytest.fixture(scope="session")
def detector() -> TinyRetinaFace:
    return TinyRetinaFace()
