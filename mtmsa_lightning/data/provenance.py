"""What a checkpoint was trained on, and the refusal to test it on the same faces."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtmsa_lightning.data.dataset import FaceDataset
from mtmsa_lightning.data.files import hash_files, hash_ids
from mtmsa_lightning.data.prepared import preparation
from mtmsa_lightning.errors import DataError

if TYPE_CHECKING:
    from mtmsa_lightning.data.datamodule import FaceDataModule

log = logging.getLogger(__name__)

UNREADABLE = 0
"""Stands for the hash of a file that cannot be read."""


ADVICE = {
    "test": "Test on a part that was held out, or pass --allow_overlap true (in Python: "
    "model.allow_overlap = True).",
    "calibration": "Calibrate on faces that were held out in training (data.calibration_fraction), or on the "
    "validation part (--part val), which then also chose the checkpoint.",
}
"""What to do about faces that were trained on, by part."""


class OverlapError(DataError):
    """Faces that the checkpoint was trained on, where it must not know them."""


def describe_crop(crop: float, preparation: dict[str, Any] | None) -> str:
    """Say which part of an image is used.

    Args:
        crop: Side of the central square, as a fraction of the shorter side.
        preparation: How a prepared set was made, as provenance records it; None for raw photos.
    """
    used = f"central square of {100 * crop:.0f} % of the shorter side"
    prepared = (preparation or {}).get("crop")
    return (
        f"{used} of faces as `mtmsa prepare --margin {prepared['margin']:g}` crops them" if prepared else used
    )


def hash_in_background(data: "FaceDataModule") -> Future[dict[str, torch.Tensor]]:
    """Start hashing what will be learnt from, while training starts; the first checkpoint waits for it."""
    if data.hashing is None:
        pool = ThreadPoolExecutor(1, thread_name_prefix="training-hashes")
        data.hashing = pool.submit(_training_hashes, data)
        pool.shutdown(wait=False)
    return data.hashing


def training_hashes(data: "FaceDataModule") -> dict[str, torch.Tensor]:
    """Return 64-bit hashes of the ids and of the image bytes that are learnt from or selected by.

    Validation faces count as training faces: they choose the checkpoint.
    """
    return hash_in_background(data).result()


def _training_hashes(data: "FaceDataModule") -> dict[str, torch.Tensor]:
    parts = [data.train_dataset, data.val_dataset]
    ids = np.concatenate([hash_ids(part.table["id"].tolist()) for part in parts])
    images = np.concatenate([image_hashes(part) for part in parts])
    images = images[images != UNREADABLE]  # nothing is learnt from them, and they equal each other
    return {"train_id_hashes": _tensor(ids), "train_image_hashes": _tensor(images)}


def check_overlap(
    provenance: Mapping[str, Any],
    data: "FaceDataModule",
    force: bool = False,
    part: str = "test",
    own: bool = True,
    fold: int | None = None,
) -> list[str]:
    """Refuse a part that shares ids or image bytes with what a checkpoint's weights were trained on.

    That is the checkpoint's own training set, and those of the networks that its weights started from.
    Equal bytes within a split that was trained on are a property of the release (a picture that stands in it
    twice): they are warned about, with their number.

    Args:
        provenance: The checkpoint's record.
        data: The DataModule of which a part is about to be used.
        force: Warn instead.
        part: The part.
        own: Compare with the checkpoint's own training set too.
        fold: Fold of which the part is taken; by default the one that the data is set up for.

    Returns:
        What overlaps although it is allowed, one sentence each.

    Raises:
        OverlapError: If faces overlap, naming how many and the first few.
    """
    origins = [each for each in _ORIGINS if f"{each}_id_hashes" in provenance and (own or each != "train")]
    if not origins:
        return []
    split = data.split if fold is None else data.split_of(fold)
    faces: FaceDataset = getattr(data, f"{part}_dataset") if fold is None else data.dataset_of(split, part)
    ids = faces.table["id"].tolist()
    id_hashes = hash_ids(ids)
    known = {each: _overlap(id_hashes, provenance[f"{each}_id_hashes"]) for each in origins}
    advice = ADVICE.get(part, "Choose a part that was held out.")
    told = [
        _complain(
            ids, found, f"of {len(ids)} {part} faces were trained on by {_ORIGINS[each]}", advice, force
        )
        for each, found in known.items()
    ]
    images, seen = image_hashes(faces), np.logical_or.reduce([*known.values()])
    for each in origins:
        copies = _overlap(images, provenance[f"{each}_image_hashes"]) & ~seen
        what = f"of {len(ids)} {part} faces have equal bytes as training images of {_ORIGINS[each]}"
        same = any(
            training.get("fingerprints") == split.fingerprints for training in _trainings(provenance, each)
        )
        told.append(_complain(ids, copies, what, advice, force or same))
    return [text for text in told if text]


_ORIGINS = {
    "train": "this checkpoint",
    "earlier": "a network that its weights started from",
}
"""Whose training faces a checkpoint knows, by the first part of the name of their hashes."""


def _trainings(provenance: Mapping[str, Any], origin: str) -> list[Mapping[str, Any]]:
    return [provenance] if origin == "train" else provenance["earlier"]


def preprocessing_of(data: "FaceDataModule") -> dict[str, Any]:
    """Return how a DataModule's faces reach the network, as :func:`say_preprocessing` compares it."""
    return {"image_size": data.image_size, "crop": data.crop, "preparation": preparation(data.root)}


def say_preprocessing(trained: dict[str, Any], used: dict[str, Any], where: str) -> None:
    """Warn where faces reach a network otherwise than in its training.

    Args:
        trained: A checkpoint's record: ``image_size`` in pixels, ``crop`` as a fraction, and ``preparation``,
            how a prepared set was made or None for images as they are; what is not in it is not compared.
        used: The same of the faces that the network is about to be given.
        where: What holds these faces.
    """
    for key, told in _PREPROCESSING.items():
        if key in trained and told(trained[key]) != told(used[key]):
            log.warning(
                "the checkpoint was trained on %s, but %s holds %s",
                told(trained[key]),
                where,
                told(used[key]),
            )


def _alignment(made: dict[str, Any] | None) -> str:
    """Say how faces were cropped, as far as it decides what a network sees."""
    if made is None:
        return "images as they are"
    crop = made.get("crop", {})
    search = "found by a detector" if isinstance(crop.get("detector"), dict) else "placed without a detector"
    return f"faces {search}, `mtmsa prepare --margin {crop.get('margin')}`"


_PREPROCESSING: dict[str, Callable[[Any], str]] = {
    "image_size": lambda side: f"faces of {side} px (data.image_size)",
    "crop": lambda crop: f"the central {100 * crop:.0f} % of its images (data.crop)",
    "preparation": _alignment,
}


def _complain(ids: list[str], found: NDArray[np.bool_], what: str, advice: str, pardoned: bool) -> str | None:
    """Raise, or warn and return the sentence, where faces were found."""
    if not found.any():
        return None
    shown = ", ".join(np.asarray(ids)[found][:5]) + (", ..." if found.sum() > 5 else "")
    text = f"{found.sum()} {what}"
    if not pardoned:
        raise OverlapError(f"{text}: {shown}\n{advice}")
    log.warning("%s: %s", text, shown)
    return text


def image_hashes(dataset: FaceDataset) -> NDArray[np.uint64]:
    """Return the 64-bit hashes of a dataset's image files, from its table where they are known.

    A file that cannot be read has the hash ``UNREADABLE``.
    """
    if "content" in dataset.table.columns:
        contents = dataset.table["content"]
        return np.array([int(content, 16) if content else UNREADABLE for content in contents], np.uint64)
    return hash_files([dataset.path(index) for index in range(len(dataset))], unreadable=UNREADABLE)


def _overlap(hashes: NDArray[np.uint64], known: torch.Tensor) -> NDArray[np.bool_]:
    return np.isin(hashes, known.numpy().view(np.uint64))


def _tensor(hashes: NDArray[np.uint64]) -> torch.Tensor:
    """64-bit hashes as int64, since checkpoints hold no unsigned 64-bit tensors portably."""
    return torch.from_numpy(hashes.view(np.int64).copy())
