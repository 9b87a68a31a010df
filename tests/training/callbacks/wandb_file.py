"""Reader of offline runs: the log format of LevelDB, with records of wandb's protocol."""

import base64
import json
import re
import struct
import zipfile
from pathlib import Path

import cv2
import numpy as np
from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
HEAD = struct.Struct("<IHB")


def records(file: Path) -> list[Record]:
    """Return all records; a record may have several fragments, none of which crosses a block."""
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
        if kind in (1, 4):  # a full record, or its last fragment
            found.append(Record.FromString(started))
            started = b""
    return found


def is_finished(file: Path) -> bool:
    """Return whether the run has written its end."""
    return any(record.WhichOneof("record_type") == "exit" for record in records(file))


def plain(items) -> dict:
    """Return keyed items of a record by key; the keys of nested ones are joined by slashes."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(file: Path) -> list[dict]:
    """Return the logged rows as dictionaries."""
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


def sent(log: Path) -> dict[str, bytes]:
    """Return all data that a run sends to the server, or that is sent later, by name.

    These are its records, the files of the run and of its artifacts, and data embedded in pages.
    """
    found = [file for file in log.parent.glob("files/**/*") if file.is_file()]
    files = {str(file.relative_to(log.parent)): file for file in found}
    for artifact in artifacts(log):
        files |= {
            f"{artifact.name}/{each.path}": Path(each.local_path) for each in artifact.manifest.contents
        }
    contents = {name: file.read_bytes() for name, file in files.items() if file.suffix != ".ckpt"}
    contents["records"] = b"".join(record.SerializeToString() for record in records(log))
    for name in files.keys() - contents.keys():  # all but the numbers of the weights
        with zipfile.ZipFile(files[name]) as checkpoint:
            (pickled,) = [each for each in checkpoint.namelist() if each.endswith("data.pkl")]
            contents[name] = checkpoint.read(pickled)
    waiting = list(contents)
    for name in waiting:  # grows: pictures of a page may hold pictures
        for number, uri in enumerate(re.findall(rb"data:image/[\w+]+;base64,([\w+/=\s]+)", contents[name])):
            contents[f"{name}, picture {number}"] = base64.b64decode(uri)
            waiting.append(f"{name}, picture {number}")
    return contents


PLOTS = (
    "confusion_age_groups", "confusion_gender", "confusion_race", "cumulative_score", "error_by_age",
    "predicted_against_true", "reliability_gender", "reliability_race", "interval_coverage", "risk_coverage",
    "subgroups", "scale_weights", "pit", "reliability_age",
)  # fmt: skip
"""Plots of metrics of many faces."""

MOST_COLOURS = 400
"""Colours of a heat map or its scale; a face has thousands."""


def faces_in(contents: dict[str, bytes]) -> list[str]:
    """Return images that may show a face: photos, and all images but plots and maps of few colours."""
    return [
        name
        for name, content in contents.items()
        if b"\xff\xd8\xff\xe0" in content
        or "attention_maps" in name
        or (content.startswith(b"\x89PNG") and not is_plot(name) and colours(content) > MOST_COLOURS)
    ]


def is_plot(name: str) -> bool:
    return any(re.search(rf"(^|/){plot}(_\d+_\w+)?\.png$", name) for plot in PLOTS)


def colours(png: bytes) -> int:
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    return len(np.unique(pixels.reshape(-1, 3), axis=0))


def names_in(contents: dict[str, bytes], names: list[str]) -> list[str]:
    return [
        f"{name} in {what}"
        for what, content in contents.items()
        for name in names
        if name.encode() in content
    ]
