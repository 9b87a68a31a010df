"""The status of a run from its record and settings: progress, seed and data."""

import copy
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.runs.directory import run_of
from mtmsa_lightning.runs.recorded_settings import read_config
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.settings.configs import option

log = logging.getLogger(__name__)


def unfinished(run: Path) -> str | None:
    """Return a note on a run whose training has not ended; None if it has."""
    record = read_record(run)
    if not record or record.get("epochs") is not None:
        return None
    reason = str(record.get("failed") or "").partition(": ")[2] or "it was killed, or goes on still"
    planned = (read_config(run).get("trainer") or {}).get("max_epochs")
    plan = f"; {pluralize(planned, 'epoch was', 'epochs were')} planned" if planned else ""
    return f"training has not ended: {reason}{plan}"


def warn_unfinished(checkpoint: Path) -> None:
    """Warn of a checkpoint whose training has not ended."""
    run = run_of(checkpoint)
    if run and (note := unfinished(run)):
        log.warning("%s: %s", checkpoint, note)


def recorded_seed(run: Path) -> int | None:
    """Return the seed of a run's training, or of the checkpoint that it tested; None if unknown."""
    record = read_record(run)
    seed: int | None = record.get("seed", (record.get("trained_on") or {}).get("seed"))
    if seed is None:  # a run from before seeds were recorded
        trained = Path(record["checkpoint"]).parent.parent if "checkpoint" in record else run
        seed = read_config(trained).get("seed_everything")
    return seed


PLACES = ("root", "split_file")
"""Settings of the data that are paths; a run records them as absolute paths."""


def places_of_run(run: Path, args: Sequence[str]) -> list[str]:
    """Return arguments for paths of a run's data that do not exist here, unless ``args`` give them."""
    if option(args, "data") is not None:
        return []
    settings = (read_config(run).get("data") or {}).get("init_args") or {}
    found = []
    places = read_record(run).get("places") or {}
    if "sources" in places and option(args, "data.sources") is None:
        return _places_of_sources(settings.get("sources") or [], places["sources"])
    for name, place in places.items():
        given = any(option(args, f"data.{each}{name}") is not None for each in ("", "init_args."))
        here = settings.get(name) is not None and Path(settings[name]).exists()
        if name in PLACES and not given and not here and Path(place).exists():
            found.append(f"--data.{name}={place}")
    return found


def _places_of_sources(sources: list[Any], places: list[dict[str, str]]) -> list[str]:
    """Return an argument for the sources of a mixture if some of their paths do not exist here."""
    moved = copy.deepcopy(sources)
    for source, of_source in zip(moved, places, strict=False):
        settings = source.setdefault("init_args", {})
        for name, place in of_source.items():
            here = settings.get(name) is not None and Path(settings[name]).exists()
            if name in PLACES and not here and Path(place).exists():
                settings[name] = place
    return [f"--data.sources={json.dumps(moved)}"] if moved != sources else []
