"""Merging of the shards of a prepared set."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.file_access import find_normalised
from mtmsa_lightning._utils.folders import locked
from mtmsa_lightning._utils.nested_dicts import differences
from mtmsa_lightning._utils.progress import progress
from mtmsa_lightning.data.prepared.format import SKIPPED, read_description
from mtmsa_lightning.data.prepared.making import (
    check_release,
    check_room,
    claim,
    complete,
    crop_checksum,
    finish,
)
from mtmsa_lightning.errors import DataError

REWRITTEN_KEYS = ("counts", "fingerprints", "versions", "pixels")
"""Keys of the description that are written again for the merged set."""


def merge(shards: Sequence[Path], out: Path, pixels: bool = True, overwrite: bool = False) -> dict[str, Any]:
    """Merge all shards of a set; table and crops equal those of a set made without shards, byte for byte.

    Crops are hard-linked if possible. A killed merge continues when it is run again.

    Args:
        shards: Folders of the shards, in any order, each once; they are not changed.
        out: Folder of the merged set: new, empty, or from an interrupted merge of these shards.
        pixels: Write ``pixels.npy`` too.
        overwrite: Remove the set at ``out`` first.

    Returns:
        The set's description.

    Raises:
        DataError: Shards are missing, repeated, or differ in release or options; a crop is damaged; or
            ``out`` holds something else.
    """
    for shard in shards:
        if not shard.is_dir():
            raise DataError(f"{shard}: no such folder: `mtmsa prepare ... --shard I/N` makes one")
    records = [read_description(shard) for shard in shards]
    whole = _whole(shards, records)
    with locked(out, "mtmsa prepare"):
        if claim(out, whole["options"], overwrite):
            check_release(out, whole["release"]["fingerprint"])
            return complete(out, pixels)
        frame, skipped = _joined(shards, records)
        if pixels:
            check_room(out, len(frame), whole["options"]["size"])
        with progress("crops", len(frame)) as advance:
            for shard, path, checksum in frame[["shard", "path", "crop_sha256"]].to_numpy().tolist():
                _copy_crop(shards[shard] / path, out / path, checksum)
                advance(1)
        return finish(whole, frame.drop(columns="shard"), skipped, out, pixels)


def _whole(shards: Sequence[Path], records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the description of the merged set after checking that the shards are complete."""
    marks = [record.get("options", {}).get("shard") for record in records]
    for shard, mark in zip(shards, marks, strict=True):
        if not mark:
            raise DataError(f"{shard}: is not a shard: only sets made with --shard i/n can be merged")
    wholes = [_without_shard(record) for record in records]
    for shard, other in zip(shards, wholes, strict=True):
        differing = differences(wholes[0], other)
        if differing:
            raise DataError(f"{shard} does not belong to {shards[0]}: {'; '.join(differing[:5])}")
    number = int(marks[0].split("/")[1])
    wanted = [f"{index}/{number}" for index in range(1, number + 1)]
    missing, extra = set(wanted) - set(marks), len(marks) - len(set(marks))
    if missing or extra:
        shown = ", ".join(mark for mark in wanted if mark in missing) or "none"
        raise DataError(f"shards missing: {shown}; given twice: {extra}; give each of {number} once")
    return wholes[0]


def _without_shard(record: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in record.items() if key not in REWRITTEN_KEYS}
    return kept | {"options": record["options"] | {"shard": None}}


def _joined(shards: Sequence[Path], records: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the merged table, with the shard's number as column, and the list of skipped images."""
    frames = [
        pd.read_parquet(shard / record["table"]).assign(shard=number)
        for number, (shard, record) in enumerate(zip(shards, records, strict=True))
    ]
    lists = [
        pd.read_csv(shard / SKIPPED, dtype={"position": "int64"}, keep_default_na=False) for shard in shards
    ]
    frame, skipped = (
        pd.concat(parts, ignore_index=True).sort_values("position", ignore_index=True)
        for parts in (frames, lists)
    )
    return frame, skipped


def _copy_crop(source: Path, target: Path, checksum: str) -> None:
    """Link or copy a crop to the merged set atomically."""
    if crop_checksum(target) == checksum:
        return
    source = find_normalised(source)
    if crop_checksum(source) != checksum:
        raise DataError(f"{source}: missing or damaged: make that shard again, or copy it again")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:  # another disk
        shutil.copyfile(source, partial)
    partial.replace(target)
