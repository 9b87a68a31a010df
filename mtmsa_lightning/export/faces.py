"""Faces on which an export is tried: the user's, those of the checkpoint's own run, or drawn ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtmsa_lightning.data.dataset import FaceDataset
from mtmsa_lightning.data.folder import FaceFolder
from mtmsa_lightning.data.images import Image
from mtmsa_lightning.data.synthetic.faces import draw_face, draw_subject
from mtmsa_lightning.data.transforms import FaceTransform
from mtmsa_lightning.errors import ConfigError, MTMSAError
from mtmsa_lightning.labels import GENDERS, RACES
from mtmsa_lightning.module import MTMSA


def drawn_faces(model: MTMSA, count: int) -> Tensor:
    """Draw faces of all ages, at the size of a checkpoint's input; the same at every call.

    Returns:
        RGB, uint8, ``(count, 3, image_size, image_size)``.
    """
    transform = FaceTransform(model.image_size, model.crop)
    rng = np.random.default_rng(0)
    faces = []
    for number in range(count):
        subject = draw_subject(rng, GENDERS[number % 2], RACES[number % len(RACES)])
        faces.append(transform(draw_face(subject, 90 * number / count, number)))
    return _batch(faces)


def faces_of(model: MTMSA, paths: Sequence[Path], count: int) -> Tensor:
    """Return up to so many faces of image files and folders, spread evenly, treated as in prediction.

    Raises:
        DataError: If a path does not exist.
        ConfigError: If no face can be read.
    """
    return _spread(FaceFolder(paths, model.image_size, model.crop, num_workers=0).predict_dataset, count)


def faces_of_run(model: MTMSA, ckpt_path: str, count: int) -> Tensor:
    """Return up to so many faces of the validation part of a checkpoint's own run, spread evenly.

    Raises:
        ConfigError: If the run or its data are not there any more.
    """
    from mtmsa_lightning.evaluation.calibrating import datamodule_of

    try:
        data = datamodule_of(ckpt_path, [])
        data.prepare_data()
        data.setup("validate")
    except MTMSAError as error:
        raise ConfigError(
            f"real faces are needed: name some by --faces, cropped as in training ({error})"
        ) from error
    return _spread(data.val_dataset, count)


def _spread(dataset: FaceDataset, count: int) -> Tensor:
    """Return readable faces at equal distances."""
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int))
    samples = [dataset[int(row)] for row in rows]
    faces = [sample["image"] for sample in samples if not sample["fault"]]
    if not faces:
        raise ConfigError("none of the faces can be read: name others by --faces")
    return _batch(faces)


def _batch(faces: Sequence[Image]) -> Tensor:
    return torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).contiguous()
