"""Parquet tables of faces, with the images as files or as bytes in a column."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.file_access import file_state
from mtmsa_lightning._utils.folders import locked
from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning.errors import DataError

_PATIENCE = 3600.0  # seconds to wait for another process that unpacks
_BATCH = 256  # rows whose images are in memory
_DONE = "complete.json"
_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"BM": ".bmp"}
_PARTS = re.compile(r"(train|val|valid|validation|test)\b.*", re.ASCII)


def image_column(files: Sequence[Path]) -> str | None:
    """Return the column with the images' bytes, plain or as the Hub's ``{bytes, path}``, or None."""
    for field in _schema(files[0]):
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return str(field.name)
    return None


def header(files: Sequence[Path]) -> list[str]:
    """Return the names of the columns, which all files must share.

    Raises:
        DataError: A file cannot be read, or has other columns than the first.
    """
    names: list[str] = _schema(files[0]).names
    for file in files[1:]:
        if _schema(file).names != names:
            raise DataError(
                f"{file}: its columns differ from those of {files[0].name}: give one --data.table"
            )
    return names


def read_texts(files: Sequence[Path], columns: Sequence[str]) -> pd.DataFrame:
    """Return columns as texts, as in a CSV: "" for a missing value, class names instead of codes if known.

    The index (``line``) is the row, from 1. Several files named by their part, such as
    ``train-00000-of-00002.parquet``, give the column ``split``, unless it is among the columns.
    """
    parts = []
    for file in files:
        try:
            table = pq.read_table(file, columns=[*columns])
        except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these
            raise DataError(f"{file}: cannot be read ({error}): copy it again") from error
        names = _class_names(table.schema)
        part = pd.DataFrame({name: _texts(table[name], names.get(name)) for name in columns}, dtype="str")
        match = _PARTS.fullmatch(file.name)
        parts.append(part.assign(split=match[1]) if match and "split" not in columns else part)
    rows = pd.concat(parts, ignore_index=True).fillna("")
    return rows.set_axis(pd.RangeIndex(1, len(rows) + 1, name="line"))


def unpack_images(files: Sequence[Path], column: str, folder: Path) -> list[str]:
    """Write the images of a column to files, once, and return their paths relative to the folder's parent.

    A row without bytes has the path of its ``{bytes, path}`` or an empty one. Only one process writes;
    changed tables are unpacked again, and a killed process begins again.
    """
    state = [file_state(file) for file in files]
    with locked(folder, "unpacking of a table's images", wait=_PATIENCE):
        try:
            known = json.loads((folder / _DONE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        there = all((folder.parent / path).is_file() for path in known.get("paths", ()) if path)
        if known.get("state") != state or not there:
            known = {"state": state, "paths": [*_write(files, column, folder)]}
            write_text(folder / _DONE, to_json(known))
    paths: list[str] = known["paths"]
    return paths


def _write(files: Sequence[Path], column: str, folder: Path) -> Iterator[str]:
    number = 0
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(_BATCH, columns=[column]):
            for cell in batch.column(0).to_pylist():
                number += 1
                data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
                if not data:
                    yield path or ""
                    continue
                suffix = next((each for start, each in _SUFFIXES.items() if data.startswith(start)), ".jpg")
                name = f"{number // 1000:04d}/{number:07d}{suffix}"
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(data)
                yield f"{folder.name}/{name}"


def _schema(file: Path) -> Any:
    try:
        return pq.read_schema(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}): copy it again") from error


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Return the class names of the columns of codes, which tables of the Hugging Face Hub record."""
    recorded = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(recorded)["info"]["features"] if recorded else {}
    return {name: each["names"] for name, each in features.items() if each.get("_type") == "ClassLabel"}


def _texts(column: Any, names: Sequence[str] | None) -> list[str]:
    def text(value: Any) -> str:
        if value is None or value != value:
            return ""
        if names is not None and isinstance(value, int):
            return names[value] if 0 <= value < len(names) else ""
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    return [text(value) for value in column.to_pylist()]
