"""Datasets of changed photos."""

from hashlib import blake2b

from mtmsa_lightning.data.augment.cpu import FaceTransform
from mtmsa_lightning.data.face_dataset import FaceDataset
from mtmsa_lightning.data.stress.changes import AppliedStress, Stress


def stressed(dataset: FaceDataset, stress: Stress, severity: int, margin: float, seed: int) -> FaceDataset:
    """Return a dataset with the same faces, changed before they are resized to the network's input.

    A changed face depends on ``(seed, name of the change, severity, row)`` only, its random choices not on
    the severity.

    Args:
        dataset: Faces without augmentation.
        stress: The change.
        severity: Its severity, from 1.
        margin: Margin of the canonical crops.
        seed: Seed of the random choices.
    """
    transform = dataset.transform
    changed = FaceTransform(transform.image_size, transform.crop, AppliedStress(stress, severity, margin))
    own = int.from_bytes(blake2b(f"{seed}|{stress.name}".encode(), digest_size=4).digest(), "little")
    return FaceDataset(dataset.table, dataset.root, changed, own, dataset.pixels)
