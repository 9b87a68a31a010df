"""Sweeps: settings chosen by validation, from a sweep file of W&B, by Optuna and without an account."""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.nested_dicts import nested
from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning._utils.yaml_text import load_yaml
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.settings.configs import SHIPPED, read_mapping
from mtmsa_lightning.studies.jobs import Job, tail
from mtmsa_lightning.studies.launch import Launch

if TYPE_CHECKING:
    import optuna
    import pandas as pd

log = logging.getLogger(__name__)

METHODS = ("grid", "random", "bayes")

RANGES = ("uniform", "int_uniform", "log_uniform_values")
"""Distributions of parameters with ``min`` and ``max``."""


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        file: Its path.
        command: Arguments of ``mtmsa fit`` that all trials share.
        method: One of ``METHODS``.
        metric: Column of ``metrics.csv``; its best epoch counts.
        minimize: Whether less is better.
        fixed: Settings with one value.
        choices: Settings with several.
        ranges: Settings between two numbers, as ``(distribution, least, most)``.
    """

    file: Path
    command: tuple[str, ...]
    method: str
    metric: str
    minimize: bool
    fixed: Mapping[str, Any]
    choices: Mapping[str, tuple[Any, ...]]
    ranges: Mapping[str, tuple[str, float, float]]

    def distributions(self) -> "dict[str, optuna.distributions.BaseDistribution]":
        """Return Optuna's distributions of the settings that vary."""
        from optuna import distributions as known

        found: dict[str, known.BaseDistribution] = {
            name: known.CategoricalDistribution(values) for name, values in self.choices.items()
        }
        for name, (kind, least, most) in self.ranges.items():
            found[name] = (
                known.IntDistribution(int(least), int(most))
                if kind == "int_uniform"
                else known.FloatDistribution(least, most, log=kind == "log_uniform_values")
            )
        return found

    def sampler(self, seed: int) -> "optuna.samplers.BaseSampler":
        """Return Optuna's sampler of the method; a grid has all its trials in the queue of the study."""
        from optuna import samplers

        return samplers.TPESampler(seed=seed) if self.method == "bayes" else samplers.RandomSampler(seed)

    def grid(self) -> list[dict[str, Any]]:
        """Return all combinations of the choices."""
        return [dict(zip(self.choices, values, strict=True)) for values in product(*self.choices.values())]


def read_sweep(name: str) -> Sweep:
    """Read a sweep file, or a shipped one by its name.

    Raises:
        ConfigError: There is no such file, or a key is wrong or not supported; the message names it.
    """
    shipped = [folder / "sweeps" / f"{name}.yaml" for folder in SHIPPED]
    file = next((each for each in (Path(name), *shipped) if each.is_file()), None)
    if file is None:
        raise ConfigError(f"{name}: no such sweep: give a file such as experiments/sweeps/optimiser.yaml")
    content = read_mapping(file, "a sweep")
    try:
        program, (_, command, verb, *args) = content.get("program", "mtmsa"), content["command"]
        method, metric, parameters = content["method"], content["metric"], dict(content["parameters"])
        minimize = {"minimize": True, "maximize": False}[metric.get("goal", "minimize")]
        key = str(metric["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{file}: not a sweep of `mtmsa fit` ({error}); see experiments/sweeps/") from None
    if (program, command, verb) != ("mtmsa", "mtmsa", "fit") or method not in METHODS:
        raise ConfigError(f"{file}: command: must run `mtmsa fit`; method: one of {', '.join(METHODS)}")
    fixed, choices, ranges = {}, {}, {}
    for name, parameter in parameters.items():
        if "value" in parameter:
            fixed[name] = parameter["value"]
        elif "values" in parameter:
            choices[name] = tuple(_plain(value) for value in parameter["values"])
        else:
            ranges[name] = _range(f"{file}: parameters.{name}", parameter)
    if method == "grid" and ranges:
        raise ConfigError(f"{file}: parameters.{next(iter(ranges))}: a grid needs `values`")
    if "early_terminate" in content:
        log.info("%s: early_terminate is for `wandb sweep`: every trial is trained to its end", file)
    args = [arg for arg in args if arg != "${args}"]
    return Sweep(file, tuple(args), method, key, minimize, fixed, choices, ranges)


def _plain(value: Any) -> Any:
    """Return a value that Optuna stores: lists as text, as on the command line."""
    return str(value) if isinstance(value, list | dict) else value


def _range(where: str, parameter: Mapping[str, Any]) -> tuple[str, float, float]:
    """Return distribution, least and most value of a setting."""
    try:
        least, most = parameter["min"], parameter["max"]
        kind = "int_uniform" if isinstance(least, int) and isinstance(most, int) else "uniform"
        kind = parameter.get("distribution", kind)
        if kind not in RANGES or not least <= most or (kind == "log_uniform_values" and least <= 0):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        advice = f"give value, values, or min and max with a distribution of {', '.join(RANGES)}"
        raise ConfigError(f"{where}: {advice}") from None
    return kind, least, most


def run_sweep(
    sweep: Sweep, fit_args: Sequence[str], folder: Path, trials: int, seed: int, launch: Launch
) -> None:
    """Train trials until there are as many as asked for; write ``table.csv`` and ``best.yaml``.

    Trials are kept in ``journal.log``: the same call continues interrupted ones and adds what is missing.

    Args:
        sweep: The sweep.
        fit_args: Arguments of ``mtmsa fit`` for all trials, after those of the file.
        folder: Place of the trials, which are runs, and of the results.
        trials: How many there are to be in all; a grid ends by itself.
        seed: Of the sampler; the runs keep theirs.
        launch: Where the runs are trained, and how many at once.

    Raises:
        ConfigError: Optuna is missing, a setting is wrong, or the metric is not one of the validation.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise ConfigError("mtmsa sweep needs Optuna: pip install 'mtmsa-lightning[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shared = [*sweep.command, *fit_args]
    trainer = _check(sweep, shared)
    backend = JournalFileBackend(str(folder / "journal.log"))
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend), study_name=sweep.file.stem, load_if_exists=True,
        sampler=sweep.sampler(seed), direction="minimize" if sweep.minimize else "maximize",
    )  # fmt: skip
    if sweep.method == "grid":
        for combination in sweep.grid()[:trials]:
            study.enqueue_trial(combination, skip_if_exists=True)
        trials = min(trials, len(sweep.grid()))
    launcher = launch.launcher([trainer], folder)
    while batch := _next(study, sweep, trials, launch.parallel or 1):
        jobs = {_job(sweep, shared, folder, trial): trial for trial in batch}
        for job, status, _ in launcher.run(list(jobs)):
            value = _best_value(folder / job.name / "metrics.csv", sweep) if status == 0 else None
            number = jobs[job].number
            if value is None:
                study.tell(number, state=optuna.trial.TrialState.FAIL)
                log.warning("[%s] failed, see %s\n%s", job.name, job.log, tail(job.log, 12))
            else:
                study.tell(number, value)
                log.info("[%s] %s %.4g with %s", job.name, sweep.metric, value, jobs[job].params)
        _write_results(sweep, study.trials_dataframe(("number", "value", "params", "state")), folder)


def _next(study: "optuna.Study", sweep: Sweep, trials: int, most: int) -> list[Any]:
    """Return the next trials: those that were interrupted, else as many new ones as train at once."""
    from optuna.trial import TrialState

    started = [trial for trial in study.trials if trial.state != TrialState.WAITING]
    interrupted = [trial for trial in started if trial.state == TrialState.RUNNING]
    missing = min(most, trials - len(started))
    return interrupted or [study.ask(sweep.distributions()) for _ in range(missing)]


def _check(sweep: Sweep, shared: Sequence[str]) -> dict[str, Any]:
    """Read the settings of one trial, check them and the metric, and return those of the trainer."""
    from mtmsa_lightning.training.early_checks import check_arguments
    from mtmsa_lightning.training.lightning_cli import UnstartedCLI
    from mtmsa_lightning.training.trainer_commands import run_trainer_command

    first = {name: values[0] for name, values in sweep.choices.items()}
    first |= {name: least for name, (_, least, _) in sweep.ranges.items()}
    args = [*shared, *_options({**sweep.fixed, **first})]
    check_arguments("fit", args)
    cli = run_trainer_command("fit", args, UnstartedCLI)
    assert isinstance(cli, UnstartedCLI)
    known = [f"val/{name}" for name in cli.model.metrics.val_metrics]
    if sweep.metric not in [*known, "val/loss"]:
        raise ConfigError(f"{sweep.file}: metric.name {sweep.metric}: is none of {', '.join(known)}")
    trainer: dict[str, Any] = cli.plain_settings["trainer"]
    return trainer


def _options(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as options, booleans and null as in YAML."""
    return [
        f"--{name}={to_json(value) if value is None or isinstance(value, bool) else value}"
        for name, value in settings.items()
    ]


def _job(sweep: Sweep, shared: Sequence[str], folder: Path, trial: Any) -> Job:
    """Return the job of a trial, whose run directory makes it go on after an interruption."""
    name = f"trial-{trial.number:03d}"
    settings = {**sweep.fixed, **trial.params, "test_after_fit": False, "run_dir": folder / name}
    command = (sys.executable, "-m", "mtmsa_lightning", "fit", *shared, *_options(settings))
    variables = {"WANDB_RUN_GROUP": sweep.file.stem, "WANDB_JOB_TYPE": "sweep"}
    return Job(name, command, folder / "logs" / f"{name}.log", variables)


def _best_value(file: Path, sweep: Sweep) -> float | None:
    """Return the metric of the best epoch of a run; None if it was never computed."""
    import pandas as pd

    if not file.is_file():
        return None
    values = pd.read_csv(file).get(sweep.metric, pd.Series(dtype=float)).dropna()
    return None if values.empty else float(values.min() if sweep.minimize else values.max())


def _write_results(sweep: Sweep, table: "pd.DataFrame", folder: Path) -> None:
    """Write all trials, the best first, and the settings of the best as a config."""
    import yaml

    table.columns = [str(name).removeprefix("params_") for name in table.columns]
    table = table.sort_values("value", ascending=sweep.minimize, na_position="last")
    write_text(folder / "table.csv", table.rename(columns={"value": sweep.metric}).to_csv(index=False))
    best = table.iloc[0]
    if best["value"] != best["value"]:
        return
    names = [*sweep.choices, *sweep.ranges]
    values = {name: best[name].item() if hasattr(best[name], "item") else best[name] for name in names}
    values = {name: load_yaml(value) if isinstance(value, str) else value for name, value in values.items()}
    head = f"# {sweep.file.stem}, trial {best['number']}: {sweep.metric} {best['value']:.4g}\n"
    write_text(folder / "best.yaml", head + yaml.safe_dump(nested(values), sort_keys=False))
