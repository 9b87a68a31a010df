"""Predictions in parts: what is done survives a kill, and processes share the work by dealing parts out.

While a table is made, the folder ``<table>.parts`` holds ``plan.json``, which says of what and how it is
made, and one file for each part of the inputs that is done. A part has its name only when it is whole. It
depends on its own inputs alone, batches included; so neither a kill nor the number of processes changes a
digit.

At the end the parts are joined, one at a time, to

    ages.csv            one row per face (or .parquet, or .jsonl)
    ages.skipped.csv    the images without a row, with the reason; only if there are any
    ages.record.json    of what and how the table was made; written last
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

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.folders import LOCK, make_folder
from mtmsa_lightning._utils.nested import differences
from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning._utils.writing import remove_partials, replacing, write_text
from mtmsa_lightning.align.files import NO_FACE
from mtmsa_lightning.errors import DataError

PART_SIZE = 256
"""Inputs per part: what a kill can cost each process."""

COMPARED = ("format_version", "model", "options", "inputs", "files", "part_size", "shard")
"""Keys of a plan that decide what the table holds."""

MERGED = tuple(key for key in COMPARED if key not in ("files", "shard"))
"""Keys in which all shards agree; copies of a photo on several machines differ in their times."""

FORMAT_VERSION = 2
RECORD = ".record.json"
SKIPPED = ".skipped.csv"
_PLAN = "plan.json"
_SKIPPED = b"skipped"
_SHOWN = 5

Plan = dict[str, Any]
"""Plain values: ``COMPARED``, and whatever a reader of the table may want to know."""

Skipped = list[tuple[str, str]]
"""Files of images without a face, each with the reason."""


class Counts(NamedTuple):
    """What a table holds and does not hold.

    Attributes:
        faces: Rows.
        images: Images that were looked at.
        no_face: Images in which no face was found.
        unreadable: Images that could not be read.
    """

    faces: int
    images: int
    no_face: int
    unreadable: int


class Parts:
    """The folder of a table that is being made.

    Args:
        folder: The folder.
        plan: What is to be made.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan

    def __len__(self) -> int:
        """Number of parts of the whole table."""
        return -(-int(self.plan["inputs"]["images"]) // int(self.plan["part_size"]))

    @property
    def numbers(self) -> range:
        """The parts that are to be made here: all, or those of the shard."""
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
        """Whether there are parts of this very plan already."""
        try:
            return not plan_differences(read_plan(self.folder), self.plan)
        except DataError:
            return False

    def claim(self, overwrite: bool) -> None:
        """Begin the folder, or make sure that it was begun with the same plan.

        Args:
            overwrite: Remove what another plan has left there.

        Raises:
            DataError: It was begun with another plan, or holds something else.
        """
        file = self.folder / _PLAN
        begun = file.is_file()
        if not begun and any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
            raise DataError(f"{self.folder}: holds something else: choose another --out")
        if begun and (differing := plan_differences(read_plan(self.folder), self.plan)):
            if not overwrite and self._holds_a_face():
                raise DataError(
                    f"{self.folder}: was begun otherwise: {differing}: start it as it was begun to go on, "
                    "choose another --out, or --overwrite true to begin again"
                )
            _empty(self.folder)
        remove_partials(self.folder)
        write_text(file, to_json(self.plan, indent=2) + "\n")

    def _holds_a_face(self) -> bool:
        """Return whether any part is worth keeping; one that cannot be read may be."""
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
        """Return the numbers of the parts that are still to be made."""
        return [number for number in self.numbers if not _is_whole(self.file(number))]


def read_plan(folder: Path) -> Plan:
    """Return the plan of a folder of parts.

    Raises:
        DataError: There is none, or it is damaged.
    """
    file = folder / _PLAN
    if not file.is_file():
        why = f"has no {_PLAN}, so it is no shard" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder}: {why}: `mtmsa predict --shard I/N --out {folder}` makes one")
    try:
        return dict(from_json(read_regular(file)))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: damaged: make this shard again by the command that made it") from error


def plan_differences(old: Plan, new: Plan, keys: Iterable[str] = COMPARED) -> str:
    """Say in which keys two plans differ, "" if in none."""
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
    """Remove all parts, and the plan last, so that what is left is taken for what it is."""
    for file in sorted(folder.iterdir(), key=lambda file: file.name == _PLAN):
        if file.name != LOCK:
            file.unlink()


# ---------------------------------------------------------------- joining


def beside(out: Path, ending: str) -> Path:
    """Return the file that stands beside a table, such as ``ages.skipped.csv``."""
    return out.with_name(f"{out.stem}{ending}")


def complete(out: Path, plan: Plan) -> Counts | None:
    """Return what a table holds if it is there and was made by a plan."""
    record = _read_record(out)
    whole = out.exists() and not plan_differences(record, plan)
    return Counts(**record["counts"]) if whole else None


def refuse_to_lose(out: Path, plan: Plan) -> None:
    """Raise if a table of another plan that has a face, or anything else, is there."""
    record = _read_record(out)
    worthless = out.exists() and record.get("counts", {}).get("faces") == 0
    if out.exists() and not worthless:
        how = f", made otherwise: {plan_differences(record, plan)}" if record else ""
        raise DataError(f"{out}: exists{how}: choose another --out, or --overwrite true to replace it")


def _read_record(out: Path) -> Plan:
    try:
        return dict(from_json(read_regular(beside(out, RECORD))))
    except (OSError, ValueError):
        return {}


def join(plan: Plan, files: Sequence[Path], out: Path) -> Counts:
    """Join all parts to one table, with the list of what was skipped, and the record.

    Args:
        plan: What the parts were made of.
        files: Files of all parts, in order.
        out: The table.

    Raises:
        DataError: A part is damaged.
    """
    faces, reasons = 0, Counter[bool]()  # whether it was for want of a face
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
            reasons.update(reason == NO_FACE for _, reason in skipped)
    counts = Counts(faces, int(plan["inputs"]["images"]), reasons[True], reasons[False])
    if not reasons.total():
        listed.unlink()
    record = {**plan, "shard": None, "counts": counts._asdict()}
    write_text(beside(out, RECORD), to_json(record, indent=2) + "\n")
    return counts


def merge(folders: Sequence[Path], out: Path, overwrite: bool = False) -> Counts:
    """Join the shards of a prediction; the table equals, byte for byte, that of one process.

    The shards are left as they are.

    Args:
        folders: Folders made by ``--shard``, in any order, each once.
        out: The table.
        overwrite: Replace a table that is there.

    Returns:
        What the table holds.

    Raises:
        DataError: Shards are missing, not finished, or belong to different predictions; or a table is there.
    """
    shards = [Parts(folder, read_plan(folder)) for folder in folders]
    for shard in shards:
        if differing := plan_differences(shards[0].plan, shard.plan, MERGED):
            raise DataError(f"{shard.folder} does not belong to {shards[0].folder}: {differing}")
    files: dict[int, Path] = {}
    for shard in shards:
        if missing := shard.missing():
            lacking = pluralize(len(missing), "part is", "parts are")
            raise DataError(f"{shard.folder}: {lacking} missing: run that shard to its end")
        if twice := files.keys() & set(shard.numbers):
            raise DataError(f"{shard.folder}: part {min(twice)} is in {files[min(twice)].parent} too")
        files |= {number: shard.file(number) for number in shard.numbers}
    _check_all_there(shards, files)
    plan = {**shards[0].plan, "shard": None}
    if not overwrite and complete(out, plan) is None:
        refuse_to_lose(out, plan)
    make_folder(out.parent)
    return join(plan, [files[number] for number in range(len(shards[0]))], out)


def _check_all_there(shards: Sequence[Parts], files: Mapping[int, Path]) -> None:
    absent = [number for number in range(len(shards[0])) if number not in files]
    if absent:
        count = max((shard.plan["shard"] or (1, 1))[1] for shard in shards)
        given = {(shard.plan["shard"] or (1, 1))[0] for shard in shards}
        missing = ", ".join(f"{number}/{count}" for number in range(1, count + 1) if number not in given)
        raise DataError(f"shards missing: {missing}: give each of {count} once")


def _is_whole(file: Path) -> bool:
    try:
        return _SKIPPED in (pq.read_schema(file).metadata or {})
    except (OSError, ValueError):  # none, or damaged when the machine went down
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
    """Give a function that appends the rows of a part to a file.

    The columns are those of the first part that has rows: one without faces does not have all of them.
    """
    writers: dict[str, Callable[[Path, pa.Schema], Any]]
    writers = {".csv": _CSV, ".jsonl": _JSONLines, ".parquet": _Parquet}
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
        table.to_pandas().to_csv(self.stream, index=False, header=False, lineterminator="\n")

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
    """Return a row as JSON; NaN stands for no value in tables (``score`` where no face was looked for)."""
    there = {name: None if value != value else value for name, value in row.items()}
    return to_json(there, ensure_ascii=False)
