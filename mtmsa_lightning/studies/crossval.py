"""Cross-validation: train and test every fold and seed of a protocol, each in its own process."""

import logging
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.folders import LOCK, holder, locked
from mtmsa_lightning._utils.processes import GRACE
from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning.errors import CheckpointError, ConfigError, DataError, MTMSAError
from mtmsa_lightning.runs.directory import last_start, new_name, resumable_run, runs_with
from mtmsa_lightning.runs.recorded_settings import read_config, training_differences
from mtmsa_lightning.runs.run_json import partial_note, read_record
from mtmsa_lightning.settings.class_paths import allow_option
from mtmsa_lightning.studies.jobs import Job, Launcher, tail
from mtmsa_lightning.studies.launch import Launch
from mtmsa_lightning.training.early_checks import check_arguments

if TYPE_CHECKING:
    from mtmsa_lightning.data.datamodule import FaceDataModule
    from mtmsa_lightning.training.lightning_cli import UnstartedCLI

log = logging.getLogger(__name__)


LOCAL = Launch()

FAILURE_LINES = 12
"""Last lines of the output of a failed run that are shown."""


def crossval(
    fit_args: Sequence[str],
    folds: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    launch: Launch = LOCAL,
) -> None:
    """Train and test all runs that are not complete, then write the summary.

    By default the runs are all folds of the protocol with the seed of the config.
    """
    experiment = plan(fit_args, folds, seeds, launch)
    if launch.dry_run:
        print_commands([experiment])
        return

    from mtmsa_lightning.reports.folds_report import write_pooled_reports

    with locked(experiment.folder, "mtmsa crossval"):
        launcher = launch.launcher([experiment.settings["trainer"]], experiment.folder)
        ((_, failures),) = train([experiment], launcher)
        summary, missing = summarise(experiment, failures)
        if summary is not None:
            log.info("%s\nfiles: %s", summary, experiment.folder)
            for page in write_pooled_reports(experiment.folder):
                log.info("report: %s", page)
            log.info("%s", _next_commands(experiment, missing))
    if missing:
        reasons = "\n".join(f"  {trial}: {reason}" for trial, reason in missing.items())
        number = f"{len(missing)} of {len(experiment.trials)}"
        raise MTMSAError(f"runs missing: {number}; repeat the command to try them again:\n{reasons}")


def _next_commands(experiment: "Experiment", missing: "Mapping[Trial, str]") -> str:
    """Return the next commands for every complete run."""
    lines = ["next, run by run:"]
    for trial in [trial for trial in experiment.trials if trial not in missing]:
        run = shlex.quote(str(experiment.complete_run(trial))) + allow_option(experiment.settings)
        lines += [f"  mtmsa {command} --ckpt_path {run}" for command in ("calibrate", "evaluate")]
    return "\n".join(lines)


def plan(
    fit_args: Sequence[str], folds: Sequence[int] | None, seeds: Sequence[int] | None, launch: Launch = LOCAL
) -> "Experiment":
    """Read settings and data and choose the runs to train; arguments as in :func:`crossval`."""
    check_arguments("fit", fit_args)

    from mtmsa_lightning.training.lightning_cli import UnstartedCLI
    from mtmsa_lightning.training.trainer_commands import run_trainer_command

    cli = run_trainer_command("fit", list(fit_args), UnstartedCLI)
    assert isinstance(cli, UnstartedCLI)
    del cli.model  # built only to check its settings; a study has many experiments
    experiment = Experiment(cli, tuple(fit_args), launch)
    experiment.choose(folds, seeds)
    _check_earlier_networks(experiment)
    return experiment


def _check_earlier_networks(experiment: "Experiment") -> None:
    """Raise OverlapError for initial weights or a teacher trained on test faces of a fold, unless allowed."""
    from mtmsa_lightning.data.overlap import check_overlap
    from mtmsa_lightning.runs.initial_weights import earlier_trainings, trained_network

    model, data = experiment.settings["model"], experiment.cli.datamodule
    teachers = model["teacher"] if isinstance(model["teacher"], list) else [model["teacher"]]
    for key, path in [("weights", model["weights"]), *(("teacher", each) for each in teachers)]:
        network = trained_network(path)
        if network is None:
            continue
        for fold, fingerprints in experiment.fingerprints.items():
            before = earlier_trainings(path, network.get("provenance") or {}, fingerprints)
            try:
                check_overlap(before, data, force=experiment.settings["allow_overlap"], fold=fold)
            except DataError as error:
                raise type(error)(f"--model.{key} {path}, fold {fold}: {error}") from error


def summarise(
    experiment: "Experiment", failures: "Mapping[Trial, str]"
) -> "tuple[str | None, dict[Trial, str]]":
    """Write the folder of the cross-validation.

    Returns:
        The summary as Markdown (None without a complete run), and the reasons for missing runs.
    """
    from mtmsa_lightning.studies.summary import write_crossval

    trials = experiment.trials
    runs = {trial[:2]: run for trial in trials if (run := experiment.complete_run(trial))}
    missing = {trial: failures.get(trial, "not complete") for trial in trials if trial[:2] not in runs}
    if not runs:
        return None, missing
    lacking = {trial[:2]: reason for trial, reason in missing.items()}
    return write_crossval(experiment.folder, experiment.name, runs, lacking, experiment.all_folds), missing


def _protocol_folds(data: "FaceDataModule") -> tuple[int, ...]:
    """Read the data and return the numbers of the protocol's folds."""
    try:
        data.prepare_data()
    except DataError:
        folds = data.folds
        if data.fold in folds:
            raise
        data.fold = folds[0]  # the fold of the config does not exist and is not needed
        data.prepare_data()
    return data.folds


class Trial(NamedTuple):
    """One fold trained with one seed."""

    fold: int
    seed: int

    def __str__(self) -> str:
        return f"fold{self.fold}-seed{self.seed}"


class Experiment:
    """The settings and data that all trials of a cross-validation share."""

    def __init__(self, cli: "UnstartedCLI", fit_args: tuple[str, ...], launch: Launch) -> None:
        self.cli = cli
        self.fit_args = fit_args
        self.settings = cli.plain_settings
        self.name: str = self.settings["name"]
        self.root = Path(self.settings["trainer"]["default_root_dir"] or "runs")
        self.folder: Path = self.root / self.name / "crossval"
        self.remote = launch.place != "local"
        self.all_folds: tuple[int, ...] = ()
        self.trials: list[Trial] = []
        self.fingerprints: dict[int, dict[str, str]] = {}  # of the chosen folds
        self._completed: dict[str, dict[str, Any] | None] = {}  # by recorded settings
        self.workers = None  # of each run's loader, unless given
        parallel = launch.parallel or 1
        if not self.remote and parallel > 1 and self.settings["data"]["init_args"].get("num_workers") is None:
            self.workers = max(1, cli.datamodule.num_workers // parallel)
        if not self.settings["test_after_fit"] or self.settings["trainer"]["fast_dev_run"]:
            raise ConfigError("crossval needs test metrics: set test_after_fit true and fast_dev_run false")
        limit = self.settings["trainer"]["limit_test_batches"]
        if limit is not None and not (isinstance(limit, float) and limit == 1):  # the integer 1 is one batch
            raise ConfigError("crossval needs metrics on whole test parts: leave limit_test_batches out")

    def choose(self, folds: Sequence[int] | None, seeds: Sequence[int] | None) -> None:
        """Choose the trials, all folds of a seed before those of the next; by default all folds."""
        data = self.cli.datamodule
        self.all_folds = _protocol_folds(data)
        folds = self.all_folds if folds is None else folds
        unknown = [fold for fold in folds if fold not in self.all_folds]
        if unknown:
            known = f"its folds are {[*self.all_folds]}"
            raise ConfigError(f"protocol {data.protocol!r} has no fold {unknown[0]}; {known}")
        for fold in folds:
            split = data.split_of(fold)
            self.fingerprints[fold] = split.fingerprints
            for part in ("train", "test"):
                if not len(getattr(split, part)):
                    what = f"protocol {data.protocol!r} has no {part} part"
                    raise ConfigError(f"{what}: nothing to cross-validate")
        seeds = [int(self.settings["seed_everything"])] if seeds is None else seeds
        self.trials = [Trial(fold, seed) for seed in dict.fromkeys(seeds) for fold in folds]

    def settings_of(self, trial: Trial) -> dict[str, Any]:
        """Return the settings of the trial's run."""
        settings = deepcopy(self.settings) | {"name": self.name_of(trial), "seed_everything": trial.seed}
        settings["data"]["init_args"]["fold"] = trial.fold
        return settings

    def name_of(self, trial: Trial) -> str:
        """Return the name of the trial's runs."""
        return f"{self.name}/{trial}"

    def wait_for_others(self, trial: Trial) -> None:
        """Wait for runs of a killed cross-validation to save and end."""
        deadline = time.monotonic() + GRACE
        for lock in (self.root / self.name_of(trial)).glob(f"*/{LOCK}"):
            while (who := holder(lock.parent)) and time.monotonic() < deadline:
                time.sleep(0.2)
            if who:
                raise DataError(f"{lock.parent}: {who} still trains {trial}: wait for it or stop it")

    def complete_run(self, trial: Trial) -> Path | None:
        """Return the newest run that was trained and tested with these settings on this data."""
        differing = ""
        for run in runs_with("run.json", self.root / self.name_of(trial)):
            if is_finished(run):
                reasons = self.differences(trial, run)
                if not reasons:
                    return run.absolute()
                differing = differing or f"{run} is not used: {'; '.join(reasons[:5])}"
        if differing:
            log.info("[%s] %s", self.name_of(trial), differing)
        return None

    def interrupted_run(self, trial: Trial) -> Path | None:
        """Return the run that ``--ckpt_path last`` continues, if it belongs to this trial."""
        settings = self.settings_of(trial)
        try:
            run = resumable_run(self.root, self.name_of(trial), settings)
        except CheckpointError:
            return None
        return None if training_differences(read_config(run), settings) or self.moved(trial, run) else run

    def differences(self, trial: Trial, run: Path) -> list[str]:
        """Return the reasons why a run does not belong to this trial."""
        settings = read_config(run)
        if not training_differences(settings, self.settings_of(trial)):
            return self.moved(trial, run)  # the same settings: completing them takes a second
        recorded = self._complete(settings)
        if recorded is None:
            return ["its settings are not valid any more"]
        return training_differences(recorded, self.settings_of(trial)) + self.moved(trial, run)

    def _complete(self, recorded: dict[str, Any]) -> dict[str, Any] | None:
        """Return a run's settings with the defaults of those added since; None if they are not valid.

        Parsing is slow: runs that differ in name, seed and fold alone share it.
        """
        settings = deepcopy(recorded)
        own: dict[str, Any] = {
            key: settings.pop(key) for key in ("name", "seed_everything") if key in settings
        }
        data = (settings.get("data") or {}).get("init_args") or {}
        fold = {"fold": data.pop("fold")} if "fold" in data else {}
        key = to_json(settings, default=str)
        if key not in self._completed:
            self._completed[key] = self.cli.completed(settings)
        completed = deepcopy(self._completed[key])
        if completed is not None:
            completed |= own
            completed["data"]["init_args"] |= fold
        return completed

    def moved(self, trial: Trial, run: Path) -> list[str]:
        """Return the parts of the split whose faces or labels have changed since a run."""
        now = self.fingerprints[trial.fold]
        then = read_record(run).get("data", {}).get("fingerprints", {})
        changed = [part for part in now.keys() | then.keys() if now.get(part) != then.get(part)]
        return [f"fingerprints of {', '.join(sorted(changed))} differ"] if changed else []

    def log_of(self, trial: Trial) -> Path:
        """Return the file for the output of a trial."""
        return self.folder / "logs" / f"{trial}.log"

    def job(self, trial: Trial) -> Job:
        """Return the job that trains or continues a trial, in a group for W&B."""
        variables = {"WANDB_RUN_GROUP": self.name, "WANDB_JOB_TYPE": "crossval"}
        return Job(self.name_of(trial), self.command(trial), self.log_of(trial), variables)

    def command(self, trial: Trial) -> tuple[str, ...]:
        """Return the command that trains or continues a trial."""
        args = ["--name", self.name_of(trial), "--data.fold", trial.fold, "--seed_everything", trial.seed]
        if self.workers is not None:
            args += ["--data.num_workers", self.workers]
        interrupted = self.interrupted_run(trial)
        if self.remote:  # a cluster may start the same command again, which then continues this run
            args += ["--run_dir", interrupted or (self.root / self.name_of(trial) / new_name()).absolute()]
        elif interrupted:
            args += ["--ckpt_path", "last"]
        return (sys.executable, "-m", "mtmsa_lightning", "fit", *self.fit_args, *map(str, args))


def is_finished(run: Path) -> bool:
    """Return whether a run, since its last start, was trained and tested on its whole test part."""
    record = read_record(run)
    trained = record.get("epochs") is not None and not record.get("failed")
    whole = bool(record.get("test")) and not partial_note(record, "test")
    tested = whole and (run / "predictions" / "test.parquet").is_file()
    return trained and tested and record.get("finished", "") >= last_start(run)


def train(
    experiments: Sequence[Experiment], launcher: Launcher
) -> Iterator[tuple[Experiment, dict[Trial, str]]]:
    """Train all trials that are not complete; yield each experiment after its last one, with its failures."""
    todo: dict[Job, tuple[Experiment, Trial]] = {}
    left: dict[str, int] = {}
    failures: dict[str, dict[Trial, str]] = {experiment.name: {} for experiment in experiments}
    for experiment in experiments:
        jobs = _incomplete(experiment, launcher)
        todo |= {job: (experiment, trial) for trial, job in jobs.items()}
        left[experiment.name] = len(jobs)
    yield from ((experiment, {}) for experiment in experiments if not left[experiment.name])
    for job, status, seconds in launcher.run(list(todo)):
        experiment, trial = todo[job]
        if status == 0:
            log.info("[%s] done in %.0f s", job.name, seconds)
        else:
            failed = failures[experiment.name]
            failed[trial] = f"failed with status {status}, see {job.log}"
            log.warning("[%s] %s\n%s", job.name, failed[trial], tail(job.log, FAILURE_LINES))
        left[experiment.name] -= 1
        if not left[experiment.name]:
            yield experiment, failures[experiment.name]


def _incomplete(experiment: Experiment, launcher: Launcher) -> dict[Trial, Job]:
    """Return the trials that are not complete, with their jobs."""
    jobs, complete = {}, []
    for trial in experiment.trials:
        queued = launcher.has(experiment.log_of(trial))
        if not queued:
            experiment.wait_for_others(trial)
        if run := experiment.complete_run(trial):
            complete.append(run)
            log.info("[%s] complete: %s", experiment.name_of(trial), run)
        else:
            begins = "continued" if experiment.interrupted_run(trial) else "to train"
            log.info("[%s] %s", experiment.name_of(trial), "queued" if queued else begins)
            jobs[trial] = experiment.job(trial)
    warn_of_replacing(experiment.folder, complete)
    return jobs


def print_commands(experiments: Sequence[Experiment]) -> None:
    """Print what each trial is, and the commands of those that are not complete."""
    for experiment in experiments:
        for trial in experiment.trials:
            if run := experiment.complete_run(trial):
                print(f"# {experiment.name_of(trial)}: complete: {run}")
            else:
                print(shlex.join(experiment.job(trial).command))


def warn_of_replacing(folder: Path, complete: Collection[Path]) -> None:
    """Warn if the new summary will lack runs of the existing one."""
    try:
        old = from_json(read_regular(folder / "summary.json"))
        runs = [each["run"] for each in old["runs"]]
    except (OSError, ValueError, LookupError, TypeError):
        return  # missing or damaged
    kept = {str(Path(run.parent.name, run.name)) for run in complete}
    lost = [run for run in runs if run not in kept]
    if lost:
        names = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        log.warning("%s: replaces the summary of %s with %s; --name keeps both", folder, old["name"], names)
