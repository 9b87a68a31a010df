"""Random states that are set for every sample, so that pixels do not depend on worker, rank or order."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Hash three integers to a 32-bit seed, equal on every platform."""
    digest = blake2b(f"{seed}|{epoch}|{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def set_random_state(pipeline: Any, seed: int) -> None:
    """Set the random state of an albumentations pipeline."""
    # its own `set_random_seed` seeds every step equally: mirrored images would also be rotated
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))


@contextmanager
def global_random_states(seed: int) -> Iterator[None]:
    """Seed the global states of Python, NumPy and torch (CPU), and restore them afterwards."""
    import torch  # slow; prediction crops faces without it

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
