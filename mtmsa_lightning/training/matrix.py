"""Test several networks on the test parts of several datasets."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.folders import is_empty, locked
from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning.data.overlap import OverlapError
from mtmsa_lightning.data.preprocessing_check import preprocessing_differences
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.evaluation.cross_data import Cell
from mtmsa_lightning.reports.matrix import PAGE, text_table, write_matrix
from mtmsa_lightning.runs.checkpoints import checkpoint_file, read_checkpoint, weights_digest
from mtmsa_lightning.runs.directory import run_of
from mtmsa_lightning.runs.recorded_settings import read_config
from mtmsa_lightning.runs.run_json import partial_note, read_record
from mtmsa_lightning.settings.configs import find_config
from mtmsa_lightning.training.trainer_commands import run_trainer_command

log = logging.getLogger(__name__)

CELLS, STATE = "cells", "cell.json"


def evaluate_matrix(
    checkpoints: Sequence[str], configs: Sequence[str], args: Sequence[str], folder: Path
) -> pd.DataFrame:
    """Test every checkpoint on the test part of every config and write the matrix.

    Cells that the folder holds with the same weights, config and arguments are not computed again. A test of
    a network on faces that it was trained on is refused, and appears as a mark.

    Args:
        checkpoints: The networks.
        configs: Configs with a section ``data``.
        args: Further arguments of ``mtmsa test`` for all cells.
        folder: Folder of the matrix.

    Returns:
        The table of :func:`.cross_data.matrix_table`.

    Raises:
        ConfigError: The folder holds something else.
    """
    if not is_empty(folder) and not (folder / CELLS).is_dir():
        raise ConfigError(f"{folder} holds other files: choose another folder with --out")
    files = [checkpoint_file(path) for path in checkpoints]
    names = _distinct([_name(file) for file in files], [str(run_of(file) or file) for file in files])
    data_names = _distinct([Path(config).stem for config in configs], configs)
    cells = []
    with locked(folder, "mtmsa evaluate --matrix"):
        for file, model in zip(files, names, strict=True):
            checkpoint = read_checkpoint(file)
            weights = weights_digest(checkpoint["state_dict"])
            calibration = checkpoint.get("calibration")
            network = sha256(f"{weights} {to_json(calibration)}".encode()).hexdigest()
            provenance = checkpoint.get("provenance") or {}
            del checkpoint
            for config, data in zip(configs, data_names, strict=True):
                cell = folder / CELLS / f"{network[:12]}-{Path(config).stem}-{_digest(config)[:6]}"
                state = {"network": network, "config": _digest(config), "args": list(args)}
                refused = _test(cell, state, ["--config=" + config, *args], file)
                cells.append(_cell(model, data, provenance, cell, refused))
        table = write_matrix(cells, folder)
    log.info("%s", text_table(table).to_string(index=False))
    log.info("matrix: %s", folder / PAGE)
    return table


def _test(cell: Path, state: dict[str, Any], args: list[str], checkpoint: Path) -> str:
    """Test a network, unless the folder has the result; return why the test was refused, if it was."""
    done = from_json((cell / STATE).read_text(encoding="utf-8")) if (cell / STATE).is_file() else {}
    if {key: done.get(key) for key in state} == state:
        log.info("%s: tested already", cell.name)
        return str(done["refused"])
    if cell.exists():
        shutil.rmtree(cell)  # of an interrupted test, or of other settings
    cell.mkdir(parents=True)  # a folder that is there keeps the record of a refused test
    refused = ""
    try:
        run_trainer_command("test", [*args, f"--ckpt_path={checkpoint}", f"--run_dir={cell}"])
    except OverlapError as error:
        refused = str(error).partition("\n")[0]
        log.warning("%s: refused: %s", cell.name, refused)
    write_text(cell / STATE, to_json(state | {"refused": refused}, indent=2) + "\n")
    return refused


def _cell(model: str, data: str, provenance: Mapping[str, Any], folder: Path, refused: str) -> Cell:
    record = read_record(folder)
    tested = record["data"]
    of = f"{tested['dataset']}, {tested['protocol']}, fold {tested['fold']}"
    trained_on = str(provenance.get("dataset", "unknown"))
    own = provenance.get("fingerprints", {}).get("test") == tested["fingerprints"]["test"]
    cell = Cell(model, data, trained_on, of, refused=refused, own=own)
    if refused:
        return cell
    warnings = [*record.get("overlap", []), *preprocessing_differences(provenance, tested)]
    masked = {task: list(names) for task, names in (record.get("masked_classes") or {}).items() if names}
    warnings += [f"{task} classes that are not compared: {names}" for task, names in masked.items()]
    warnings += [note for note in [partial_note(record, "test")] if note]
    predictions = pd.read_parquet(folder / "predictions" / "test.parquet")
    return Cell(model, data, trained_on, of, predictions, own=own, warnings=tuple(warnings))


def _name(file: Path) -> str:
    """Return a short name of a checkpoint: that of its run's settings, or of its file."""
    run = run_of(file)
    name = read_config(run).get("name") if run else None
    return str(name or (file.parent.name if file.stem == "model" else file.stem))


def _distinct(names: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Add the paths to names that repeat."""
    return [
        f"{name} ({path})" if names.count(name) > 1 else name for name, path in zip(names, paths, strict=True)
    ]


def _digest(config: str) -> str:
    return sha256(find_config(config).read_bytes()).hexdigest()
