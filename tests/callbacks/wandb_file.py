"""Reads what an offline run has written: the log format of LevelDB, with records of wandb's protocol."""

import json
import struct
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
HEAD = struct.Struct("<IHB")


def records(file: Path) -> list[Record]:
    """Return all records: a record may stand in several fragments, none of which crosses a block."""
    content, position, found, started = file.read_bytes(), 7, [], b""
    while position + HEAD.size <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEAD.size:
            position += left
            continue
        _, length, kind = HEAD.unpack_from(content, position)
        start = position + HEAD.size
        started += content[start : start + length]
        position = start + length
        if kind in (1, 4):  # a whole one, or the last fragment
            found.append(Record.FromString(started))
            started = b""
    return found


def is_finished(file: Path) -> bool:
    """Tell whether the run has written its end."""
    return any(record.WhichOneof("record_type") == "exit" for record in records(file))


def plain(items) -> dict:
    """Return keyed items of a record by key; the keys of nested ones are joined by slashes."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(file: Path) -> list[dict]:
    """Return what was logged, a dictionary per row."""
    kinds = [(record.WhichOneof("record_type"), record) for record in records(file)]
    return [plain(record.history.item) for kind, record in kinds if kind == "history"]


def config(file: Path) -> dict:
    """Return the run's config with all updates, one level deep."""
    values = {}
    for record in records(file):
        updates = [*record.run.config.update] if record.WhichOneof("record_type") == "run" else []
        updates += [*record.config.update] if record.WhichOneof("record_type") == "config" else []
        values |= plain(updates)
    return values


def artifacts(file: Path) -> list:
    """Return the artifacts that were logged."""
    kinds = [(record.WhichOneof("record_type"), record) for record in records(file)]
    found = [record.artifact for kind, record in kinds if kind == "artifact"]
    requests = [record.request for kind, record in kinds if kind == "request"]
    return found + [each.log_artifact.artifact for each in requests if each.HasField("log_artifact")]
