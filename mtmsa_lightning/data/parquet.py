"""Parquet files with image bytes and classes, as the Hugging Face Hub keeps datasets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtmsa_lightning._utils.atomic_write import write_bytes
from mtmsa_lightning.errors import DataError

_AT_A_TIME = 256
"""Images that are in memory together."""


def read_texts(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read columns of a file as texts; integer classes become their names in the file's metadata.

    Raises:
        DataError: The file cannot be read, a column is missing, or integers have no names: their meaning
            would be a guess.
    """
    rows = _open(file, columns).read(columns=[*columns])
    names = _class_names(rows.schema)
    texts: dict[str, Any] = {}
    for column in columns:
        cells = rows[column].to_pandas()
        if pa.types.is_integer(rows.schema.field(column).type):
            if column not in names:
                raise DataError(
                    f"{file}: column {column!r} holds numbers, and the metadata has no names for them: "
                    "export it with texts"
                )
            cells = pd.Series(np.array([*names[column], ""], object)[cells.fillna(-1).astype("int64")])
        texts[column] = cells.fillna("").astype("str")
    return pd.DataFrame(texts)


def unpack_images(file: Path, column: str, paths: Sequence[Path]) -> None:
    """Write the bytes of a file's images to ``paths``, one a row; existing files are kept.

    Raises:
        DataError: The file cannot be read, or an image cannot be written.
    """
    if all(path.is_file() for path in paths):
        return
    content = _open(file, (column,))
    row = 0
    try:
        for folder in {path.parent for path in paths}:
            folder.mkdir(parents=True, exist_ok=True)
        for batch in content.iter_batches(_AT_A_TIME, columns=[f"{column}.bytes"]):
            for cell in batch.column(0).field("bytes"):
                if not paths[row].is_file():
                    write_bytes(paths[row], cell.as_py() or b"")
                row += 1
    except OSError as error:
        raise DataError(
            f"{file}: its images cannot be unpacked to {paths[row].parent}: {error}: copy the release to a "
            "folder that can be written"
        ) from error


def _open(file: Path, columns: Sequence[str]) -> pq.ParquetFile:
    try:
        content = pq.ParquetFile(file)
    except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these
        raise DataError(f"{file}: cannot be read ({error}): copy it again") from error
    missing = [name for name in columns if name not in content.schema_arrow.names]
    if missing:
        raise DataError(f"{file}: no column {', '.join(missing)}; it has {content.schema_arrow.names}")
    return content


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the class names that the library ``datasets`` writes into the metadata, by column."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return {name: feature["names"] for name, feature in features.items() if "names" in feature}
