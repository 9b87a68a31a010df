"""Read and update ``run.json``, the record of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning.errors import ConfigError


def read_record(run: Path) -> dict[str, Any]:
    """Return a run's ``run.json``, empty if there is none; ConfigError if it is damaged."""
    file = run / "run.json"
    if not file.is_file():
        return {}
    try:
        return dict(from_json(read_regular(file)))
    except ValueError as error:
        raise ConfigError(f"{file}: damaged ({error}): remove it to go on without the record") from error


def update_record(run: Path, values: dict[str, Any]) -> None:
    """Merge values into a run's ``run.json``."""
    write_text(run / "run.json", to_json(read_record(run) | values, indent=2) + "\n")


def partial_note(record: Mapping[str, Any], part: str) -> str:
    """Return a note if the record has results for some faces of ``val`` or ``test`` only; empty otherwise."""
    seen = (record.get("seen") or {}).get(part)
    if not seen or seen["faces"] + seen["unreadable"] >= seen["of"]:
        return ""
    return partial_text(seen["faces"], seen["of"], "faces", part)


def partial_text(seen: int, of: int, what: str, part: str) -> str:
    """Return the note on results for some of a part, such as ``partial: 8 of 12 faces of the val part``."""
    return f"partial: {seen:,} of {of:,} {what} of the {part} part"
