"""Predictions in parts, so that an interrupted prediction continues and processes share the work.

The folder ``<table>.parts`` holds ``plan.json`` (inputs and options) and one file for each complete part of
the inputs. A part depends on its own inputs only: neither an interruption nor the number of processes changes
a digit. At the end the parts are joined to ``<table>.csv`` (or .parquet, or .jsonl), a row per face,
``<table>.skipped.csv``, the images without a row, and last ``<table>.record.json``.
"""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtmsa_lightning._utils.atomic_write import remove_partials, replacing, write_text
from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.folders import LOCK, make_folder
from mtmsa_lightning._utils.nested_dicts import differences
from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.align.crop_files import NO_FACE
from mtmsa_lightning.errors import DataError

PART_SIZE = 256  # inputs per part, the most that an interruption can cost each process

COMPARED = ("format_version", "model", "options", "inputs", "files", "part_size", "shard")
"""Keys of a plan that determine the table."""

MERGED = tuple(key for key in COMPARED if key not in ("files", "shard"))
"""Keys that are equal in all shards; times of files may differ between machines."""

FORMAT_VERSION = 4
RECORD = ".record.json"
SKIPPED = ".skipped.csv"
_PLAN = "plan.json"
_SKIPPED = b"skipped"
_SHOWN = 5

DECIMALS = {"age_": 2, "box_": 2, "score": 4, "group_": 4, "gender_": 4, "race_": 4}
"""Decimals in CSV files by the beginning of a column's name."""

Plan = dict[str, Any]
"""Plain values: the keys ``COMPARED`` and further ones for readers of the table."""

Skipped = list[tuple[str, str]]
"""Files of images without a face, each with the reason."""


class Counts(NamedTuple):
    """Counts of a table: its rows, all images, those without a face or not readable, and turned faces."""

    faces: int
    images: int
    no_face: int
    unreadable: int
    turned: int = 0


class Parts:
    """The folder of an incomplete table, and the table's plan."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan

    def __len__(self) -> int:
        """Number of parts of the whole table."""
        return -(-int(self.plan["inputs"]["images"]) // int(self.plan["part_size"]))

    @property
    def numbers(self) -> range:
        """The parts to make: all, or those of the shard."""
        shard, shards = self.plan["shard"] or (1, 1)
        return range(shard - 1, len(self), shards)

    def positions(self, number: int) -> range:
        """Return the positions of a part's inputs."""
        start, images = number * self.plan["part_size"], self.plan["inputs"]["images"]
        return range(start, min(start + self.plan["part_size"], images))

    def file(self, number: int) -> Path:
        """Return the file of a part."""
        return self.folder / f"{number:07d}.parquet"

    @property
    def begun(self) -> bool:
        """Whether there are parts of this plan."""
        try:
            return not plan_differences(read_plan(self.folder), self.plan)
        except DataError:
            return False

    def claim(self, overwrite: bool) -> None:
        """Write the plan, or check that the folder has the same one; ``overwrite`` removes parts of another.

        Raises:
            DataError: The folder has another plan, or holds something else.
        """
        file = self.folder / _PLAN
        begun = file.is_file()
        if not begun and any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
            raise DataError(f"{self.folder}: holds something else: choose another --out")
        if begun and (differing := plan_differences(read_plan(self.folder), self.plan)):
            if not overwrite and self._holds_a_face():
                raise DataError(
                    f"{self.folder}: was begun with other options: {differing}: repeat that command, "
                    "choose another --out, or --overwrite true to begin again"
                )
            _empty(self.folder)
        remove_partials(self.folder)
        write_text(file, to_json(self.plan, indent=2) + "\n")

    def _holds_a_face(self) -> bool:
        """Return whether any part has a face; an unreadable part counts as one."""
        for file in self.folder.glob("[0-9]*"):
            try:
                if pq.read_metadata(file).num_rows:
                    return True
            except (OSError, ValueError):
                return True
        return False

    def write(self, number: int, faces: pd.DataFrame, skipped: Skipped) -> None:
        """Write a part."""
        table = pa.Table.from_pandas(faces, preserve_index=False)
        with replacing(self.file(number), f".{os.getpid()}") as partial:
            pq.write_table(table.replace_schema_metadata({_SKIPPED: to_json(skipped)}), partial)

    def read(self, number: int) -> pd.DataFrame:
        """Return the rows of a part."""
        faces: pd.DataFrame = _read(self.file(number))[0].to_pandas()
        return faces

    def missing(self) -> list[int]:
        """Return the numbers of the missing parts."""
        return [number for number in self.numbers if not _is_whole(self.file(number))]


def read_plan(folder: Path) -> Plan:
    """Return the plan of a folder of parts; raise DataError if there is none, or it is damaged."""
    file = folder / _PLAN
    if not file.is_file():
        why = f"has no {_PLAN}, so it is not a shard" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder}: {why}: `mtmsa predict --shard I/N --out {folder}` makes one")
    try:
        return dict(from_json(read_regular(file)))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: damaged: make this shard again with the same command") from error


def plan_differences(old: Plan, new: Plan, keys: Iterable[str] = COMPARED) -> str:
    """Return the differences between two plans in words; "" if they are equal."""
    words = {
        "model": "by another model", "inputs": "of other images", "files": "before image files were replaced"
    }  # fmt: skip
    found = []
    for key in (key for key in keys if old.get(key) != new.get(key)):
        if key in words:
            found.append(words[key])
        else:
            found += differences(old.get(key), new.get(key), key)
    return "; ".join(found[:_SHOWN])


def clear(folder: Path) -> None:
    """Remove a folder of parts."""
    _empty(folder)
    (folder / LOCK).unlink(missing_ok=True)
    folder.rmdir()


def _empty(folder: Path) -> None:
    """Remove all parts, and the plan last."""
    for file in sorted(folder.iterdir(), key=lambda file: file.name == _PLAN):
        if file.name != LOCK:
            file.unlink()


def beside(out: Path, ending: str) -> Path:
    """Return a file beside a table, such as ``ages.skipped.csv``."""
    return out.with_name(f"{out.stem}{ending}")


def complete(out: Path, plan: Plan) -> Counts | None:
    """Return the counts of a table; None if it does not exist or has another plan."""
    record = _read_record(out)
    whole = out.exists() and not plan_differences(record, plan)
    return Counts(**record["counts"]) if whole else None


def refuse_to_lose(out: Path, plan: Plan) -> None:
    """Raise DataError if a table with faces, or another file, exists."""
    record = _read_record(out)
    worthless = out.exists() and record.get("counts", {}).get("faces") == 0
    if out.exists() and not worthless:
        how = f", made with other options: {plan_differences(record, plan)}" if record else ""
        raise DataError(f"{out}: exists{how}: choose another --out, or --overwrite true to replace it")


def _read_record(out: Path) -> Plan:
    try:
        return dict(from_json(read_regular(beside(out, RECORD))))
    except (OSError, ValueError):
        return {}


def join(plan: Plan, files: Sequence[Path], out: Path) -> Counts:
    """Join the files of all parts, in order; raise DataError if one is damaged."""
    faces, turned, reasons = 0, 0, Counter[bool]()  # reasons by whether there was no face
    listed = beside(out, SKIPPED)
    with ExitStack() as stack:
        append = stack.enter_context(_table(stack.enter_context(replacing(out)), out.suffix))
        partial = stack.enter_context(replacing(listed))
        lines = csv.writer(
            stack.enter_context(partial.open("w", newline="", encoding="utf-8")), lineterminator="\n"
        )
        lines.writerow(("file", "reason"))
        for table, skipped in map(_read, files):
            append(table)
            lines.writerows(skipped)
            faces += table.num_rows
            turned += sum(table["turned"].to_numpy() > 0) if "turned" in table.column_names else 0
            reasons.update(reason == NO_FACE for _, reason in skipped)
    counts = Counts(faces, int(plan["inputs"]["images"]), reasons[True], reasons[False], int(turned))
    if not reasons.total():
        listed.unlink()
    record = {**plan, "shard": None, "counts": counts._asdict()}
    write_text(beside(out, RECORD), to_json(record, indent=2) + "\n")
    return counts


def merge(folders: Sequence[Path], out: Path, overwrite: bool = False) -> Counts:
    """Join the shards of a prediction to the same bytes as from one process; shards are kept.

    The folders were made by ``--shard``, in any order, each once; ``overwrite`` replaces an existing table.

    Raises:
        DataError: Shards are missing, incomplete, or of different predictions; or a table exists.
    """
    shards = [Parts(folder, read_plan(folder)) for folder in folders]
    for shard in shards:
        if differing := plan_differences(shards[0].plan, shard.plan, MERGED):
            raise DataError(f"{shard.folder} does not belong to {shards[0].folder}: {differing}")
    files: dict[int, Path] = {}
    for shard in shards:
        if missing := shard.missing():
            lacking = pluralize(len(missing), "part is", "parts are")
            raise DataError(f"{shard.folder}: {lacking} missing: complete that shard")
        if twice := files.keys() & set(shard.numbers):
            raise DataError(f"{shard.folder}: part {min(twice)} is also in {files[min(twice)].parent}")
        files |= {number: shard.file(number) for number in shard.numbers}
    if len(files) < len(shards[0]):
        count = max((shard.plan["shard"] or (1, 1))[1] for shard in shards)
        given = {(shard.plan["shard"] or (1, 1))[0] for shard in shards}
        absent = ", ".join(f"{number}/{count}" for number in range(1, count + 1) if number not in given)
        raise DataError(f"shards missing: {absent}: give each of {count} once")
    plan = {**shards[0].plan, "shard": None}
    if not overwrite and complete(out, plan) is None:
        refuse_to_lose(out, plan)
    make_folder(out.parent)
    return join(plan, [files[number] for number in range(len(shards[0]))], out)


def _is_whole(file: Path) -> bool:
    try:
        return _SKIPPED in (pq.read_schema(file).metadata or {})
    except (OSError, ValueError):  # missing or damaged
        return False


def _read(file: Path) -> tuple[pa.Table, Skipped]:
    try:
        table = pq.read_table(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: damaged ({error}): delete it and start the same command again") from error
    skipped = [(name, reason) for name, reason in from_json(table.schema.metadata[_SKIPPED])]
    return table.replace_schema_metadata(None), skipped


@contextmanager
def _table(file: Path, suffix: str) -> Iterator[Callable[[pa.Table], None]]:
    """Yield a function that appends the rows of a part; columns are those of the first part with rows."""
    writers: dict[str, Any] = {".csv": _CSV, ".jsonl": _JSONLines, ".parquet": _Parquet}
    with ExitStack() as stack:
        writer: Any = None
        empty = pa.table({})

        def append(table: pa.Table) -> None:
            nonlocal writer, empty
            if not table.num_rows:
                empty = table
                return
            writer = writer or stack.enter_context(writers[suffix](file, table.schema))
            writer.append(table)

        yield append
        if writer is None:
            stack.enter_context(writers[suffix](file, empty.schema))


class _CSV(AbstractContextManager["_CSV", None]):
    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self.stream = file.open("w", newline="", encoding="utf-8")
        csv.writer(self.stream, lineterminator="\n").writerow(schema.names)

    def append(self, table: pa.Table) -> None:
        faces = table.to_pandas()
        places = {name: digits for name in faces.select_dtypes("float") for start, digits in DECIMALS.items()
                  if name.startswith(start)}  # fmt: skip
        faces.round(places).to_csv(self.stream, index=False, header=False, lineterminator="\n")

    def __exit__(self, *_: object) -> None:
        self.stream.close()


class _JSONLines(AbstractContextManager["_JSONLines", None]):
    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self.stream = file.open("w", newline="\n", encoding="utf-8")

    def append(self, table: pa.Table) -> None:
        self.stream.writelines(f"{_json(row)}\n" for row in table.to_pylist())

    def __exit__(self, *_: object) -> None:
        self.stream.close()


class _Parquet(AbstractContextManager["_Parquet", None]):
    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self.writer = pq.ParquetWriter(file, schema)

    def append(self, table: pa.Table) -> None:
        self.writer.write_table(table)

    def __exit__(self, *_: object) -> None:
        self.writer.close()


def _json(row: Mapping[str, Any]) -> str:
    """Return a row as JSON, with null for NaN (``score`` without detection)."""
    there = {name: None if value != value else value for name, value in row.items()}
    return to_json(there, ensure_ascii=False)
