"""Run directories: ``<root>/<name>/<time>/``, the same on all processes of a run.

config.yaml            every setting, ready for `--config`
run.json               versions, commit, command, seeds, split fingerprints, label rule, class order, results
metrics.csv            one row per epoch
checkpoints/           best.ckpt (weights), last.ckpt (all that continues the training)
predictions/           test.parquet
run.log                what was printed
"""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import yaml

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.folders import LOCK, is_empty, make_folder
from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning._utils.text import counted
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.settings.configs import option

if TYPE_CHECKING:
    import pandas as pd

RUN_DIR_VARIABLE = "MTMSA_RUN_DIR"
"""Tells processes launched by this one which run they belong to."""

_chosen: str | None = None
"""What this process set the variable to: for those that it launches, not for a second run of its own."""

SECTIONS = ("data", "model", "trainer")
"""Parts of a config that hold settings by name."""

LAST = "checkpoints/last.ckpt"
"""The checkpoint from which a run is continued."""

log = logging.getLogger(__name__)

BEGINNING = ("config.yaml", "run.json", "run.log", "wandb")
"""What a run writes before it has any result."""

FREE_SETTINGS = {
    "data": ("root", "num_workers", "pin_memory", "verify", "strict"),
    "trainer": (
        "max_epochs", "max_steps", "max_time", "default_root_dir", "logger", "log_every_n_steps", "profiler",
        "accelerator", "strategy", "devices", "num_nodes", "benchmark", "detect_anomaly",
        "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps",
    ),
    "model": ("channels_last", "checkpoint_activations"),
    "optimizer": ("fused", "foreach"),
    "run": ("wandb", "wandb_faces", "test_after_fit", "allow_overlap", "compile"),
}  # fmt: skip
"""Settings that may differ when a run is continued: where and how fast it computes, and what it shows."""

GLOBAL_BATCH = ("devices", "num_nodes")
"""Settings of the trainer that a whole training's figures depend on, through the number of processes."""

PLACES = ("root", "split_file")
"""Settings of the data that are paths; a run records where they led, for whoever uses it from elsewhere."""

LENGTH = ("max_epochs", "max_steps", "max_time")
"""Settings of the trainer that may grow when a run is continued."""


def open_run(root: str | Path, name: str) -> tuple[Path, list[Path]]:
    """Choose the directory of a new run; every process of one launch gets the same.

    The first process chooses a time at which no other run began, and makes the directory. It hands the time
    on by the environment to processes that Lightning launches, and through torchrun's store. The tasks of a
    step of SLURM, which share neither, take the numbers of job, step and restart.

    Args:
        root: Root of all runs.
        name: Name of the experiment.

    Returns:
        The directory, which may not exist yet, and the folders that were made, innermost first.
    """
    global _chosen
    if "LOCAL_RANK" in os.environ and os.environ.get(RUN_DIR_VARIABLE, _chosen) != _chosen:
        return Path(os.environ[RUN_DIR_VARIABLE]), []
    experiment = (Path(root) / name).absolute()
    directory, made = _shared_directory(experiment)
    os.environ[RUN_DIR_VARIABLE] = _chosen = str(directory)
    return directory, made


def _shared_directory(experiment: Path) -> tuple[Path, list[Path]]:
    if step := slurm_step():
        return experiment / f"slurm-{step}", []
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _from_torchrun(experiment)
    return _new_directory(experiment)


def _new_directory(experiment: Path) -> tuple[Path, list[Path]]:
    """Make a directory that is named by the time; of the jobs of an array, several may begin at once."""
    while True:
        directory = experiment / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
        made = make_folder(directory)
        if directory in made:
            return directory, made


def slurm_step() -> str | None:
    """Return ``<job>.<step>.<restart>`` for a task of a step of several; None outside of one.

    A script of ``sbatch`` and a shell of ``salloc`` know the number of tasks of their allocation, but are one
    process; the numbers of their own steps are special ones, from 0xfffffff0 on.
    """
    job, step = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_ID", "")
    if job is None or not step.isdigit() or int(step) >= 0xFFFFFFF0:
        return None
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", os.environ.get("SLURM_NTASKS", "1"))
    return f"{job}.{step}.{os.environ.get('SLURM_RESTART_COUNT', '0')}" if int(tasks) > 1 else None


def _from_torchrun(experiment: Path) -> tuple[Path, list[Path]]:
    """Agree on rank 0's directory through the store that torchrun keeps for its workers."""
    import torch.distributed as dist

    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(*address, is_master=False)  # type: ignore[attr-defined]
    key = f"mtmsa/run/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    made: list[Path] = []
    if os.environ["RANK"] == "0":
        directory, made = _new_directory(experiment)
        store.set(key, directory.name)
    return experiment / str(store.get(key), "utf-8"), made


def is_first_process() -> bool:
    """Return whether this is the first process of its launch, before Lightning knows.

    torchrun gives every process its rank, whose order need not be that of the tasks of SLURM which start it.
    """
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    numbers = ("LOCAL_RANK", "NODE_RANK", *(["SLURM_PROCID"] if slurm_step() else []))
    return all(os.environ.get(name, "0") == "0" for name in numbers)


def check_run_dir(run: Path, verb: str, fresh: bool) -> None:
    """Refuse a directory that holds anything which the files of a run would replace.

    Args:
        run: The directory.
        verb: ``fit``, ``validate`` or ``test``.
        fresh: Refuse every earlier run, not only one that has results.

    Raises:
        ConfigError: If it holds something else, or the results of an earlier run.
    """
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
    if fresh or trained or (verb == "fit" and (run / "predictions").is_dir()):
        why = f", which has no {LAST} to continue" if verb == "fit" and not fresh else ""
        raise ConfigError(
            f"{run}: holds an earlier run{why}: choose another directory by --run_dir, or remove it"
        )


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
    runs = runs_with(LAST, folder) if directory is None else [folder] if (folder / LAST).is_file() else []
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


def runs_with(file: str, folder: Path) -> list[Path]:
    """Return the runs right below a folder that have a file, those that were started last first.

    A run of which no start is recorded comes after all others; names, which not all are times, only decide
    between equal starts.
    """
    runs = [found.parents[len(Path(file).parts) - 1] for found in folder.glob(f"*/{file}") if found.is_file()]
    return sorted(runs, key=lambda run: (last_start(run), run.name), reverse=True)


def last_start(run: Path) -> str:
    """Return when a run was started or continued last, in ISO format; "" if that is not recorded."""
    try:
        record = read_record(run)
    except ConfigError:  # damaged; it is told when the record itself is wanted
        return ""
    return str((record.get("continued") or [record.get("started", "")])[-1])


def run_of(checkpoint: Path) -> Path | None:
    """Return the run directory that a checkpoint lies in, if any."""
    run = checkpoint.absolute().parent.parent
    return run if (run / "config.yaml").is_file() else None


def read_config(run: Path) -> dict[str, Any]:
    """Return a run's settings; empty if they cannot be read, so that they equal no others."""
    try:
        config = load_config(run / "config.yaml")
        return config if all(isinstance(config.get(name) or {}, dict) for name in SECTIONS) else {}
    except ConfigError:
        return {}


def load_config(file: Path) -> dict[str, Any]:
    """Read the ``config.yaml`` of a run, which may have been made by anyone.

    Raises:
        ConfigError: It cannot be read, is no config, or has aliases, which no run writes and a few of which
            can stand for billions of values.
    """
    try:
        text = read_regular(file).decode()
        events = yaml.parse(text, yaml.SafeLoader) if "*" in text else ()
        if any(isinstance(event, yaml.AliasEvent) for event in events):
            raise ConfigError(f"{file}: it has YAML aliases (*name): write out what they stand for")
        return dict(yaml.safe_load(text))
    except (OSError, yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: cannot be read as the config of a run: {error}") from error


def places_of_run(run: Path, args: Sequence[str]) -> list[str]:
    """Return arguments for the data of a run whose ``config.yaml`` names them from another folder.

    Args:
        run: The run.
        args: Arguments of the command line, whose own settings of the data count more.
    """
    if option(args, "data") is not None:
        return []
    settings = (read_config(run).get("data") or {}).get("init_args") or {}
    found = []
    for name, place in (read_record(run).get("places") or {}).items():
        given = any(option(args, f"data.{each}{name}") is not None for each in ("", "init_args."))
        here = settings.get(name) is not None and Path(settings[name]).exists()
        if name in PLACES and not given and not here and Path(place).exists():
            found.append(f"--data.{name}={place}")
    return found


def unfinished(run: Path) -> str | None:
    """Say how far a run's training came, if that is not to its end."""
    record = read_record(run)
    if not record or record.get("epochs") is not None:
        return None
    reason = str(record.get("failed") or "").partition(": ")[2] or "it was killed, or goes on still"
    planned = (read_config(run).get("trainer") or {}).get("max_epochs")
    plan = f"; {counted(planned, 'epoch was', 'epochs were')} planned" if planned else ""
    return f"training has not ended: {reason}{plan}"


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
        The differences in what is learnt, in how long and from how large a batch; where data lie and what
        computes may differ.
    """

    def length(config: dict[str, Any]) -> dict[str, Any]:
        return {key: (config.get("trainer") or {}).get(key) for key in (*LENGTH, *GLOBAL_BATCH)}

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
        return dict(from_json(read_regular(file)))
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
    write_text(run / "run.json", to_json(read_record(run) | values, indent=2) + "\n")


@contextmanager
def replacing(file: Path, token: str = "") -> Iterator[Path]:
    """Give the path of a new file, which takes the place of ``file`` when it is written.

    Whoever reads the file, at any moment, sees the old or the new content; if writing fails, the old one
    stays. The new file may be read and written by whom the umask lets, whatever wrote it.

    Args:
        file: The file; its folder is made if it is not there.
        token: Tells apart what several processes write at a time. Without it, what a killed process left is
            written over by the next one.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    name = os.fsdecode(os.fsencode(file.name)[:200])  # a file name has at most 255 bytes
    partial = file.with_name(f".{name}{token}.partial")
    try:
        partial.unlink(missing_ok=True)
        partial.touch(exist_ok=False)
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_in(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Give an empty folder, whose files and folders take the place of those in ``folder`` when it is filled.

    If filling it fails, ``folder`` stays as it is.

    Args:
        folder: It is made if it is not there.
        names: What is replaced, one after the other; what the new folder lacks of it is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / ".new"  # of one name, so that nothing of a killed process stays
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        (fresh / ".old").mkdir()
        for name in names:
            if (folder / name).is_dir() or not (fresh / name).exists():
                with suppress(FileNotFoundError):
                    (folder / name).replace(fresh / ".old" / name)
            with suppress(FileNotFoundError):
                (fresh / name).replace(folder / name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def write_text(file: Path, text: str) -> None:
    """Write a text file in one step, in UTF-8 and with Unix line ends on every system."""
    with replacing(file, token_hex(4)) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file in one step."""
    with replacing(file, token_hex(4)) as partial:
        partial.write_bytes(data)


def write_table(table: "pd.DataFrame", file: Path) -> None:
    """Write a table to ``.csv`` or ``.parquet`` in one step."""
    with replacing(file) as partial:
        if file.suffix == ".csv":
            table.to_csv(partial, index=False, encoding="utf-8", lineterminator="\n")
        else:
            table.to_parquet(partial, index=False)
