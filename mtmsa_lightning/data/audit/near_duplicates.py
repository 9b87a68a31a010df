"""Near-duplicate images: perceptual hashes, and all pairs of hashes at a small distance.

The hash is pHash (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010) with
256 bits: the usual 64 do not distinguish aligned faces. Numbers of pairs, without exact copies, at a distance
of at most d among 5,985 faces of UTKFace at 200 px:

    64 bits     d = 2: 27    4: 46    6: 203    8: 1,343    10: 7,560     (no gap to unrelated faces)
    256 bits    d = 16: 27   24: 33   31: 35    36: 36      40: 38    50: 46    60: 128

Maximum distance of changed copies (300 faces): JPEG of quality 50: 8; half the size: 4; grey: 0; brighter by
a fifth: 22. A crop by 4 % (median 38) and a mirror image (128) are not found.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning._utils.cores import available_cores
from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.settings.defaults import NEAR

HASH_SIZE = 16
WORDS = HASH_SIZE**2 // 64

_CHUNK = 16
"""Rows compared at a time; their distances to all others should fit the processor's cache."""

Hashes = NDArray[np.uint64]


def perceptual_hash(image: Image) -> Hashes:
    """Return the 256-bit pHash of an RGB image, shape (4,)."""
    import imagehash
    from PIL.Image import fromarray

    bits = imagehash.phash(fromarray(image), hash_size=HASH_SIZE).hash
    return np.packbits(bits).view(np.uint64)


def near_pairs(hashes: Hashes, limit: int = NEAR) -> NDArray[np.int64]:
    """Find all pairs of hashes at a Hamming distance of at most ``limit`` bits; none is missed.

    Args:
        hashes: Shape (N, 4).
        limit: Maximum distance.

    Returns:
        First row, second row (greater than the first) and distance of every pair, shape (pairs, 3), nearest
        first.
    """
    first, second = (np.ascontiguousarray(hashes[:, word]) for word in range(2))

    def compare(start: int) -> NDArray[np.int64]:
        rows = slice(start, start + _CHUNK)
        # the first half of the bits rules out nearly all pairs
        half = np.bitwise_count(first[rows, None] ^ first[None, start:])
        half += np.bitwise_count(second[rows, None] ^ second[None, start:])
        left, right = np.nonzero(half <= limit)
        left, right = left[left < right] + start, right[left < right] + start
        distance = np.bitwise_count(hashes[left] ^ hashes[right]).sum(axis=1, dtype=np.int64)
        near = distance <= limit
        return np.column_stack([left[near], right[near], distance[near]])

    with ThreadPoolExecutor(available_cores()) as pool:
        found = pool.map(compare, range(0, len(hashes), _CHUNK))
        pairs = np.concatenate([np.empty((0, 3), np.int64), *found])
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0], pairs[:, 2]))]
