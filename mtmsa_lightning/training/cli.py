"""The verbs fit, validate and test: LightningCLI with our precedence, run directories and reports."""

import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
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

from mtmsa_lightning import MORPH, Adience, FaceCSV, Synthetic, UTKFace
from mtmsa_lightning._utils.devices import best_precision, choose_accelerator
from mtmsa_lightning._utils.folders import locked
from mtmsa_lightning._utils.launch import is_first_process, launch_variables_removed
from mtmsa_lightning._utils.signals import TRY_AGAIN, Stopped, stopped_by
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.errors import CheckpointError, ConfigError, MTMSAError, Preempted
from mtmsa_lightning.models.heads.age import AgeHead
from mtmsa_lightning.models.heads.classes import ClassHead
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.checkpoints import checkpoint_file, read_checkpoint
from mtmsa_lightning.runs.directory import BEGINNING, LAST, check_run_dir, open_run, resumable_run, run_of
from mtmsa_lightning.runs.pretrained import WEIGHTS
from mtmsa_lightning.runs.record import read_record
from mtmsa_lightning.runs.settings import SECTIONS, load_config
from mtmsa_lightning.runs.status import places_of_run, warn_unfinished
from mtmsa_lightning.settings.configs import (
    by_precedence,
    find_config,
    option,
    shipped_configs,
    split_configs,
    without_options,
)
from mtmsa_lightning.settings.messages import as_config_error, explain
from mtmsa_lightning.settings.named_classes import (
    ALLOW_CLASSES,
    import_from_here,
    names_in,
    own_names,
    parsing,
)
from mtmsa_lightning.training.callbacks.checkpoints import (
    AtomicCheckpointIO,
    BestCheckpoint,
    LastCheckpoint,
    StepSeed,
)
from mtmsa_lightning.training.callbacks.console import EpochLine, LossBar, report
from mtmsa_lightning.training.callbacks.ema import EMA
from mtmsa_lightning.training.callbacks.epoch_csv import EpochCSV
from mtmsa_lightning.training.callbacks.panels import Panels, shows_pictures
from mtmsa_lightning.training.callbacks.predictions import PredictionWriter
from mtmsa_lightning.training.callbacks.preemption import Preemption
from mtmsa_lightning.training.callbacks.run_record import RunRecord
from mtmsa_lightning.training.callbacks.training_monitor import TrainingMonitor
from mtmsa_lightning.training.callbacks.wandb import (
    WandbMode,
    choose_mode,
    finish,
    log_files,
    new_run_id,
    wandb_logger,
)
from mtmsa_lightning.training.compilation import compile_network
from mtmsa_lightning.training.known_settings import known_settings
from mtmsa_lightning.training.preflight import CONTINUE, asks_for_text

log = logging.getLogger(__name__)

_CONFIGS = ", ".join(name for name in shipped_configs() if "/" not in name)
HELP = {
    verb: {
        "usage": f"mtmsa {verb} {needs} [--KEY VALUE ...]",
        "description": f"{does} Shipped configs: {_CONFIGS}; overrides for a second --config: "
        "experiments/README.md. The settings of a dataset are listed by `--data.help MORPH` (or Adience, "
        "UTKFace, ...) and given as `--data.fold 2`; `--print_config` shows what a command line amounts to.",
    }
    for verb, needs, does in (
        (
            "fit",
            "--config X.yaml",
            "Train, then test the best checkpoint; `--ckpt_path last` continues.",
        ),
        ("validate", "--ckpt_path RUN [--config X.yaml]", "Evaluate a checkpoint on the validation part."),
        (
            "test",
            "--ckpt_path RUN [--config X.yaml]",
            "Evaluate a checkpoint on the test part and write predictions.",
        ),
    )
}

CKPT_PATH_HELP = {
    True: "Continue the run of this checkpoint or directory; `last`: the newest run of these settings.",
    False: "What is evaluated: a checkpoint, a run directory (its best.ckpt), a folder of runs, or one of "
    "pretrained weights.",
}
"""By whether the verb is ``fit``."""

ARCHITECTURE = ("msa", "last_stride", "aux_stage", "age", "gender", "race")
"""Model settings that a checkpoint's weights were trained with and fit no other value of."""

DATASETS = (MORPH, Adience, FaceCSV, Synthetic, UTKFace)
"""Imported so that the parser knows them by their bare names, ``--data MORPH``."""

BASES = (AgeHead, ClassHead, FaceDataModule)
"""Classes whose subclasses of the user's own have a place in the settings."""

VERB_ARGUMENTS = ("ckpt_path", "run_dir", "allow_classes")
"""Arguments of one call, not settings of an experiment."""


def run_trainer_command(
    verb: str, args: list[str], cli: "Callable[..., TrainingCLI] | None" = None
) -> "TrainingCLI":
    """Run ``fit``, ``validate`` or ``test``.

    Args:
        verb: The verb.
        args: Arguments after it, which have passed :func:`.preflight.check_arguments`.
        cli: What runs it, :class:`TrainingCLI` by default.

    Returns:
        What ran it.

    Raises:
        MTMSAError: For whatever the user can mend.
    """
    given = args
    ckpt_path = option(args, "ckpt_path")
    hparams = None
    if ckpt_path not in (None, "null", CONTINUE):
        ckpt_path = str(checkpoint_file(str(ckpt_path)))
        checkpoint = read_checkpoint(ckpt_path)
        hparams = checkpoint["hyper_parameters"]
        if verb == "fit" and "optimizer_states" not in checkpoint:
            raise ConfigError(no_training_state(Path(ckpt_path)))
        args = [*args, f"--ckpt_path={ckpt_path}"]
    recorded = hparams and hparams | {"preparation": (checkpoint.get("provenance") or {}).get("preparation")}
    own = own_names(args)
    import_from_here(own)
    came_along = [str(ckpt_path)] if hparams else []
    of_run = config_of_run(args, str(ckpt_path)) if hparams else None
    if of_run:
        came_along.append(str(of_run.file))
        log.info("config: %s", of_run.file)
        if verb == "fit" and option(args, "run_dir") is None:
            left = f" without its {', '.join(of_run.left)}" if of_run.left else ""
            command = continuing(of_run.file.parent, verb, [f"--config={of_run.file}", *given])
            log.info("a new run goes on from there%s; to go on in the same run, with all: %s", left, command)
        args = [*places_of_run(of_run.file.parent, args), *args]
    for name in split_configs(args)[0] if not asks_for_text(args) else ():
        log.info("config: %s", find_config(name))
    try:
        ordered = by_precedence(args, hparams, training=verb == "fit", of_run=of_run and of_run.settings)
        with parsing(came_along, own, BASES):
            return (cli or partial(TrainingCLI, given=given))(verb, ordered, recorded)
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
    """Say what to do with a checkpoint that a training cannot be continued from."""
    run = run_of(checkpoint)
    last = f"continue its run by --ckpt_path {run / LAST}, or " if run and (run / LAST).is_file() else ""
    weights = checkpoint.parent if checkpoint.name == WEIGHTS else checkpoint
    return f"{checkpoint} holds weights only: {last}train from its weights by --model.weights {weights}"


def mismatch(ckpt_path: str, error: str) -> str:
    """Say why weights do not fit: the settings given override those that the checkpoint was trained with."""
    keys = " ".join(error.split())[:300]
    return (
        f"{ckpt_path}: its weights do not fit the model that command line and --config describe: {keys} ...\n"
        "Leave --config out to use the settings of the checkpoint's own run, or give a config that fits."
    )


def check_architecture(recorded: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse to evaluate a checkpoint as another network than the one that was trained.

    Raises:
        ConfigError: If a setting of the command line changes the network. Some would even load (dilation
            rates have no weights of their own) and give metrics of a network that nobody trained.
    """
    for key in ARCHITECTURE:
        if key in recorded and recorded[key] != settings[key]:
            raise ConfigError(
                f"--model.{key} {settings[key]} does not fit the checkpoint, which was trained with "
                f"{recorded[key]}: leave it out, its settings do not fit any other weights"
            )


class ConfigOfRun(NamedTuple):
    """The config of a checkpoint's own run.

    Attributes:
        file: Where it lies.
        settings: What it says, but for what its maker does not decide: what is uploaded, and where to write.
        left: Names of the settings that were left out although they say something.
    """

    file: Path
    settings: dict[str, Any]
    left: tuple[str, ...]


def config_of_run(args: Sequence[str], ckpt_path: str) -> ConfigOfRun | None:
    """Return the config of a checkpoint's own run, which is used where none is given.

    Raises:
        CheckpointError: If it says where the next run is to write, or names other files to read.
        ConfigError: If it cannot be read.
    """
    file = checkpoint_file(ckpt_path).parent.parent / "config.yaml"
    if split_configs(args)[0] or not file.is_file():
        return None
    settings = load_config(file)
    for key in (*VERB_ARGUMENTS, "config"):
        if key in settings:
            raise CheckpointError(f"{file}: {key} is given on a command line only: remove it there")
    for key in (*SECTIONS, "checkpoint"):
        if not isinstance(settings.get(key), dict | None):  # the parser takes a text for the name of a file
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
    """Give a checkpoint faces of the size and crop that it was trained on, unless the command line says more.

    Args:
        settings: Arguments of the DataModule, changed in place.
        recorded: Model settings of the checkpoint, and the ``preparation`` of its training data: the crop of
            prepared faces says nothing of raw photos.
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
        log.info("as the checkpoint was trained: %s", ", ".join(changed))


def continuing(run: Path, verb: str, args: Sequence[str]) -> str:
    """Return the command that continues a run.

    Args:
        run: Its directory.
        verb: The verb.
        args: The arguments that were given after it; where they name no data, the config of the run is added.
    """
    given = without_options(args, ("ckpt_path", "run_dir"))
    if not any(arg.startswith(("--config", "-c", "--data")) for arg in given):
        given = [f"--config={run / 'config.yaml'}", *given]
    command = shlex.join(["mtmsa", verb, *given, "--run_dir", str(run)])
    if "SLURM_STEP_ID" in os.environ:
        return f"the same launcher (srun) with: {command}"
    return f"the same launcher (torchrun) with: {command}" if "RANK" in os.environ else command


class TrainingCLI(LightningCLI):
    """One verb of the Trainer on MTMSA and a face DataModule.

    Args:
        verb: The verb.
        args: Arguments after it, in the order of precedence.
        recorded: Model settings recorded in the checkpoint, and the ``preparation`` of its training data.
        held: Takes the lock of the run directory; by default it is released when the verb is done.
        given: The arguments as the user gave them; by default ``args``.

    Attributes:
        run: Directory of the run's files.
        writer: Its ``table`` holds the predictions after a test.
    """

    predictions = "predictions/test.parquet"

    def __init__(
        self,
        verb: str,
        args: list[str],
        recorded: dict[str, Any] | None = None,
        held: ExitStack | None = None,
        given: Sequence[str] | None = None,
    ) -> None:
        self.verb = verb
        self.given = args if given is None else given
        self.recorded = recorded or {}
        self.arguments = args
        kwargs: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}
        self.held = held or ExitStack()
        with launch_variables_removed(), nullcontext() if held else self.held:
            try:
                self._run_verb(args, kwargs | {verb: kwargs | HELP[verb]})
            except (Stopped, SIGTERMException) as stop:  # the status of Lightning's would be 0
                raise self._stopped_outside_of_steps(str(stop) or "SIGTERM") from None

    def _run_verb(self, args: list[str], parser_kwargs: dict[str, Any]) -> None:
        """Parse, build and run, all of which Lightning does in ``__init__``."""
        super().__init__(
            MTMSA,
            FaceDataModule,
            subclass_mode_data=True,
            save_config_callback=None,  # RunRecord writes it, without the arguments of one call
            seed_everything_default=0,
            trainer_defaults={
                "default_root_dir": "runs",
                "use_distributed_sampler": False,  # our samplers deal the faces out themselves
                "enable_model_summary": False,
                "num_sanity_val_steps": 1,  # a second batch tells nothing more
                "log_every_n_steps": 1,  # the default warns of every epoch with fewer than 50 steps
            },
            parser_kwargs=parser_kwargs,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # MTMSA records its hyperparameters itself, as plain values
            args=[self.verb, *args],
        )

    def _stopped_outside_of_steps(self, signal: str) -> Preempted:
        """Say how to go on after a signal before the first step or after the last."""
        run: Path | None = getattr(self, "run", None)
        saved = run is not None and self.verb == "fit" and (run / LAST).is_file()
        how = (
            f"continue by: {continuing(run, self.verb, self.given)}"
            if run and saved
            else "the same command starts anew"
        )
        log.info("%s", stopped_by(signal, how))
        return Preempted(how, TRY_AGAIN)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the verb that was asked for: building all parsers costs a second."""
        ours = {"ckpt_path", "verbose", "weights_only"}  # of Lightning's own, for which there are better ones
        return {self.verb: LightningCLI.subcommands()[self.verb] | ours}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse without Lightning's warning about arguments given in Python."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]

    def _parse_ckpt_path(self) -> None:
        """The checkpoint's settings come before the config files already, see ``by_precedence``."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what a run needs beside trainer, model and data."""
        add = parser.add_argument
        add("--ckpt_path", type=str | None, default=None, help=CKPT_PATH_HELP[self.verb == "fit"])
        add(
            "--name", type=str, default="run", help="Name of the experiment; runs go to <root>/<name>/<time>."
        )
        add("--run_dir", type=str | None, default=None, help="Directory of the run; one there is continued.")
        add(
            "--wandb",
            type=WandbMode | None,
            default=None,
            help="Default: WANDB_MODE, else online if possible.",
        )
        add("--wandb_faces", type=bool, default=False, help="Send photos and file names of faces to W&B.")
        add("--ema", type=float | None, default=None, help="Decay of averaged weights, e.g. 0.999.")
        add("--compile", type=bool, default=False, help="Compile the network; the first steps take minutes.")
        add("--test_after_fit", type=bool, default=True, help="Test the best checkpoint after a fit.")
        add(
            "--allow_overlap",
            type=bool,
            default=False,
            help="Train for and test on faces that its weights were trained on, and record it.",
        )
        add("--allow_classes", type=str | None, default=None, help=f"{ALLOW_CLASSES} (command line only).")
        parser.add_class_arguments(BestCheckpoint, "checkpoint")
        for key in ("image_size", "crop", "age_groups"):
            parser.link_arguments(f"data.{key}", f"model.{key}", apply_on="instantiate")
        for key in ("gender_classes", "race_classes"):  # a trained head keeps its classes on other data
            self._link_classes(parser, key)

    def _link_classes(self, parser: LightningArgumentParser, key: str) -> None:
        def of_checkpoint_or(of_data: Sequence[str]) -> Sequence[str]:  # its name is shown by --help
            classes: Sequence[str] = self.recorded.get(key, of_data)
            return classes

        parser.link_arguments(f"data.{key}", f"model.{key}", of_checkpoint_or, apply_on="instantiate")

    # ---------------------------------------------------------------- the run

    @property
    def settings(self) -> Any:
        """The parsed settings of the verb."""
        return self.config[self.verb]

    def before_instantiate_classes(self) -> None:
        """Choose the run directory: a new one, or the one to continue."""
        if self.verb != "fit" and self.recorded:
            follow_checkpoint(self.settings.data.init_args, self.recorded, self.arguments)
        plain = self.settings.clone()
        for key in VERB_ARGUMENTS:
            plain.pop(key, None)
        self.config_text = self._parser(self.verb).dump(plain, skip_unset=False)
        self._open_run()

    def _open_run(self) -> None:
        root, name = self.settings.trainer.default_root_dir or "runs", self.settings.name
        given = self.settings.run_dir and Path(self.settings.run_dir).absolute()
        there = given and (given / LAST).is_file()
        continued = self.verb == "fit" and (self.settings.ckpt_path == CONTINUE or there)
        made: list[Path] = []
        if continued:
            self.run = resumable_run(root, name, yaml.safe_load(self.config_text), given)
            self.settings.ckpt_path = str(self.run / LAST)
            log.info("continuing %s", self.run)
        elif given:
            self.run = given
        else:
            self.run, made = open_run(root, name)
        if is_first_process():  # the others of a launch share its lock
            if not continued:
                check_run_dir(self.run, self.verb, fresh=not given)
            self.held.enter_context(locked(self.run, f"mtmsa {self.verb}", made, BEGINNING))

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; a value that one of them refuses is the user's to mend."""
        with as_config_error():
            super().instantiate_classes()
        for key in ("optimizer", "scheduler"):
            self.model.hparams[key] = yaml.safe_load(self.config_text)["model"][key]
        if self.settings.compile:
            compile_network(self.model)
        if self.recorded and self.verb != "fit":
            check_architecture(self.recorded, dict(self.model.hparams))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the Trainer with the run's loggers and callbacks, after those of the config."""
        given = self._get(self.config_init, "trainer")
        record: dict[str, Any] = {"name": self.settings.name, "monitor": self.settings.checkpoint.monitor}
        if self.verb == "fit":
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
                "trainer.sync_batchnorm: torch joins the statistics of BatchNorm on GPUs only; leave it out "
                "on the CPU"
            )
        return trainer

    def _loggers(self, given: list[Any], record: dict[str, Any]) -> list[Any]:
        """Return the run's loggers and those of the config; none for ``--trainer.logger false``."""
        if given == [False]:
            return []
        loggers: list[Any] = [EpochCSV(self.run / "metrics.csv")] if self.verb == "fit" else []
        loggers += [each for each in given if each is not True]
        if any(isinstance(each, WandbLogger) for each in loggers):
            log.info("wandb: by the logger of trainer.logger")
            return loggers
        mode, reason = choose_mode(self.settings.wandb)
        log.info("wandb: %s (%s)", mode, reason)
        if mode != "disabled":
            record["wandb_id"] = read_record(self.run).get("wandb_id") or new_run_id()
            config = yaml.safe_load(self.config_text)
            logger = wandb_logger(self.run, mode, record["wandb_id"], self.settings.name, self.verb, config)
            loggers.append(logger)
        return loggers

    def _callbacks(self, record: dict[str, Any], trainer: dict[str, Any]) -> list[Any]:
        self.writer = PredictionWriter(self.run / self.predictions)
        callbacks: list[Any] = [RunRecord(self.run, self.config_text, record), self.writer]
        if any(map(shows_pictures, trainer["logger"])):
            callbacks.append(Panels(self.settings.wandb_faces))
        if self.verb != "fit":
            return [*callbacks, Preemption(None)]
        self.best = BestCheckpoint(**self.settings.checkpoint.as_dict())
        for checkpoint in (self.best, last := LastCheckpoint()):
            checkpoint.dirpath = str(self.run / "checkpoints")
        if self.settings.ema is not None:
            callbacks.append(EMA(self.settings.ema))
        seed = StepSeed(int(self.settings.seed_everything))
        command = continuing(self.run, self.verb, self.given)
        stop = Preemption(self.run / LAST, command)  # after all others that a step changes
        return [*callbacks, seed, TrainingMonitor(), EpochLine(), stop, self.best, last]

    # ---------------------------------------------------------------- after the verb

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
        best = Path(self.best.best_model_path) if self.verb == "fit" and self.best.best_model_path else None
        log_files(self.trainer.loggers, self.run, self.settings.name, best, self.settings.wandb_faces)
        finish(self.trainer.loggers)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Hand the Trainer the checkpoint of the resumed run; our report replaces its table."""
        kwargs: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        kwargs["ckpt_path"] = self.settings.ckpt_path
        kwargs["weights_only"] = True  # a checkpoint must not run code
        return kwargs | ({"verbose": False} if subcommand != "fit" else {})


class UnstartedCLI(TrainingCLI):
    """A command line of ``fit`` with its settings, data and model, and nothing of a run."""

    datamodule: FaceDataModule

    def _set_seed(self) -> None:
        """Nothing will be drawn."""

    def _open_run(self) -> None:
        """Nothing will be written."""

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Nothing will be trained; what cannot be is refused."""
        choose_accelerator(self._get(self.config_init, "trainer").accelerator)

    def _run_subcommand(self, subcommand: str) -> None:
        """Only the settings are wanted."""

    @property
    def plain_settings(self) -> dict[str, Any]:
        """The settings as a run's ``config.yaml`` records them."""
        return dict(yaml.safe_load(self.config_text))

    def completed(self, settings: dict[str, Any]) -> dict[str, Any] | None:
        """Return recorded settings with the defaults of whatever has become a setting since.

        Args:
            settings: What the ``config.yaml`` of a run says.

        Returns:
            The settings, or None if they cannot be read any more.
        """
        parser = self._parser(self.verb)
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
    """End the joint work when the Trainer's is done: what follows is the first process's alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
