"""An augmentation of training faces."""

import numpy as np
from numpy.typing import NDArray


class Fog:
    """Blend a face with white, by a random amount.

    Random numbers come from NumPy's global state, which is set for every face, so that a run can be repeated.

    Args:
        most: Largest amount of white, in [0, 1].
    """

    def __init__(self, most: float = 0.5) -> None:
        self.most = most

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the face, RGB, shape (height, width, 3); any size is allowed."""
        amount = np.random.uniform(0, self.most)  # noqa: NPY002  # the state that is set
        return (image * (1 - amount) + 255 * amount).astype(np.uint8)
