"""The commands fit, validate and test: LightningCLI with run directories, records and reports."""

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed
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
from mtmsa_lightning._utils.yaml_text import load_yaml
from mtmsa_lightning.data.augment.pipelines import read_setting
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.datasets import DATA
from mtmsa_lightning.errors import CheckpointError, ConfigError, Preempted
from mtmsa_lightning.models.heads.age import AgeHead
from mtmsa_lightning.models.heads.classes import ClassHead
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.checkpoints import checkpoint_file
from mtmsa_lightning.runs.directory import BEGINNING, LAST, check_run_dir, open_run, resumable_run
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.runs.status import warn_unfinished
from mtmsa_lightning.settings.class_paths import names_in, parsing
from mtmsa_lightning.settings.configs import (
    shipped_configs,
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
from mtmsa_lightning.training.checkpoint_settings import (
    CALL_ARGUMENTS,
    check_architecture,
    continuing,
    follow_checkpoint,
)
from mtmsa_lightning.training.compilation import compile_network
from mtmsa_lightning.training.early_checks import CONTINUE
from mtmsa_lightning.training.setting_hints import RUN_OPTIONS

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

TRAINER_DEFAULTS = {
    "default_root_dir": "runs",
    "use_distributed_sampler": False,  # our samplers distribute the faces
    "enable_model_summary": False,
    "num_sanity_val_steps": 1,
    "log_every_n_steps": 1,  # the default warns in epochs with fewer than 50 steps
}

DATASETS = [getattr(mtmsa_lightning, name) for name in DATA.values()]
"""Imported so that the parser finds them by name, ``--data MORPH``."""

BASES = (AgeHead, ClassHead, FaceDataModule)
"""Classes of which settings may name the user's own subclasses."""


class TrainingCLI(LightningCLI):
    """A command of the Trainer on MTMSA and a face DataModule.

    Args:
        command: The command.
        args: Its arguments, in the order of precedence.
        recorded: Model settings recorded in the checkpoint, and the ``preparation`` of its training data.
        held: Stack that takes the lock of the run directory; by default it is released at the end.
        given: The arguments as the user gave them; by default ``args``.
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
            try:  # LightningCLI parses, builds and runs in __init__
                super().__init__(
                    MTMSA, FaceDataModule, subclass_mode_data=True,
                    save_config_callback=None,  # RunRecord writes it, without CALL_ARGUMENTS
                    seed_everything_default=0, trainer_defaults=TRAINER_DEFAULTS,
                    parser_kwargs=kwargs | {command: kwargs | HELP[command]},
                    auto_configure_optimizers=False,
                    load_from_checkpoint_support=False,  # MTMSA records its hyperparameters as plain values
                    args=[command, *args],
                )  # fmt: skip
            except (Stopped, SIGTERMException) as stop:  # Lightning would exit with status 0
                raise self._stopped_outside_of_steps(str(stop) or "SIGTERM") from None
            except Exception as error:
                self._close_loggers_after(error)
                raise

    def _close_loggers_after(self, error: Exception) -> None:
        """Close the W&B run of a failed command, so that no later run of this process joins it."""
        trainer: Trainer | None = getattr(self, "trainer", None)
        if trainer and trainer.world_size == 1 and not isinstance(error, Preempted):
            with suppress(Exception):  # the error itself is raised
                finish(trainer.loggers, failed=True)

    def _stopped_outside_of_steps(self, signal: str) -> Preempted:
        """Return the exception for a signal before the first or after the last step."""
        run: Path | None = getattr(self, "run", None)
        how = "the same command starts again"
        if run and self.command == "fit" and (run / LAST).is_file():
            how = f"continue by: {continuing(run, self.command, self.given)}"
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

    @property
    def settings(self) -> Any:
        """The parsed settings of the command."""
        return self.config[self.command]

    def before_instantiate_classes(self) -> None:
        """Choose the run directory: a new one or the one to continue."""
        if self.command != "fit" and self.recorded:
            follow_checkpoint(self.settings.data.init_args, self.recorded, self.arguments)
        if "augment" in self.settings.data.init_args:  # its file may change later
            self.settings.data.init_args.augment = read_setting(self.settings.data.init_args.augment)
        plain = self.settings.clone()
        for key in CALL_ARGUMENTS:
            plain.pop(key, None)
        self.config_text = self._parser(self.command).dump(plain, skip_unset=False)
        self.plain_settings: dict[str, Any] = load_yaml(self.config_text)
        self._open_run()

    def _open_run(self) -> None:
        root, name = self.settings.trainer.default_root_dir or "runs", self.settings.name
        given = self.settings.run_dir and Path(self.settings.run_dir).absolute()
        there = given and (given / LAST).is_file()
        continued = self.command == "fit" and (self.settings.ckpt_path == CONTINUE or there)
        made: list[Path] = []
        if continued:
            self.run = resumable_run(root, name, self.plain_settings, given)
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
            self.model.hparams[key] = self.plain_settings["model"][key]
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
            what = "torch synchronises BatchNorm statistics on GPUs only"
            raise ConfigError(f"trainer.sync_batchnorm: {what}; leave it out on the CPU")
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
            logged = self.run, mode, record["wandb_id"], self.settings.name, self.command, self.plain_settings
            loggers.append(wandb_logger(*logged))
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

    after_validate = after_test

    def _finish(self) -> None:
        leave_process_group()
        if self.trainer.is_global_zero:
            best = self.command == "fit" and self.best.best_model_path
            files = Path(best) if best else None
            log_files(self.trainer.loggers, self.run, self.settings.name, files, self.settings.wandb_faces)
            finish(self.trainer.loggers)
            report(self.run, read_record(self.run), self.datamodule)

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

    def completed(self, settings: dict[str, Any]) -> dict[str, Any] | None:
        """Return a run's settings with the defaults of those added since; None if they are not valid."""
        parser = self._parser(self.command)
        try:
            with parsing(["config.yaml of a run"], names_in(self.plain_settings), BASES):
                return dict(load_yaml(parser.dump(parser.parse_object(settings), skip_unset=False)))
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
