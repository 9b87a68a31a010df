"""Faces for the comparison of an export: given ones, those of the checkpoint's run, or synthetic ones."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtmsa_lightning._utils.images import Image, UnreadableImageError
from mtmsa_lightning.data.augment.cpu import FaceTransform
from mtmsa_lightning.data.synthetic.drawing import draw_face
from mtmsa_lightning.data.synthetic.subjects import draw_subject
from mtmsa_lightning.errors import ConfigError, MTMSAError
from mtmsa_lightning.inference.inputs import find_inputs
from mtmsa_lightning.labels import GENDERS, RACES
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.ensemble import Ensemble

log = logging.getLogger(__name__)


def drawn_faces(model: MTMSA | Ensemble, count: int) -> Tensor:
    """Return synthetic faces of all ages, always the same, ``(count, 3, image_size, image_size)``."""
    transform = FaceTransform(model.image_size, model.crop)
    rng = np.random.default_rng(0)
    faces = []
    for number in range(count):
        subject = draw_subject(rng, GENDERS[number % 2], RACES[number % len(RACES)])
        faces.append(transform(draw_face(subject, 90 * number / count, number)))
    return _batch(faces)


def faces_of(model: MTMSA | Ensemble, paths: Sequence[Path], count: int) -> Tensor:
    """Return up to ``count`` faces of files, folders and prepared sets, spread evenly.

    Raises:
        DataError: A path does not exist.
        ConfigError: No face can be read.
    """
    inputs, transform = find_inputs(paths), FaceTransform(model.image_size, model.crop)

    def face(row: int) -> Image | None:
        try:
            return transform(inputs[row].read())
        except UnreadableImageError:
            return None

    return _spread(face, len(inputs), count)


def faces_of_run(model: MTMSA | Ensemble, ckpt_path: str, count: int) -> Tensor:
    """Return up to ``count`` faces of the validation part of a run; raise ConfigError without one."""
    from mtmsa_lightning.training.calibrating import datamodule_of

    log.info("int8 needs the ranges of activations: they are taken from the validation part of the run")
    try:
        data = datamodule_of(ckpt_path, [])
        data.prepare_data()
        data.setup("validate")
    except MTMSAError as error:
        raise ConfigError(
            f"real faces are needed: give --images PATH, cropped as in training ({error})"
        ) from error

    def read(row: int) -> Image | None:
        sample = data.val_dataset[row]
        return None if sample["error"] else sample["image"]

    return _spread(read, len(data.val_dataset), count)


def _spread(face: Callable[[int], Image | None], total: int, count: int) -> Tensor:
    """Return readable faces at equal distances; ``face`` returns one, or None if it is unreadable."""
    rows = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)).tolist()
    faces = [image for image in map(face, rows) if image is not None]
    if not faces:
        raise ConfigError("none of the images can be read: give others with --images")
    return _batch(faces)


def _batch(faces: Sequence[Image]) -> Tensor:
    return torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).contiguous()
