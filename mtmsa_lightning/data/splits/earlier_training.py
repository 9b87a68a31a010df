"""Records of the earlier trainings of a network's initial weights.

A training that starts from a network records its trainings under ``earlier``, oldest first, and the hashes of
their training and validation faces in ``earlier_id_hashes`` and ``earlier_image_hashes``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mtmsa_lightning._utils.file_access import file_sha256
from mtmsa_lightning._utils.text import pluralize

EARLIER = ("earlier", "earlier_id_hashes", "earlier_image_hashes")
"""Keys of a checkpoint's provenance with the records of earlier trainings."""

IMAGENET = "ImageNet-1k"
_IMAGENET_SHA256 = ("f37072fd", "b627a593", "0676ba61", "11ad3fa6")
"""Prefixes of the SHA-256 of torchvision's weights of ResNet-18, -34 and -50 (two)."""

_NAMES = (
    "dataset", "protocol", "fold", "split_seed", "split_file", "label_rule", "cleaning", "labels", "faces",
    "fingerprints", "seed",
)  # fmt: skip


def of_network(
    provenance: Mapping[str, Any] | None, weights: str | None, fingerprints: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the record of a training that starts from a network of this package.

    Args:
        provenance: Provenance of that network; None or empty if unknown.
        weights: Path of the network; only its name is recorded.
        fingerprints: Fingerprints of the split of the new training. If the network was trained on the same
            split, its hashes are not added: the new training records them itself.
    """
    known = provenance or {}
    own = {key: known[key] for key in _NAMES if key in known}
    own |= {"weights": weights and Path(weights).name, "hashed": "train_id_hashes" in known}
    record: dict[str, Any] = {"earlier": [*known.get("earlier", []), own]}
    same_split = fingerprints is not None and own.get("fingerprints") == dict(fingerprints)
    for kind in ("id", "image"):
        origins = ("earlier",) if same_split else ("train", "earlier")
        found = [known[key] for key in (f"{each}_{kind}_hashes" for each in origins) if key in known]
        if found:
            # None: a checkpoint that was saved before its images were hashed
            complete = all(each is not None for each in found)
            record[f"earlier_{kind}_hashes"] = torch.unique(torch.cat(found)) if complete else None
    return record


def with_teachers(
    record: Mapping[str, Any],
    teachers: Mapping[str, Mapping[str, Any] | None],
    fingerprints: Mapping[str, str],
) -> dict[str, Any]:
    """Return a record of earlier trainings with those of the networks that a training learns from.

    ``teachers`` are their provenances by path.
    """
    joined = dict(record)
    for path, provenance in teachers.items():
        more = of_network(provenance, path, fingerprints)
        trainings = [each | {"role": "teacher"} for each in more["earlier"]]
        joined["earlier"] = [*joined.get("earlier", []), *trainings]
        for key in EARLIER[1:]:
            if key in more:
                parts = [each[key] for each in (joined, more) if key in each]
                complete = all(part is not None for part in parts)
                joined[key] = torch.unique(torch.cat(parts)) if complete else None
    return joined


def of_imagenet(weights: str) -> dict[str, Any]:
    """Return the record of a training that starts from published weights of a library."""
    return {"earlier": [{"dataset": IMAGENET, "weights": weights, "hashed": False}]}


def of_file(file: Path) -> dict[str, Any]:
    """Return the record of a training that starts from a weight file without provenance."""
    digest = file_sha256(file)
    dataset = IMAGENET if digest.startswith(_IMAGENET_SHA256) else None
    return {"earlier": [{"dataset": dataset, "weights": file.name, "sha256": digest, "hashed": False}]}


def inherited(provenance: Mapping[str, Any], fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Return the record of a training that continues with a loaded network.

    No earlier training is added if both have the same split, by its fingerprints.
    """
    if provenance.get("fingerprints") == dict(fingerprints):
        return {key: provenance[key] for key in EARLIER if key in provenance}
    return of_network(provenance, None)


def describe(training: Mapping[str, Any]) -> str:
    """Describe one earlier training in one line."""
    if training.get("dataset") is None:
        text = "data that is not recorded"
    elif "protocol" in training:
        text = f"{training['dataset']}, {training['protocol']}, fold {training['fold']}"
        text += f", split seed {training['split_seed']}" if "split_seed" in training else ""
        faces = (training.get("faces") or {}).get("train")
        text += "" if faces is None else f", {pluralize(faces, 'face')}"
        text += f", split fingerprint (train) {training['fingerprints']['train']}"
    else:
        text = str(training["dataset"])
    details = ["of a teacher"] if training.get("role") == "teacher" else []
    details += [f"weights {training['weights']}"] if training.get("weights") else []
    details += [f"SHA-256 {training['sha256']}"] if "sha256" in training else []
    if not training.get("hashed") and training.get("dataset") != IMAGENET:
        details.append("its faces are not recorded, so that an overlap cannot be found")
    return f"{text} ({'; '.join(details)})" if details else text
