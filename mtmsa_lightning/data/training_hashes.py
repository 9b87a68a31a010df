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

from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.data.face_dataset import FaceDataset
from mtmsa_lightning.data.joined_dataset import JoinedDataset
from mtmsa_lightning.data.release_files import hash_files, hash_ids

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from mtmsa_lightning.data.datamodule import FaceDataModule


def hash_in_background(data: "FaceDataModule") -> Future[torch.Tensor]:
    """Start hashing the training images in a daemon thread, so that a stopped job can exit at once."""
    if data.hashing is None:
        data.hashing = Future()
        threading.Thread(target=_hash_images, args=(data, data.hashing), daemon=True).start()
    return data.hashing


def _hash_images(data: "FaceDataModule", future: Future[torch.Tensor]) -> None:
    try:
        images = np.concatenate([image_hashes(part) for part in (data.train_dataset, data.val_dataset)])
        future.set_result(_tensor(images[images != 0]))  # unreadable images are not trained on
    except BaseException as error:
        future.set_exception(error)


def training_hashes(data: "FaceDataModule", wait: bool = True) -> dict[str, torch.Tensor | None]:
    """Return 64-bit hashes of the ids and image files of the training and validation faces.

    Validation faces choose the checkpoint. Without ``wait``, ``train_image_hashes`` is None until all images
    are hashed.
    """
    ids = [name for part in (data.train_dataset, data.val_dataset) for name in part.table["id"]]
    images = hash_in_background(data)
    return {
        "train_id_hashes": _tensor(hash_ids(ids)),
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

    paths: dict[str, None] = {}  # each once
    for saver in trainer.checkpoint_callbacks:
        if isinstance(saver, ModelCheckpoint):
            paths |= dict.fromkeys([*saver.best_k_models, saver.best_model_path, saver.last_model_path])
    yield from (Path(path) for path in paths if path and Path(path).is_file())


def image_hashes(dataset: FaceDataset) -> NDArray[np.uint64]:
    """Return the 64-bit hashes of a dataset's image files; 0 for a file that cannot be read.

    All faces of one photo have its hash, because another dataset may have other boxes, or none: in a table
    with boxes ``content`` is of the face, and not used here.
    """
    if isinstance(dataset, JoinedDataset):
        known = dataset.hashes
        return np.concatenate([image_hashes(part) for part in dataset.parts]) if known is None else known
    if "content" in dataset.table.columns and not set(BOX) <= set(dataset.table.columns):
        return np.array([int(content or "0", 16) for content in dataset.table["content"]], np.uint64)
    return hash_files([dataset.path(index) for index in range(len(dataset))])


def _tensor(hashes: NDArray[np.uint64]) -> torch.Tensor:
    """Return hashes as int64: unsigned 64-bit tensors are not portable in checkpoints."""
    return torch.from_numpy(hashes.view(np.int64).copy())
