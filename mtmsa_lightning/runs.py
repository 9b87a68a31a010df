"""Run directories: ``<root>/<name>/<time>/``, the same on all processes of a run.

config.yaml            every setting, ready for `--config`
run.json               versions, commit, command, seeds, split fingerprints, label rule, class order, results
metrics.csv            one row per epoch
checkpoints/           best.ckpt, last.ckpt
predictions/           test.parquet
run.log                what was printed
"""

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mtmsa_lightning.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

RUN_DIR_VARIABLE = "MTMSA_RUN_DIR"
"""Tells processes launched by this one which run they belong to."""

LAST = "checkpoints/last.ckpt"
"""The checkpoint from which a run is continued."""

log = logging.getLogger(__name__)

FREE_SETTINGS = {
    "data": ("root", "num_workers", "verify", "strict"),
    "trainer": (
        "max_epochs", "max_steps", "max_time", "default_root_dir", "logger", "log_every_n_steps", "profiler",
        "accelerator", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps",
    ),
    "model": ("channels_last", "checkpoint_activations"),
    "optimizer": ("fused", "foreach"),
    "run": ("wandb", "wandb_faces", "test_after_fit", "allow_overlap", "compile"),
}  # fmt: skip
"""Settings that may differ when a run is continued: they do not change what is learnt."""

LENGTH = ("max_epochs", "max_steps", "max_time")
"""Settings of the trainer that may grow when a run is continued."""


def open_run(root: str | Path, name: str) -> Path:
    """Return the directory of a new run; every process of one launch gets the same.

    The time is chosen by the first process and handed on: by the environment to processes that Lightning
    launches, through torchrun's store, or as SLURM's job number.

    Args:
        root: Root of all runs.
        name: Name of the experiment.

    Returns:
        The directory, which may not exist yet.
    """
    if "LOCAL_RANK" in os.environ and RUN_DIR_VARIABLE in os.environ:
        return Path(os.environ[RUN_DIR_VARIABLE])
    directory = (Path(root) / name / _shared_stamp()).absolute()
    os.environ[RUN_DIR_VARIABLE] = str(directory)
    return directory


def _shared_stamp() -> str:
    if "SLURM_JOB_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")  # a step and a requeue are new runs
        return "slurm-" + ".".join(os.environ.get(name, "0") for name in names)
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
    return _from_torchrun(stamp) if "TORCHELASTIC_RUN_ID" in os.environ else stamp


def _from_torchrun(stamp: str) -> str:
    """Agree on rank 0's stamp through the store that torchrun keeps for its workers."""
    import torch.distributed as dist

    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(*address, is_master=False)  # type: ignore[attr-defined]
    key = f"mtmsa/run/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if os.environ["RANK"] == "0":
        store.set(key, stamp)
    return str(store.get(key), "utf-8")


def resumable_run(root: str | Path, name: str, config: dict[str, Any], directory: Path | None = None) -> Path:
    """Find the newest run of a configuration that has a ``last.ckpt``.

    Args:
        root: Root of all runs.
        name: Name of the experiment.
        config: The present settings; all that changes what is learnt must equal the run's.
        directory: The only run to consider.

    Returns:
        Directory of the run.

    Raises:
        CheckpointError: If there is none, or only runs of other settings; names what differs.
    """
    folder = directory or Path(root) / name
    files = sorted(folder.glob(LAST if directory else f"*/{LAST}"), reverse=True)
    runs = [file.parent.parent for file in files]
    wanted = what_is_learnt(config)
    found = {run: differences(what_is_learnt(read_config(run)), wanted) for run in runs}
    for run, differing in found.items():
        if not differing:
            return run.absolute()
    reason = f"there is no run with a {LAST} under {folder}"
    if runs:
        reason = f"{runs[0]} differs: {'; '.join(found[runs[0]][:8])}"
    anew = "choose another --run_dir" if directory else "leave --ckpt_path last out"
    raise CheckpointError(f"nothing to continue: {reason}. To start anew {anew}.")


def newest_run(folder: Path, file: str) -> Path | None:
    """Return the newest run right below a folder that has a file, by its name, which is a time."""
    runs = sorted((run for run in folder.iterdir() if (run / file).is_file()), key=lambda run: run.name)
    return runs[-1] if runs else None


def run_of(checkpoint: Path) -> Path | None:
    """Return the run directory that a checkpoint lies in, if any."""
    run = checkpoint.absolute().parent.parent
    return run if (run / "config.yaml").is_file() else None


def read_config(run: Path) -> dict[str, Any]:
    """Return a run's settings; empty if they cannot be read, so that they equal no others."""
    try:
        return dict(yaml.safe_load((run / "config.yaml").read_text()))
    except (OSError, yaml.YAMLError, TypeError, ValueError):
        return {}


def unfinished(run: Path) -> str | None:
    """Say how far a run's training came, if that is not to its end."""
    record = read_record(run)
    if not record or record.get("epochs") is not None:
        return None
    reason = str(record.get("failed") or "").partition(": ")[2] or "it was killed, or goes on still"
    planned = (read_config(run).get("trainer") or {}).get("max_epochs")
    return f"training has not ended: {reason}" + (f"; {planned} epochs were planned" if planned else "")


def say_unfinished(checkpoint: Path) -> None:
    """Warn of a checkpoint whose training has not ended."""
    run = run_of(checkpoint)
    if run and (told := unfinished(run)):
        log.warning("%s: %s", checkpoint, told)


def what_is_learnt(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without those that may differ when a run is continued."""

    def without(settings: Any, free: tuple[str, ...]) -> dict[str, Any]:
        return {key: value for key, value in (settings or {}).items() if key not in free}

    data = dict(config.get("data") or {})
    data["init_args"] = without(data.get("init_args"), FREE_SETTINGS["data"])
    trainer = without(config.get("trainer"), FREE_SETTINGS["trainer"])
    model = without(config.get("model"), FREE_SETTINGS["model"])
    if optimizer := model.get("optimizer"):
        kept = without(optimizer.get("init_args"), FREE_SETTINGS["optimizer"])
        model["optimizer"] = optimizer | {"init_args": kept}
    return without(config, FREE_SETTINGS["run"]) | {"data": data, "trainer": trainer, "model": model}


def training_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """List the settings that change a finished run's figures and in which two runs differ.

    Args:
        old: Settings of a run.
        new: The present settings.

    Returns:
        The differences in what is learnt and in how long; where data lie and what computes may differ.
    """

    def length(config: dict[str, Any]) -> dict[str, Any]:
        return {key: (config.get("trainer") or {}).get(key) for key in LENGTH}

    learnt = differences(what_is_learnt(old), what_is_learnt(new))
    return learnt + differences(length(old), length(new), "trainer")


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """List the settings in which two nested configs differ, as ``key was old, is new``."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{key} was {old}, is {new}"]
    keys = dict.fromkeys([*old, *new])
    return [
        text
        for name in keys
        for text in differences(old.get(name), new.get(name), f"{key}.{name}".strip("."))
    ]


def read_record(run: Path) -> dict[str, Any]:
    """Return a run's ``run.json``, empty if there is none.

    Raises:
        ConfigError: If it is damaged.
    """
    file = run / "run.json"
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text()))
    except ValueError as error:
        raise ConfigError(f"{file}: damaged ({error}): remove it to go on without the record") from error


def recorded_seed(run: Path) -> int | None:
    """Return the seed by which a run was trained, or the checkpoint that it tested; None if it is unknown."""
    record = read_record(run)
    seed: int | None = record.get("seed", (record.get("trained_on") or {}).get("seed"))
    if seed is None:  # a run from before seeds were recorded
        trained = Path(record["checkpoint"]).parent.parent if "checkpoint" in record else run
        seed = read_config(trained).get("seed_everything")
    return seed


def update_record(run: Path, values: dict[str, Any]) -> None:
    """Merge values into a run's ``run.json``."""
    write_text(run / "run.json", json.dumps(read_record(run) | values, indent=2) + "\n")


def check_folder(folder: Path) -> None:
    """Refuse a folder for results that cannot be made or written to, without making it.

    Raises:
        DataError: Something above it is no folder, or it may not be written to.
    """
    there = next(above for above in (folder, *folder.absolute().parents) if above.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        why = "may not be written to" if there.is_dir() else "is a file"
        raise DataError(f"{folder}: nothing can be written there: {there} {why}: choose another")


def make_folder(folder: Path) -> None:
    """Make a folder for results, with those above it, if it is not there.

    Raises:
        DataError: It cannot be made or written to; so it is known before any long work.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"{folder}: nothing can be written there ({error.strerror}): choose another"
        ) from error


@contextmanager
def locked(folder: Path, command: str) -> Iterator[None]:
    """Hold a folder against other processes; the lock ends with this one, however it ends.

    Args:
        folder: The folder; it is made if it is not there.
        command: What writes to it, as a user would type it.

    Raises:
        DataError: Nothing can be written there, or another process is writing there.
    """
    import fcntl  # not on every system

    make_folder(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise DataError(f"{folder}: another `{command}` is writing there: wait for it or stop it") from error
    finally:
        os.close(handle)


def write_text(file: Path, text: str) -> None:
    """Write a file at once: whoever reads it, at any moment, sees the old or the new text."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}-", delete=False) as stream:
        stream.write(text)
    Path(stream.name).chmod(0o644)
    Path(stream.name).replace(file)


def write_table(table: "pd.DataFrame", file: Path) -> None:
    """Write a table to ``.csv`` or ``.parquet``, so that a reader never sees half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    if file.suffix == ".csv":
        table.to_csv(partial, index=False)
    else:
        table.to_parquet(partial, index=False)
    partial.replace(file)
