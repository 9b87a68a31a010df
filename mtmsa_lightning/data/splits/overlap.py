"""What a checkpoint was trained on, and the refusal to test it on the same faces."""

import logging
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtmsa_lightning.data.dataset import FaceDataset
from mtmsa_lightning.data.files import hash_files, hash_ids
from mtmsa_lightning.data.prepared.format import preparation
from mtmsa_lightning.errors import DataError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from mtmsa_lightning.data.datamodule import FaceDataModule

log = logging.getLogger(__name__)

UNREADABLE = 0
"""Stands for the hash of a file that cannot be read."""

ADVICE = {
    "test": "Test on a part that was held out, or pass --allow_overlap true (in Python: "
    "model.allow_overlap = True).",
    "calibrated test": "Figures before and after calibration are taken on test faces: choose a split whose "
    "test part was held out, by --config or --data.fold, --data.seed.",
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


def hash_in_background(data: "FaceDataModule") -> Future[torch.Tensor]:
    """Start hashing the images that are learnt from, in a thread that the end of the process does not await.

    A job that is stopped has little time: neither its checkpoint nor its exit waits for the images.
    """
    if data.hashing is None:
        data.hashing = Future()
        threading.Thread(target=_hash_images, args=(data, data.hashing), daemon=True).start()
    return data.hashing


def _hash_images(data: "FaceDataModule", future: Future[torch.Tensor]) -> None:
    try:
        images = np.concatenate([image_hashes(part) for part in (data.train_dataset, data.val_dataset)])
        # nothing is learnt from unreadable images, and they equal each other
        future.set_result(_tensor(images[images != UNREADABLE]))
    except BaseException as error:
        future.set_exception(error)


def training_hashes(data: "FaceDataModule", wait: bool = True) -> dict[str, torch.Tensor | None]:
    """Return 64-bit hashes of the ids and of the image bytes that are learnt from or selected by.

    Validation faces count as training faces: they choose the checkpoint.

    Args:
        data: The DataModule, set up.
        wait: Wait until all images are hashed; else ``train_image_hashes`` is None before that.
    """
    ids = np.concatenate(
        [hash_ids(part.table["id"].tolist()) for part in (data.train_dataset, data.val_dataset)]
    )
    images = hash_in_background(data)
    return {
        "train_id_hashes": _tensor(ids),
        "train_image_hashes": images.result() if wait or images.done() else None,
    }


def complete_checkpoints(trainer: "Trainer", data: "FaceDataModule") -> None:
    """Add the hashes of the training images to a run's checkpoints that were saved before they were known."""
    for file in _saved_files(trainer):
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError:  # it holds what this package neither saves nor loads
            continue
        provenance = checkpoint.get("provenance") or {}
        if provenance.get("train_image_hashes", ()) is None:
            checkpoint["provenance"] = provenance | training_hashes(data)
            trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, file)


def _saved_files(trainer: "Trainer") -> Iterator[Path]:
    from lightning.pytorch.callbacks import ModelCheckpoint  # slow to import, and needed here alone

    savers = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    paths = [[*saver.best_k_models, saver.best_model_path, saver.last_model_path] for saver in savers]
    for path in dict.fromkeys(path for of_saver in paths for path in of_saver):
        if path and Path(path).is_file():
            yield Path(path)


def check_overlap(
    provenance: Mapping[str, Any],
    data: "FaceDataModule",
    force: bool = False,
    part: str = "test",
    own: bool = True,
    fold: int | None = None,
    calibrating: bool = False,
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
        calibrating: Advise on a calibration, which takes no ``--allow_overlap``.

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
    advice = ADVICE.get(f"calibrated {part}" if calibrating else part) or ADVICE.get(
        part, "Choose a part that was held out."
    )
    told = [
        _complain(
            ids, found, f"of {len(ids)} {part} faces were trained on by {_ORIGINS[each]}", advice, force
        )
        for each, found in known.items()
    ]
    images, seen = image_hashes(faces), np.logical_or.reduce([*known.values()])
    for each in origins:
        same = any(
            training.get("fingerprints") == split.fingerprints for training in _trainings(provenance, each)
        )
        hashes = provenance[f"{each}_image_hashes"]
        if hashes is None:
            told.append(_complain_of_ignorance(_ORIGINS[each], part, force or same, calibrating))
            continue
        copies = _overlap(images, hashes) & ~seen
        what = f"of {len(ids)} {part} faces have equal bytes as training images of {_ORIGINS[each]}"
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


def _complain_of_ignorance(network: str, part: str, pardoned: bool, calibrating: bool) -> str:
    """Raise, or warn and return the sentence, where a training was stopped before its images were hashed."""
    text = (
        f"whether {part} faces are copies of training images of {network} is not known: it was saved before "
        "these were hashed"
    )
    if not pardoned:
        otherwise = "" if calibrating else ", or pass --allow_overlap true"
        raise OverlapError(f"{text}\nContinue its training to the end{otherwise}.")
    log.warning("%s", text)
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
