"""What a checkpoint was trained on, and the refusal to test it on the same faces."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtmsa_lightning.data.dataset import FaceDataset
from mtmsa_lightning.data.files import hash_ids
from mtmsa_lightning.data.training_hashes import image_hashes
from mtmsa_lightning.errors import DataError

if TYPE_CHECKING:
    from mtmsa_lightning.data.datamodule import FaceDataModule

log = logging.getLogger(__name__)


ADVICE = {
    "test": "Test on a part that was held out, or pass --allow_overlap true (in Python: "
    "model.allow_overlap = True).",
    "calibrated test": "Metrics before and after calibration are taken on test faces: choose a split whose "
    "test part was held out, by --config or --data.fold, --data.seed.",
    "calibration": "Calibrate on faces that were held out in training (data.calibration_fraction), or on the "
    "validation part (--part val), which then also chose the checkpoint.",
}
"""What to do about faces that were trained on, by part."""


class OverlapError(DataError):
    """Faces that the checkpoint was trained on, where it must not know them."""


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


def _overlap(hashes: NDArray[np.uint64], known: torch.Tensor) -> NDArray[np.bool_]:
    return np.isin(hashes, known.numpy().view(np.uint64))
