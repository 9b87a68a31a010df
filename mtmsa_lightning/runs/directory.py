"""Run directories: ``<root>/<name>/<time>/``, the same on all processes of a run.

config.yaml            every setting, ready for `--config` run.json               versions, commit, command,
seeds, split fingerprints, label rule, class order, results metrics.csv            one row per epoch
checkpoints/           best.ckpt (weights), last.ckpt (to continue the training) predictions/ test.parquet
run.log                what was printed
"""

import logging
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from mtmsa_lightning._utils.folders import LOCK, is_empty, make_folder
from mtmsa_lightning._utils.launch import RUN_DIR_VARIABLE, slurm_step
from mtmsa_lightning._utils.nested_dicts import differences
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.runs.recorded_settings import read_config, training_settings
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.runs.starter import STARTER, is_starter

LAST = "checkpoints/last.ckpt"
"""The checkpoint from which a run is continued."""

log = logging.getLogger(__name__)

BEGINNING = ("config.yaml", "run.json", "run.log", "wandb")
"""Files that a run writes before it has results."""


def open_run(root: str | Path, name: str) -> tuple[Path, list[Path]]:
    """Choose the directory ``<root>/<name>/<time>`` of a new run, the same on every process of a launch.

    The first process makes it, and passes the name on in the environment to processes that Lightning
    launches, and through torchrun's store. The tasks of a SLURM step use the numbers of job, step and restart
    instead of the time. The caller wraps the run in :func:`.launch.launch_variables_removed`.

    Returns:
        The directory, which may not exist yet, and the folders that were made, innermost first.
    """
    if "LOCAL_RANK" in os.environ and RUN_DIR_VARIABLE in os.environ:
        return Path(os.environ[RUN_DIR_VARIABLE]), []
    experiment = (Path(root) / name).absolute()
    made: list[Path] = []
    if step := slurm_step():
        directory = experiment / f"slurm-{step}"
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        directory, made = _from_torchrun(experiment)
    else:
        directory, made = _new_directory(experiment)
    os.environ[RUN_DIR_VARIABLE] = str(directory)
    return directory, made


def _new_directory(experiment: Path) -> tuple[Path, list[Path]]:
    """Make a directory named by the time; other jobs may start at the same time."""
    while True:
        directory = experiment / new_name()
        made = make_folder(directory)
        if directory in made:
            return directory, made


def new_name() -> str:
    """Return the name of a run that starts now."""
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]


def _from_torchrun(experiment: Path) -> tuple[Path, list[Path]]:
    """Return rank 0's directory, shared through torchrun's store."""
    import torch.distributed as dist

    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(*address, is_master=False)  # type: ignore[attr-defined]
    key = f"mtmsa/run/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    made: list[Path] = []
    if os.environ["RANK"] == "0":
        directory, made = _new_directory(experiment)
        store.set(key, directory.name)
    return experiment / str(store.get(key), "utf-8"), made


def check_run_dir(run: Path, command: str, fresh: bool) -> None:
    """Raise ConfigError if a run would replace something else or results; with ``fresh`` any earlier run."""
    if is_empty(run):
        return
    if not run.is_dir():
        raise ConfigError(f"--run_dir {run}: is a file: choose a new directory")
    names = {entry.name for entry in run.iterdir()}
    if "run.json" not in names and not names <= {LOCK, *BEGINNING}:
        held = "a folder of runs" if any(run.glob("*/run.json")) else "a folder that holds other files"
        raise ConfigError(
            f"--run_dir {run}: is {held}: choose a new directory, or that of one run, e.g. {run / 'new'}"
        )
    trained = any((run / "checkpoints").glob("*.ckpt"))
    if fresh or trained or (command == "fit" and (run / "predictions").is_dir()):
        why = f", which has no {LAST} to continue" if command == "fit" and not fresh else ""
        raise ConfigError(
            f"{run}: holds an earlier run{why}: choose another directory by --run_dir, or remove it"
        )


def resumable_run(root: str | Path, name: str, config: dict[str, Any], directory: Path | None = None) -> Path:
    """Return ``directory``, or the newest run ``<root>/<name>/*``, with a ``last.ckpt`` and these settings.

    All settings except ``RESUMABLE_CHANGES`` must be equal. CheckpointError lists the differences of the
    newest run.
    """
    folder = directory or Path(root) / name
    runs = runs_with(LAST, folder) if directory is None else [folder] if (folder / LAST).is_file() else []
    wanted = training_settings(config)
    found = {run: differences(training_settings(read_config(run)), wanted) for run in runs}
    for run, differing in found.items():
        if not differing:
            return run.absolute()
    reason = f"there is no run with a {LAST} under {folder}"
    if runs:
        reason = f"{runs[0]} differs: {'; '.join(found[runs[0]][:8])}"
    how = "choose another --run_dir" if directory else "leave --ckpt_path last out"
    raise CheckpointError(f"nothing to continue: {reason}. To start again {how}.")


def runs_with(file: str, folder: Path) -> list[Path]:
    """Return the runs in a folder that have a file, the last started first, without a recorded start last."""
    runs = [found.parents[len(Path(file).parts) - 1] for found in folder.glob(f"*/{file}") if found.is_file()]
    return sorted(runs, key=lambda run: (last_start(run), run.name), reverse=True)


def last_start(run: Path) -> str:
    """Return when a run was last started or continued, in ISO format; "" if it is not recorded."""
    try:
        record = read_record(run)
    except ConfigError:  # damaged, which is reported when the record is used
        return ""
    return str((record.get("continued") or [record.get("started", "")])[-1])


def run_of(checkpoint: Path) -> Path | None:
    """Return the run directory of a checkpoint, if any."""
    run = checkpoint.absolute().parent.parent
    return run if (run / "config.yaml").is_file() else None


def results_folder(checkpoint: Path) -> Path:
    """Return where files made from a checkpoint go by default: its run, or else the folder that it is in.

    For the starter, whose package is not written to, it is ``runs/starter``.
    """
    return Path("runs", STARTER) if is_starter(checkpoint) else run_of(checkpoint) or checkpoint.parent
