"""Check that test and calibration faces were not used to train a checkpoint."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtmsa_lightning.data.face_dataset import FaceDataset
from mtmsa_lightning.data.release_files import hash_ids
from mtmsa_lightning.data.training_hashes import image_hashes
from mtmsa_lightning.errors import DataError

if TYPE_CHECKING:
    from mtmsa_lightning.data.datamodule import FaceDataModule

log = logging.getLogger(__name__)

ADVICE = {
    "test": "Test on a part that was held out, or pass --allow_overlap true (in Python: "
    "model.allow_overlap = True).",
    "calibrated test": "Metrics of a calibration are computed on test faces: choose a split whose "
    "test part was held out, by --config or --data.fold, --data.seed.",
    "calibration": "Calibrate on faces that were held out in training (data.calibration_fraction), or on the "
    "validation part (--part val), which then also chose the checkpoint.",
}
"""Advice in the error message, by part."""


class OverlapError(DataError):
    """A part contains faces that the checkpoint was trained on."""


def check_overlap(
    provenance: Mapping[str, Any],
    data: "FaceDataModule",
    force: bool = False,
    part: str = "test",
    own: bool = True,
    fold: int | None = None,
    calibrating: bool = False,
) -> list[str]:
    """Raise an error if a part shares ids or image files with the training faces of a checkpoint.

    The training faces are those of the checkpoint, of the networks that its weights started from, and of its
    teachers. Equal files within one split are a property of the release, and only cause a warning.

    Args:
        provenance: Provenance of the checkpoint.
        data: The DataModule with the part.
        force: Warn instead of raising an error.
        part: Name of the part.
        own: Compare with the checkpoint's own training faces too.
        fold: Fold of the part; by default that of the DataModule.
        calibrating: Use the advice for calibration, which has no ``--allow_overlap``.

    Returns:
        A warning for each allowed overlap.

    Raises:
        OverlapError: If faces overlap; the message has their number and the first few ids.
    """
    origins = [each for each in _ORIGINS if f"{each}_id_hashes" in provenance and (own or each != "train")]
    if not origins:
        return []
    split = data.split if fold is None else data.split_of(fold)
    faces: FaceDataset = getattr(data, f"{part}_dataset") if fold is None else data.dataset_of(split, part)
    ids = faces.table["id"].tolist()
    id_hashes = hash_ids(ids)
    known = {each: np.isin(id_hashes, _unsigned(provenance[f"{each}_id_hashes"])) for each in origins}
    by_part = ADVICE.get(part, "Choose a part that was held out.")
    advice = ADVICE.get(f"calibrated {part}", by_part) if calibrating else by_part
    faces_of = f"of {len(ids)} {part} faces"
    warnings = [
        _raise_or_warn(ids, found, f"{faces_of} were trained on by {_ORIGINS[each]}", advice, force)
        for each, found in known.items()
    ]
    images, seen = image_hashes(faces), np.logical_or.reduce([*known.values()])
    for each in origins:
        trainings = [provenance] if each == "train" else provenance["earlier"]
        same = any(training.get("fingerprints") == split.fingerprints for training in trainings)
        hashes = provenance[f"{each}_image_hashes"]
        if hashes is None:
            warnings.append(_raise_or_warn_unknown(_ORIGINS[each], part, force or same, calibrating))
            continue
        copies = np.isin(images, _unsigned(hashes)) & ~seen
        what = f"{faces_of} have the same bytes as training images of {_ORIGINS[each]}"
        warnings.append(_raise_or_warn(ids, copies, what, advice, force or same))
    return [text for text in warnings if text]


_ORIGINS = {
    "train": "this checkpoint",
    "earlier": "a network that its weights started from, or a teacher",
}
"""Networks with recorded training faces, by the prefix of the keys of their hashes."""


def _raise_or_warn(
    ids: list[str], found: NDArray[np.bool_], what: str, advice: str, allowed: bool
) -> str | None:
    """Raise an error, or warn and return the warning, if faces were found."""
    if not found.any():
        return None
    shown = ", ".join(np.asarray(ids)[found][:5]) + (", ..." if found.sum() > 5 else "")
    text = f"{found.sum()} {what}"
    if not allowed:
        raise OverlapError(f"{text}: {shown}\n{advice}")
    log.warning("%s: %s", text, shown)
    return text


def _raise_or_warn_unknown(network: str, part: str, allowed: bool, calibrating: bool) -> str:
    """Raise an error, or warn and return the warning, if a checkpoint has no hashes of its images."""
    text = (
        f"whether {part} faces are copies of training images of {network} is not known: it was saved before "
        "these were hashed"
    )
    if not allowed:
        alternative = "" if calibrating else ", or pass --allow_overlap true"
        raise OverlapError(f"{text}\nContinue its training to the end{alternative}.")
    log.warning("%s", text)
    return text


def _unsigned(hashes: torch.Tensor) -> NDArray[np.uint64]:
    return hashes.numpy().view(np.uint64)
