"""Hashes of the training and validation faces, recorded in checkpoints."""

import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from mtmsa_lightning.data.face_dataset import FaceDataset
from mtmsa_lightning.data.files import hash_files, hash_ids

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from mtmsa_lightning.data.datamodule import FaceDataModule


UNREADABLE = 0
"""Hash of a file that cannot be read."""


def hash_in_background(data: "FaceDataModule") -> Future[torch.Tensor]:
    """Start hashing the training images in a daemon thread, so that a stopped job can exit at once."""
    if data.hashing is None:
        data.hashing = Future()
        threading.Thread(target=_hash_images, args=(data, data.hashing), daemon=True).start()
    return data.hashing


def _hash_images(data: "FaceDataModule", future: Future[torch.Tensor]) -> None:
    try:
        images = np.concatenate([image_hashes(part) for part in (data.train_dataset, data.val_dataset)])
        # unreadable images all have the same hash and are not trained on
        future.set_result(_tensor(images[images != UNREADABLE]))
    except BaseException as error:
        future.set_exception(error)


def training_hashes(data: "FaceDataModule", wait: bool = True) -> dict[str, torch.Tensor | None]:
    """Return 64-bit hashes of the ids and image files of the training and validation faces.

    Validation faces are included because they choose the checkpoint.

    Args:
        data: The DataModule, after ``setup``.
        wait: Wait until all images are hashed; otherwise ``train_image_hashes`` is None before that.
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
    """Add the hashes of the training images to checkpoints of a run that were saved without them."""
    for file in _saved_files(trainer):
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError:  # not a checkpoint of this package
            continue
        provenance = checkpoint.get("provenance") or {}
        if provenance.get("train_image_hashes", ()) is None:
            checkpoint["provenance"] = provenance | training_hashes(data)
            trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, file)


def _saved_files(trainer: "Trainer") -> Iterator[Path]:
    from lightning.pytorch.callbacks import ModelCheckpoint  # slow to import

    savers = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    paths = [[*saver.best_k_models, saver.best_model_path, saver.last_model_path] for saver in savers]
    for path in dict.fromkeys(path for of_saver in paths for path in of_saver):
        if path and Path(path).is_file():
            yield Path(path)


def image_hashes(dataset: FaceDataset) -> NDArray[np.uint64]:
    """Return the 64-bit hashes of a dataset's image files, from its table if it has them.

    The hash of a file that cannot be read is ``UNREADABLE``.
    """
    if "content" in dataset.table.columns:
        contents = dataset.table["content"]
        return np.array([int(content, 16) if content else UNREADABLE for content in contents], np.uint64)
    return hash_files([dataset.path(index) for index in range(len(dataset))], unreadable=UNREADABLE)


def _tensor(hashes: NDArray[np.uint64]) -> torch.Tensor:
    """Return hashes as int64: unsigned 64-bit tensors are not portable in checkpoints."""
    return torch.from_numpy(hashes.view(np.int64).copy())
