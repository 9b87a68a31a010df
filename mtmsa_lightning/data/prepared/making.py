"""Making of prepared sets, which can be interrupted and continued.

An unfinished set has no ``dataset.json``. Its folder ``.work`` holds the options (``plan.json``), the records
of finished crops (``parts/``, each written after all of its crops), and the unpacked archive (``release/``).
"""

import importlib.metadata
import logging
import os
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtmsa_lightning._utils.atomic_write import replacing, write_table, write_text
from mtmsa_lightning._utils.file_access import file_sha256, file_state, read_regular
from mtmsa_lightning._utils.folders import LOCK, locked
from mtmsa_lightning._utils.nested_dicts import differences
from mtmsa_lightning._utils.progress import progress
from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.align.box import BOX, box_rows
from mtmsa_lightning.align.canonical import canonical_landmarks
from mtmsa_lightning.align.crop_files import (
    JPEG_QUALITY,
    NO_FACE,
    RECORD_COLUMNS,
    CropJob,
    CropSettings,
    Record,
    crop_batches,
)
from mtmsa_lightning.align.detected_face import LANDMARKS
from mtmsa_lightning.data.face_table import FaceTable
from mtmsa_lightning.data.prepared.format import (
    ALREADY_ALIGNED,
    CROPS,
    FORMAT_VERSION,
    RECORD,
    SKIPPED,
    TABLE,
    is_prepared,
    is_synthetic,
    read_description,
    table_fingerprint,
    write_description,
)
from mtmsa_lightning.data.prepared.pixels import PIXELS, check_space, write_pixels
from mtmsa_lightning.data.release_files import fold_name, hash_lines
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.settings.defaults import MAX_UNREADABLE_PREPARED

log = logging.getLogger(__name__)

WORK = ".work"
RELEASE = f"{WORK}/release"
_PLAN = f"{WORK}/plan.json"
_PARTS = f"{WORK}/parts"
_SOURCES = ".sources"  # state of the images, as a hash: no part of the set, copies differ in it
_PART_SIZE = 64  # faces: about a second of work, which is what a kill can cost a process

_FORBIDDEN = str.maketrans(dict.fromkeys([*'<>:"|?*\\#', *map(chr, range(32))], "_"))
_SHOWN = 10


@dataclass(frozen=True)
class PrepareOptions:
    """Options of a prepared set; a set can only be continued with equal options.

    Attributes:
        release: ``morph``, ``adience``, ``utkface``, ``csv`` or ``folder``.
        crop: Settings of the crops.
        reading: The reader's options.
        shard: Number of this part, from 1, and number of parts.
    """

    release: str
    crop: CropSettings
    reading: dict[str, Any] = field(default_factory=dict)
    shard: tuple[int, int] = (1, 1)

    def record(self) -> dict[str, Any]:
        """Return the options as plain values, named as on the command line."""
        index, number = self.shard
        return {
            "release": self.release,
            "size": self.crop.size,
            "margin": self.crop.margin,
            "detect": self.crop.detect,
            "no_face": "centre" if self.crop.keep_faceless else "drop",
            "smallest_face": self.crop.smallest_face,
            "orientation": self.crop.orientation,
            **self.reading,
            "shard": f"{index}/{number}" if number > 1 else None,
        }


def prepare(
    options: PrepareOptions,
    read: Callable[[Path], FaceTable],
    out: Path,
    workers: int = 1,
    pixels: bool = True,
    overwrite: bool = False,
    max_unreadable: float = MAX_UNREADABLE_PREPARED,
    reread: bool = True,
) -> dict[str, Any]:
    """Make a prepared set, or continue one that was interrupted.

    Args:
        options: Options of the set.
        read: Reads the release; its argument is the folder for an unpacked archive.
        out: Folder of the set: new, empty, or one that was started with equal options.
        workers: Number of processes.
        pixels: Write ``pixels.npy`` too; ignored for shards.
        overwrite: Remove the set at ``out`` first.
        max_unreadable: Maximum fraction of unreadable images.
        reread: Compare a complete set with its release's table, not only with the options.

    Returns:
        The set's description.

    Raises:
        DataError: ``out`` holds something else or a set with other options, the release cannot be read or
            its table has changed, or too many images are unreadable; finished crops are kept.
        ConfigError: The detector is needed and not installed.
    """
    with locked(out, "mtmsa prepare", worthless=(_PLAN,)):
        if claim(out, options.record(), overwrite):
            if reread:
                _check_unchanged(out, read(out / RELEASE), options.shard)
            return complete(out, pixels)
        detector = options.crop.cropper().detector  # before long work: it may not be installed
        identity = None if detector is None else detector.identity
        table = read(out / RELEASE)
        _note_release(out, table)
        positions = range(options.shard[0] - 1, len(table), options.shard[1])
        if not positions:
            shard, faces = f"shard {options.shard[0]} of {options.shard[1]}", pluralize(len(table), "face")
            raise DataError(f"{shard}: the release has {faces}")
        names = crop_names(table.frame["id"].tolist(), table.dataset)
        wanted = pixels and options.shard[1] == 1
        if wanted:
            check_room(out, len(positions), options.crop.size)
        _make_crops(table, names, positions, options.crop, out, workers)
        parts = (_part_file(out, number) for number in range(-(-len(positions) // _PART_SIZE)))
        records = pd.concat(map(pd.read_parquet, parts), ignore_index=True)
        frame, skipped = _assemble(table, names, records)
        _check_unreadable(skipped, len(positions), max_unreadable, out)
        record = {
            "format_version": FORMAT_VERSION,
            "dataset": table.dataset,
            "synthetic": is_synthetic(table.root),
            "label_rule": table.label_rule,
            "race_classes": list(table.race_classes),
            "table": TABLE,
            "options": options.record(),
            "crop": _describe_crop(options.crop, identity),
            "release": {
                "read": table.report.read,
                "kept": len(table),
                "dropped": dict(table.report.reasons()),
                "fingerprint": table_fingerprint(table.frame),
            },
        }
        write_text(out / _SOURCES, hash_lines(_states(table, positions)))
        return finish(record, frame, skipped, out, wanted)


def claim(out: Path, options: dict[str, Any], overwrite: bool) -> bool:
    """Check that a set with these options can be written to a folder, and record the options there.

    Returns:
        True if the set is complete.
    """
    whole = is_prepared(out)
    begun = (out / _PLAN).is_file()
    if not (whole or begun) and _holds_something(out):
        raise DataError(f"{out}: holds something that is not a prepared set: choose a new folder")
    if whole and not begun:  # so that only the files of a prepared set are removed
        try:
            read_description(out)
        except DataError as error:
            text = f"{error}; if it is not a prepared set choose a new folder, else remove it"
            raise DataError(text) from error
    if (whole or begun) and overwrite:
        _clear(out)
        whole = begun = False
    if begun and not whole and not any((out / CROPS).rglob("*.jpg")):  # such as a run on a wrong folder
        shutil.rmtree(out / _PARTS, ignore_errors=True)
        (out / _PLAN).unlink()
        begun = False
    if whole or begun:
        found = read_description(out) if whole else from_json(read_regular(out / _PLAN))
        differing = differences(found.get("options", {}), options)
        if differing:
            raise DataError(
                f"{out}: was {'made' if whole else 'started'} with other options: {'; '.join(differing)}: "
                "choose another folder, or --overwrite true to make it again"
            )
    if not (whole or begun):
        write_text(out / _PLAN, to_json({"options": options}))
    return whole


def _holds_something(out: Path) -> bool:
    """Return whether a folder holds more than the remains of a killed :func:`claim` or :func:`_clear`."""
    return any(entry.name not in (WORK, LOCK) for entry in out.iterdir()) or any((out / WORK).glob("[!.]*"))


def _clear(out: Path) -> None:
    """Remove a set: its description first and its plan last, so that an interruption can be continued."""
    if not (out / _PLAN).is_file():
        write_text(out / _PLAN, to_json({"options": {}}))
    for name in (RECORD, PIXELS, TABLE, SKIPPED, _SOURCES):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / CROPS, ignore_errors=True)
    for name in (_PARTS, RELEASE, WORK):
        shutil.rmtree(out / name, ignore_errors=True)


def check_release(out: Path, fingerprint: str) -> None:
    """Check that a complete set was made from a release with this fingerprint."""
    if read_description(out).get("release", {}).get("fingerprint") != fingerprint:
        raise DataError(
            f"{out}: is complete, but the release's table differs from the one that it was made from (other "
            "faces or labels): choose another folder, or --overwrite true to make it again"
        )


def _check_unchanged(out: Path, table: FaceTable, shard: tuple[int, int]) -> None:
    """Check that a complete set was made from this table and these image files."""
    check_release(out, table_fingerprint(table.frame))
    file, now = out / _SOURCES, hash_lines(_states(table, range(shard[0] - 1, len(table), shard[1])))
    if file.is_file() and file.read_text(encoding="utf-8") != now:  # a merged set has none
        raise DataError(
            f"{out}: is complete, but images of the release were replaced since it was made: choose another "
            "folder, or --overwrite true to make it again"
        )


def _states(table: FaceTable, positions: Sequence[int]) -> list[str]:
    return [file_state(table.root / path) for path in table.frame["path"].iloc[list(positions)]]


def complete(out: Path, pixels: bool) -> dict[str, Any]:
    """Return the description of a complete set; add its pixels if they are wanted and missing."""
    shutil.rmtree(out / WORK, ignore_errors=True)
    record = read_description(out)
    log.info("%s: is complete, nothing to do (--overwrite true makes it again)", out)
    if not pixels or record["options"].get("shard") or "pixels" in record:
        return record
    paths = pd.read_parquet(out / record["table"], columns=["path"])["path"].tolist()
    check_room(out, len(paths), record["options"]["size"])
    record["pixels"] = write_pixels(out, paths, record["options"]["size"])
    write_description(record, out)
    return record


def _note_release(out: Path, table: FaceTable) -> None:
    """Record the release's fingerprint in the plan, or compare it with the recorded one."""
    plan = from_json(read_regular(out / _PLAN))
    fingerprint = table_fingerprint(table.frame)
    if plan.setdefault("release", fingerprint) != fingerprint:
        raise DataError(
            f"{out}: the release's table differs from the one that this set was started with: "
            "give that release, or --overwrite true to start again"
        )
    write_text(out / _PLAN, to_json(plan))


def check_room(out: Path, faces: int, size: int) -> None:
    """Log the size of ``pixels.npy`` and check that there is room for it."""
    log.info("%s will take %.2f GB (--pixels false skips it)", PIXELS, faces * size * size * 3 / 1e9)
    check_space(out, faces, size)


def crop_names(ids: Sequence[str], dataset: str) -> list[str]:
    """Return the crops' paths in a set: those in the release, made portable.

    Characters that some file system forbids become ``_``, suffixes ``.jpg``; repeated names (ignoring case
    and Unicode normalisation) get ``-2``, ``-3`` ... Names depend on the ids alone.
    """
    taken: set[str] = set()
    names = []
    for name in ids:
        stem = _plain(name.removeprefix(f"{dataset}/"))
        candidate, number = stem, 1
        while fold_name(candidate) in taken:
            number += 1
            candidate = f"{stem}-{number}"
        taken.add(fold_name(candidate))
        names.append(f"{CROPS}/{candidate}.jpg")
    return names


def _plain(name: str) -> str:
    """Return a path without suffix whose parts are valid on all file systems and not hidden."""
    path = PurePosixPath(name.split("#")[0])
    parts = path.with_suffix("").parts if path.suffix else path.parts
    parts = tuple(part.translate(_FORBIDDEN).lstrip(".").rstrip(". ") or "_" for part in parts if part != "/")
    short = [part.encode()[:200].decode(errors="ignore") for part in parts]
    return "/".join(short) or "_"


def _make_crops(
    table: FaceTable,
    names: list[str],
    positions: Sequence[int],
    settings: CropSettings,
    out: Path,
    workers: int,
) -> None:
    """Make the crops of all unfinished parts."""
    (out / _PARTS).mkdir(exist_ok=True)
    paths = table.frame["path"].tolist()
    boxes = box_rows(table.frame)
    jobs = [CropJob(at, str(table.root / paths[at]), str(out / names[at]), boxes[at]) for at in positions]
    parts = [jobs[start : start + _PART_SIZE] for start in range(0, len(jobs), _PART_SIZE)]
    missing = [part for number, part in enumerate(parts) if not _is_done(out, number, part)]
    left = sum(map(len, missing))
    if left < len(jobs):
        log.info("%s: continuing, %s of %s faces are done", out, f"{len(jobs) - left:,}", f"{len(jobs):,}")
    numbers = {part[0].position: number for number, part in enumerate(parts)}
    with progress("faces", len(jobs), len(jobs) - left) as advance:
        for records in crop_batches(settings, missing, min(workers, len(missing) or 1)):
            number = numbers[int(records[0]["position"])]
            _write_part(out, number, records, parts[number])
            advance(len(records))


def _part_file(out: Path, number: int) -> Path:
    return out / _PARTS / f"{number:06d}.parquet"


def _write_part(out: Path, number: int, records: list[Record], part: Sequence[CropJob]) -> None:
    rows = pa.Table.from_pandas(pd.DataFrame(records).astype(RECORD_COLUMNS), preserve_index=False)
    with replacing(_part_file(out, number)) as partial:
        pq.write_table(rows.replace_schema_metadata({_SOURCES: _part_state(part)}), partial)


def _part_state(part: Sequence[CropJob]) -> str:
    return hash_lines([file_state(job.source) for job in part])


def _is_done(out: Path, number: int, part: Sequence[CropJob]) -> bool:
    """Return whether a part was recorded, and its images and crops are unchanged."""
    try:
        rows = pq.read_table(_part_file(out, number), columns=["crop_sha256"])
    except (OSError, ValueError):  # missing, or damaged by a crash
        return False
    if (rows.schema.metadata or {}).get(_SOURCES.encode()) != _part_state(part).encode():
        return False
    checksums = rows["crop_sha256"].to_pylist()
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(crop_checksum, (Path(job.crop) for job in part))
        return all(wanted in ("", actual) for wanted, actual in zip(checksums, found, strict=True))


def crop_checksum(file: Path) -> str:
    """Return the SHA-256 of a crop, or "" if it cannot be read."""
    try:
        return file_sha256(file)
    except OSError:
        return ""


def _assemble(table: FaceTable, names: list[str], records: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of the set and the skipped rows."""
    rows = table.frame.drop(columns=[*BOX], errors="ignore").iloc[records["position"]].reset_index(drop=True)
    source = rows["path"]
    crops = pd.Series([names[at] for at in records["position"]], dtype=source.dtype)
    known = records.drop(columns="error").assign(source=source)
    frame = pd.concat([rows.assign(path=crops), known], axis=1)
    bad = records["error"] != ""
    skipped = pd.DataFrame(
        {"position": records["position"], "id": rows["id"], "source": source, "reason": records["error"]}
    )
    return frame[~bad].reset_index(drop=True), skipped[bad].reset_index(drop=True)


def _check_unreadable(skipped: pd.DataFrame, total: int, most: float, out: Path) -> None:
    bad = skipped[skipped["reason"] != NO_FACE]
    if len(bad) > most * total:
        shown = "\n  ".join(f"{row.source}: {row.reason}" for row in bad.head(_SHOWN).itertuples())
        raise DataError(
            f"{out}: {len(bad):,} of {total:,} images cannot be read, more than {most:.0%}:\n  {shown}\n"
            "fix them and give --overwrite true, or accept them: --max_unreadable "
            f"{min(1, len(bad) / total + 0.01):.2f} (what is done is kept)"
        )


def finish(
    record: dict[str, Any], frame: pd.DataFrame, skipped: pd.DataFrame, out: Path, pixels: bool
) -> dict[str, Any]:
    """Write table, skipped list, pixels and, last, the description; then remove the working files.

    ``record`` is the description without counts, fingerprints and versions; the crops exist.
    """
    if frame.empty and not record["options"]["shard"]:
        raise DataError(f"{out}: no face is left: none of {len(skipped):,} images shows one or can be read")
    _log_names(frame, skipped)
    _remove_strays(out, frame["path"])
    write_table(skipped, out / SKIPPED)
    write_table(frame, out / TABLE)
    prints = {"table": table_fingerprint(frame), "crops": hash_lines(frame["crop_sha256"])}
    record = record | {"counts": _count(frame, skipped), "fingerprints": prints, "versions": _versions()}
    if pixels:
        record["pixels"] = write_pixels(out, frame["path"].tolist(), record["options"]["size"])
    write_description(record, out)
    shutil.rmtree(out / WORK)
    return record


def _log_names(frame: pd.DataFrame, skipped: pd.DataFrame) -> None:
    """Log the images without a face or that could not be read, the first few by name."""
    faceless = frame.loc[frame["faces_found"] == 0, "source"]
    groups = {f"{NO_FACE}, cropped anyway": faceless.tolist()}
    reasons = skipped["reason"].str.replace(r"(too large):.*", r"\1", regex=True)
    groups |= {f"{why}, skipped": part["source"].tolist() for why, part in skipped.groupby(reasons)}
    for why, sources in groups.items():
        if sources:
            few = ", ".join(sources[:_SHOWN]) + (", ..." if len(sources) > _SHOWN else "")
            log.info("%s: %s of the images: %s", why, f"{len(sources):,}", few)


def _remove_strays(out: Path, paths: "pd.Series[str]") -> None:
    """Remove files below ``crops`` that do not belong to the set, such as partly written ones."""
    wanted = {unicodedata.normalize("NFC", str(out / path)) for path in paths}
    for folder, _, files in os.walk(out / CROPS):
        for file in (f"{folder}/{name}" for name in files):
            if unicodedata.normalize("NFC", file) not in wanted:  # the file system may choose the form
                Path(file).unlink()


def _count(frame: pd.DataFrame, skipped: pd.DataFrame) -> dict[str, int]:
    found = frame["faces_found"]
    faceless = int((skipped["reason"] == NO_FACE).sum())
    return {
        "images": len(frame) + len(skipped),
        "faces": len(frame),
        "not_searched": int((found == -1).sum()),
        "one_face": int((found == 1).sum()),
        "several_faces": int((found > 1).sum()),
        "turned": int((frame.get("turned", found.clip(upper=0)) > 0).sum()),
        "no_face_kept": int((found == 0).sum()),
        "no_face_dropped": faceless,
        "unreadable": len(skipped) - faceless,
    }


def _describe_crop(settings: CropSettings, detector: dict[str, str | float] | None) -> dict[str, Any]:
    """Return the description of the alignment, as texts and numbers."""
    landmarks = canonical_landmarks(settings.size, settings.margin).round(3).tolist()
    fallback = "the central square of the shorter side"
    if settings.aligned:
        fallback = f"the fixed place of the face in {settings.aligned}'s aligned pictures"
    chosen = "similarity transform (least squares) that brings the five landmarks of the face to `landmarks`"
    return {
        "method": chosen if detector else fallback,
        "size": settings.size,
        "margin": settings.margin,
        "margin_means": "added on each side, as a fraction of the square from forehead to chin",
        "landmarks": dict(zip(LANDMARKS, landmarks, strict=True)),
        "coordinates": "pixels (x, y) from the centre of the left top pixel; left is left in the picture",
        "detector": detector or (ALREADY_ALIGNED if settings.aligned else "none"),
        "several_faces": "the one with the largest box" if detector else "not looked for",
        "no_face": (fallback if settings.keep_faceless else "skipped") if detector else "not looked for",
        "outside_the_image": "the pixels of its edge, repeated",
        "format": f"JPEG, RGB, quality {JPEG_QUALITY}",
    }


def _versions() -> dict[str, str]:
    packages = ("mtmsa-lightning", "numpy", "opencv-python-headless", "pandas", "pyarrow")
    return {name: importlib.metadata.version(name) for name in packages}
