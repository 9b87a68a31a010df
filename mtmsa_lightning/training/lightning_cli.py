"""The commands fit, validate and test: LightningCLI with run directories, records and reports."""

import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

import mtmsa_lightning
from mtmsa_lightning._utils.devices import best_precision, choose_accelerator
from mtmsa_lightning._utils.folders import locked
from mtmsa_lightning._utils.launch import is_first_process, launch_variables_removed
from mtmsa_lightning._utils.signals import TRY_AGAIN, Stopped, stopped_by
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.datasets import CLASSES
from mtmsa_lightning.errors import CheckpointError, ConfigError, MTMSAError, Preempted
from mtmsa_lightning.models.heads.age import AgeHead
from mtmsa_lightning.models.heads.classes import ClassHead
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.checkpoints import checkpoint_file, read_checkpoint
from mtmsa_lightning.runs.directory import BEGINNING, LAST, check_run_dir, open_run, resumable_run, run_of
from mtmsa_lightning.runs.pretrained import WEIGHTS
from mtmsa_lightning.runs.record import read_record
from mtmsa_lightning.runs.recorded_settings import SECTIONS, load_config
from mtmsa_lightning.runs.status import places_of_run, warn_unfinished
from mtmsa_lightning.settings.class_paths import import_from_here, names_in, own_names, parsing
from mtmsa_lightning.settings.configs import (
    by_precedence,
    find_config,
    option,
    shipped_configs,
    split_configs,
    without_options,
)
from mtmsa_lightning.settings.error_messages import as_config_error, explain
from mtmsa_lightning.training.callbacks.checkpoints import (
    AtomicCheckpointIO,
    BestCheckpoint,
    LastCheckpoint,
    StepSeed,
)
from mtmsa_lightning.training.callbacks.console import EpochLine, LossBar, report
from mtmsa_lightning.training.callbacks.ema import EMA
from mtmsa_lightning.training.callbacks.epoch_csv import EpochCSV
from mtmsa_lightning.training.callbacks.logged_plots import Panels, shows_pictures
from mtmsa_lightning.training.callbacks.prediction_writer import PredictionWriter
from mtmsa_lightning.training.callbacks.preemption import Preemption
from mtmsa_lightning.training.callbacks.run_record import RunRecord
from mtmsa_lightning.training.callbacks.training_monitor import TrainingMonitor
from mtmsa_lightning.training.callbacks.wandb import choose_mode, finish, log_files, new_run_id, wandb_logger
from mtmsa_lightning.training.compilation import compile_network
from mtmsa_lightning.training.preflight import CONTINUE, asks_for_help, names_data
from mtmsa_lightning.training.setting_hints import RUN_OPTIONS, known_settings

log = logging.getLogger(__name__)

_CONFIGS = ", ".join(name for name in shipped_configs() if "/" not in name)
HELP = {
    command: {
        "usage": f"mtmsa {command} {needs} [--KEY VALUE ...]",
        "description": f"{does} Shipped configs: {_CONFIGS}; overrides for a second --config: "
        "experiments/README.md. --data takes the name of a dataset or class; --root, --columns, "
        "--num_workers, --accelerator, --devices and --precision are short for --data.root, "
        "--trainer.accelerator and so on. `--data.help MORPH` (or Adience, UTKFace, ...) lists the "
        "settings of a dataset, `--print_config` prints all settings of a command line.",
    }
    for command, needs, does in (
        ("fit", "--config X.yaml", "Train, then test the best checkpoint; `--ckpt_path last` continues."),
        ("validate", "--ckpt_path RUN [--config X.yaml]", "Evaluate a checkpoint on the validation part."),
        ("test", "--ckpt_path RUN [--config X.yaml]", "Test a checkpoint and write predictions."),
    )
}

ARCHITECTURE = ("msa", "last_stride", "aux_stage", "age", "gender", "race")
"""Model settings that must equal those that a checkpoint's weights were trained with."""

DATASETS = [getattr(mtmsa_lightning, name) for name in CLASSES.values()]
"""Imported so that the parser finds them by name, ``--data MORPH``."""

BASES = (AgeHead, ClassHead, FaceDataModule)
"""Classes of which settings may name the user's own subclasses."""

CALL_ARGUMENTS = ("ckpt_path", "run_dir", "allow_classes")
"""Arguments of one command, which are not recorded as settings."""


def run_trainer_command(
    command: str, args: list[str], cli: "Callable[..., TrainingCLI] | None" = None
) -> "TrainingCLI":
    """Run ``fit``, ``validate`` or ``test``.

    Args:
        command: The command.
        args: Its arguments, after :func:`.preflight.check_arguments`.
        cli: Class that runs it, by default :class:`TrainingCLI`.

    Returns:
        The instance that ran it.

    Raises:
        MTMSAError: An argument, a config, the checkpoint or the data is wrong.
    """
    given = args
    ckpt_path = option(args, "ckpt_path")
    hparams = None
    if ckpt_path not in (None, "null", CONTINUE):
        ckpt_path = str(checkpoint_file(str(ckpt_path)))
        checkpoint = read_checkpoint(ckpt_path)
        hparams = checkpoint["hyper_parameters"]
        if command == "fit" and "optimizer_states" not in checkpoint:
            raise ConfigError(no_training_state(Path(ckpt_path)))
        args = [*args, f"--ckpt_path={ckpt_path}"]
    recorded = hparams and hparams | {"preparation": (checkpoint.get("provenance") or {}).get("preparation")}
    own = own_names(args)
    import_from_here(own)
    untrusted = [str(ckpt_path)] if hparams else []
    of_run = config_of_run(args, str(ckpt_path)) if hparams else None
    if of_run:
        untrusted.append(str(of_run.file))
        log.info("config: %s", of_run.file)
        if command == "fit" and option(args, "run_dir") is None:
            left = f" without its {', '.join(of_run.left)}" if of_run.left else ""
            line = continuing(of_run.file.parent, command, [f"--config={of_run.file}", *given])
            log.info("a new run goes on from there%s; to continue the same run: %s", left, line)
        args = [*places_of_run(of_run.file.parent, args), *args]
    for name in split_configs(args)[0] if not asks_for_help(args) else ():
        log.info("config: %s", find_config(name))
    try:
        ordered = by_precedence(args, hparams, training=command == "fit", of_run=of_run and of_run.settings)
        with parsing(untrusted, own, BASES):
            return (cli or partial(TrainingCLI, given=given))(command, ordered, recorded)
    except MTMSAError:
        raise
    except Exception as error:
        named = [f"--config={of_run.file}", *args] if of_run else args
        message = explain(error, lambda: known_settings(named))
        if "loading state_dict" in str(error):
            message = mismatch(str(ckpt_path), str(error))
        if message is None:
            raise
        raise ConfigError(message) from error


def no_training_state(checkpoint: Path) -> str:
    """Return the message for a checkpoint that a training cannot be continued from."""
    run = run_of(checkpoint)
    last = f"continue its run by --ckpt_path {run / LAST}, or " if run and (run / LAST).is_file() else ""
    weights = checkpoint.parent if checkpoint.name == WEIGHTS else checkpoint
    return f"{checkpoint} holds weights only: {last}train from its weights by --model.weights {weights}"


def mismatch(ckpt_path: str, error: str) -> str:
    """Return the message for weights that do not fit the model."""
    keys = " ".join(error.split())[:300]
    return (
        f"{ckpt_path}: its weights do not fit the model of the command line and --config: {keys} ...\n"
        "Leave --config out to use the settings of the checkpoint's run, or give a config that fits."
    )


def check_architecture(recorded: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse to evaluate a checkpoint with another network than the one that was trained.

    Raises:
        ConfigError: A setting changes the network. Some changes would even load, since dilation rates have
            no weights.
    """
    for key in ARCHITECTURE:
        if key in recorded and recorded[key] != settings[key]:
            raise ConfigError(
                f"--model.{key} {settings[key]} does not fit the checkpoint, which was trained with "
                f"{recorded[key]}: leave it out"
            )


class ConfigOfRun(NamedTuple):
    """The config of a checkpoint's run.

    Attributes:
        file: The file.
        settings: Its settings, without those about uploads and output folders.
        left: Names of the settings with a value that were removed.
    """

    file: Path
    settings: dict[str, Any]
    left: tuple[str, ...]


def config_of_run(args: Sequence[str], ckpt_path: str) -> ConfigOfRun | None:
    """Return the config of a checkpoint's run, which is used if no config is given.

    Raises:
        CheckpointError: It chooses an output folder, or names other files to read.
        ConfigError: It cannot be read.
    """
    file = checkpoint_file(ckpt_path).parent.parent / "config.yaml"
    if split_configs(args)[0] or not file.is_file():
        return None
    settings = load_config(file)
    for key in (*CALL_ARGUMENTS, "config"):
        if key in settings:
            raise CheckpointError(f"{file}: {key} is given on a command line only: remove it there")
    for key in (*SECTIONS, "checkpoint"):
        if not isinstance(settings.get(key), dict | None):  # the parser reads a string as a file name
            raise CheckpointError(f"{file}: {key} must hold `name: value` lines")
    trainer = settings.get("trainer") or {}
    for key in (*settings, *trainer):
        if not str(key).isidentifier():  # such as `trainer.logger` or `logger+`
            raise CheckpointError(f"{file}: there is no setting {key!r}")
    name = Path(str(settings.get("name", "")))
    if name.is_absolute() or ".." in name.parts:
        raise CheckpointError(f"{file}: name {str(name)!r} leads out of the folder of runs")
    left = []
    for place, section, keys in (
        ("", settings, ("wandb", "wandb_faces")), ("trainer.", trainer, ("logger", "default_root_dir")),
    ):  # fmt: skip
        for key in keys:
            if section.get(key) not in ("disabled", False) and section.pop(key, None) not in (None, "runs"):
                left.append(f"{place}{key}")
    return ConfigOfRun(file, settings, tuple(left))


def follow_checkpoint(settings: Any, recorded: Mapping[str, Any], args: Sequence[str]) -> None:
    """Set image size and crop of the data to those of the checkpoint, unless the command line gives them.

    Args:
        settings: Arguments of the DataModule, changed in place.
        recorded: Model settings of the checkpoint, and the ``preparation`` of its training data; with one,
            its crop does not apply to raw photos.
        args: The command line.
    """
    changed = []
    for key in ("image_size",) if recorded.get("preparation") else ("image_size", "crop"):
        if any(option(args, f"data.{prefix}{key}") is not None for prefix in ("", "init_args.")):
            continue
        if key in settings and key in recorded and settings[key] != recorded[key]:
            changed.append(f"data.{key} {recorded[key]} instead of {settings[key]}")
            settings[key] = recorded[key]
    if changed:
        log.info("set from the checkpoint: %s", ", ".join(changed))


def continuing(run: Path, command: str, args: Sequence[str]) -> str:
    """Return the command line that continues a run.

    Args:
        run: Its directory.
        command: The command.
        args: Its arguments; if they name no data, the config of the run is added.
    """
    given = without_options(args, ("ckpt_path", "run_dir"))
    if not names_data(given):
        given = [f"--config={run / 'config.yaml'}", *given]
    line = shlex.join(["mtmsa", command, *given, "--run_dir", str(run)])
    if "SLURM_STEP_ID" in os.environ:
        return f"the same launcher (srun) with: {line}"
    return f"the same launcher (torchrun) with: {line}" if "RANK" in os.environ else line


class TrainingCLI(LightningCLI):
    """A command of the Trainer on MTMSA and a face DataModule.

    Args:
        command: The command.
        args: Its arguments, in the order of precedence.
        recorded: Model settings recorded in the checkpoint, and the ``preparation`` of its training data.
        held: Stack that takes the lock of the run directory; by default it is released at the end.
        given: The arguments as the user gave them; by default ``args``.

    Attributes:
        run: The run directory.
        writer: Its ``table`` holds the predictions after a test.
    """

    predictions = "predictions/test.parquet"

    def __init__(
        self,
        command: str,
        args: list[str],
        recorded: dict[str, Any] | None = None,
        held: ExitStack | None = None,
        given: Sequence[str] | None = None,
    ) -> None:
        self.command = command
        self.given = args if given is None else given
        self.recorded = recorded or {}
        self.arguments = args
        kwargs: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}
        self.held = held or ExitStack()
        with launch_variables_removed(), nullcontext() if held else self.held:
            try:
                self._run_command(args, kwargs | {command: kwargs | HELP[command]})
            except (Stopped, SIGTERMException) as stop:  # Lightning would exit with status 0
                raise self._stopped_outside_of_steps(str(stop) or "SIGTERM") from None
            except Exception as error:
                self._close_loggers_after(error)
                raise

    def _run_command(self, args: list[str], parser_kwargs: dict[str, Any]) -> None:
        """Parse, build and run: LightningCLI does it all in ``__init__``."""
        super().__init__(
            MTMSA,
            FaceDataModule,
            subclass_mode_data=True,
            save_config_callback=None,  # RunRecord writes it, without CALL_ARGUMENTS
            seed_everything_default=0,
            trainer_defaults={
                "default_root_dir": "runs",
                "use_distributed_sampler": False,  # our samplers distribute the faces
                "enable_model_summary": False,
                "num_sanity_val_steps": 1,
                "log_every_n_steps": 1,  # the default warns in epochs with fewer than 50 steps
            },
            parser_kwargs=parser_kwargs,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # MTMSA records its hyperparameters as plain values
            args=[self.command, *args],
        )

    def _close_loggers_after(self, error: Exception) -> None:
        """Close the W&B run of a failed command, so that no later run of this process joins it.

        Not with several processes, which end together and at once; W&B closes the run then.
        """
        trainer: Trainer | None = getattr(self, "trainer", None)
        if trainer is None or trainer.world_size > 1 or isinstance(error, Preempted):
            return
        with suppress(Exception):  # the error itself is raised
            finish(trainer.loggers, failed=True)

    def _stopped_outside_of_steps(self, signal: str) -> Preempted:
        """Return the exception for a signal before the first or after the last step."""
        run: Path | None = getattr(self, "run", None)
        saved = run is not None and self.command == "fit" and (run / LAST).is_file()
        how = (
            f"continue by: {continuing(run, self.command, self.given)}"
            if run and saved
            else "the same command starts again"
        )
        log.info("%s", stopped_by(signal, how))
        return Preempted(how, TRY_AGAIN)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the one command: building the parsers of all takes a second."""
        ours = {"ckpt_path", "verbose", "weights_only"}  # replaced or fixed here
        return {self.command: LightningCLI.subcommands()[self.command] | ours}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse without Lightning's warning about arguments from Python."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]

    def _parse_ckpt_path(self) -> None:
        """Do nothing: ``by_precedence`` has added the checkpoint's settings."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of a run, and link model arguments to the data."""
        for name, (kind, default, text) in RUN_OPTIONS.items():
            parser.add_argument(f"--{name}", type=kind, default=default, help=text)
        parser.add_class_arguments(BestCheckpoint, "checkpoint")
        for key in ("image_size", "crop", "age_groups"):
            parser.link_arguments(f"data.{key}", f"model.{key}", apply_on="instantiate")
        for key in ("gender_classes", "race_classes"):  # a trained head keeps its classes on other data
            self._link_classes(parser, key)

    def _link_classes(self, parser: LightningArgumentParser, key: str) -> None:
        def of_checkpoint_or(of_data: Sequence[str]) -> Sequence[str]:  # --help shows this name
            classes: Sequence[str] = self.recorded.get(key, of_data)
            return classes

        parser.link_arguments(f"data.{key}", f"model.{key}", of_checkpoint_or, apply_on="instantiate")

    # ---------------------------------------------------------------- the run

    @property
    def settings(self) -> Any:
        """The parsed settings of the command."""
        return self.config[self.command]

    def before_instantiate_classes(self) -> None:
        """Choose the run directory: a new one or the one to continue."""
        if self.command != "fit" and self.recorded:
            follow_checkpoint(self.settings.data.init_args, self.recorded, self.arguments)
        plain = self.settings.clone()
        for key in CALL_ARGUMENTS:
            plain.pop(key, None)
        self.config_text = self._parser(self.command).dump(plain, skip_unset=False)
        self._open_run()

    def _open_run(self) -> None:
        root, name = self.settings.trainer.default_root_dir or "runs", self.settings.name
        given = self.settings.run_dir and Path(self.settings.run_dir).absolute()
        there = given and (given / LAST).is_file()
        continued = self.command == "fit" and (self.settings.ckpt_path == CONTINUE or there)
        made: list[Path] = []
        if continued:
            self.run = resumable_run(root, name, yaml.safe_load(self.config_text), given)
            self.settings.ckpt_path = str(self.run / LAST)
            log.info("continuing %s", self.run)
        elif given:
            self.run = given
        else:
            self.run, made = open_run(root, name)
        if is_first_process():  # the other processes share its lock
            if not continued:
                check_run_dir(self.run, self.command, fresh=not given)
            self.held.enter_context(locked(self.run, f"mtmsa {self.command}", made, BEGINNING))

    def instantiate_classes(self) -> None:
        """Build data, model and trainer, with errors about their arguments as ConfigError."""
        with as_config_error():
            super().instantiate_classes()
        for key in ("optimizer", "scheduler"):
            self.model.hparams[key] = yaml.safe_load(self.config_text)["model"][key]
        if self.settings.compile:
            compile_network(self.model)
        if self.recorded and self.command != "fit":
            check_architecture(self.recorded, dict(self.model.hparams))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the Trainer with the callbacks and loggers of the config and of the run."""
        given = self._get(self.config_init, "trainer")
        record: dict[str, Any] = {"name": self.settings.name, "monitor": self.settings.checkpoint.monitor}
        if self.command == "fit":
            record["seed"] = self.model.seed = int(self.settings.seed_everything)
        else:
            record["checkpoint"] = str(Path(self.settings.ckpt_path).absolute())
            warn_unfinished(checkpoint_file(self.settings.ckpt_path))
        kwargs["logger"] = self._loggers(_as_list(given.logger), record)
        kwargs["accelerator"] = choose_accelerator(given.accelerator)
        if given.precision is None:
            kwargs["precision"] = best_precision(kwargs["accelerator"])
        kwargs["plugins"] = [*_as_list(given.plugins), AtomicCheckpointIO()]
        callbacks = _as_list(given.callbacks)
        own_bar = any(isinstance(each, ProgressBar) for each in callbacks)
        if given.enable_progress_bar is None:
            kwargs["enable_progress_bar"] = own_bar or sys.stdout.isatty()
        if kwargs.get("enable_progress_bar", given.enable_progress_bar) and not own_bar:
            callbacks.append(LossBar())
        kwargs["callbacks"] = [*callbacks, *self._callbacks(record, kwargs)]
        self.model.allow_overlap = self.settings.allow_overlap
        trainer = super().instantiate_trainer(**kwargs)
        if given.sync_batchnorm and trainer.strategy.root_device.type == "cpu":
            raise ConfigError(
                "trainer.sync_batchnorm: torch synchronises BatchNorm statistics on GPUs only; leave it out "
                "on the CPU"
            )
        return trainer

    def _loggers(self, given: list[Any], record: dict[str, Any]) -> list[Any]:
        """Return the loggers of the run and the config; none for ``--trainer.logger false``."""
        if given == [False]:
            return []
        loggers: list[Any] = [EpochCSV(self.run / "metrics.csv")] if self.command == "fit" else []
        loggers += [each for each in given if each is not True]
        if any(isinstance(each, WandbLogger) for each in loggers):
            log.info("wandb: by the logger of trainer.logger")
            return loggers
        mode, reason = choose_mode(self.settings.wandb)
        log.info("wandb: %s (%s)", mode, reason)
        if mode != "disabled":
            record["wandb_id"] = read_record(self.run).get("wandb_id") or new_run_id()
            config = yaml.safe_load(self.config_text)
            logger = wandb_logger(
                self.run, mode, record["wandb_id"], self.settings.name, self.command, config
            )
            loggers.append(logger)
        return loggers

    def _callbacks(self, record: dict[str, Any], trainer: dict[str, Any]) -> list[Any]:
        self.writer = PredictionWriter(self.run / self.predictions)
        callbacks: list[Any] = [RunRecord(self.run, self.config_text, record), self.writer]
        if any(map(shows_pictures, trainer["logger"])):
            callbacks.append(Panels(self.settings.wandb_faces))
        if self.command != "fit":
            return [*callbacks, Preemption(None)]
        self.best = BestCheckpoint(**self.settings.checkpoint.as_dict())
        for checkpoint in (self.best, last := LastCheckpoint()):
            checkpoint.dirpath = str(self.run / "checkpoints")
        if self.settings.ema is not None:
            callbacks.append(EMA(self.settings.ema))
        seed = StepSeed(int(self.settings.seed_everything))
        command = continuing(self.run, self.command, self.given)
        stop = Preemption(self.run / LAST, command)  # after all others that a step changes
        return [*callbacks, seed, TrainingMonitor(), EpochLine(), stop, self.best, last]

    # ---------------------------------------------------------------- after the command

    def after_fit(self) -> None:
        """Test the best checkpoint and report."""
        if self.settings.trainer.fast_dev_run:
            return
        best = self.best.best_model_path
        if not best:
            log.warning("no best.ckpt and no test: no validation gave a finite %s", self.best.monitor)
        if self.settings.test_after_fit and best and len(self.datamodule.test_dataset):
            self.trainer.test(
                self.model, datamodule=self.datamodule, ckpt_path=best, verbose=False, weights_only=True
            )
        self._finish()

    def after_test(self) -> None:
        """Close the run and report."""
        self._finish()

    def after_validate(self) -> None:
        """Close the run and report."""
        self._finish()

    def _finish(self) -> None:
        leave_process_group()
        if self.trainer.is_global_zero:
            self._close_loggers()
            report(self.run, read_record(self.run), self.datamodule)

    def _close_loggers(self) -> None:
        best = (
            Path(self.best.best_model_path) if self.command == "fit" and self.best.best_model_path else None
        )
        log_files(self.trainer.loggers, self.run, self.settings.name, best, self.settings.wandb_faces)
        finish(self.trainer.loggers)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Pass the checkpoint of a resumed run, and turn off the Trainer's table of results."""
        kwargs: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        kwargs["ckpt_path"] = self.settings.ckpt_path
        kwargs["weights_only"] = True  # a checkpoint must not run code
        return kwargs | ({"verbose": False} if subcommand != "fit" else {})


class UnstartedCLI(TrainingCLI):
    """A command line of ``fit`` whose settings, data and model are built, but nothing is run or written."""

    datamodule: FaceDataModule

    def _set_seed(self) -> None:
        """Do nothing."""

    def _open_run(self) -> None:
        """Do nothing."""

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Check the accelerator only."""
        choose_accelerator(self._get(self.config_init, "trainer").accelerator)

    def _run_subcommand(self, subcommand: str) -> None:
        """Do nothing."""

    @property
    def plain_settings(self) -> dict[str, Any]:
        """The settings, as recorded in a run's ``config.yaml``."""
        return dict(yaml.safe_load(self.config_text))

    def completed(self, settings: dict[str, Any]) -> dict[str, Any] | None:
        """Return recorded settings with the defaults of settings that were added since.

        Args:
            settings: Settings of the ``config.yaml`` of a run.

        Returns:
            The settings; None if they are not valid any more.
        """
        parser = self._parser(self.command)
        try:
            with parsing(["config.yaml of a run"], names_in(self.plain_settings), BASES):
                return dict(yaml.safe_load(parser.dump(parser.parse_object(settings), skip_unset=False)))
        except CheckpointError:
            return None
        except Exception as error:
            if explain(error) is None:
                raise
            return None


def leave_process_group() -> None:
    """Destroy the process group: only the first process continues."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
