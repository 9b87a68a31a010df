"""Run the commands fit, validate and test."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mtmsa_lightning.errors import ConfigError, MTMSAError
from mtmsa_lightning.runs.checkpoints import checkpoint_file, read_checkpoint
from mtmsa_lightning.runs.directory import LAST, run_of
from mtmsa_lightning.runs.pretrained import WEIGHTS
from mtmsa_lightning.runs.status import places_of_run
from mtmsa_lightning.settings.class_paths import import_class, import_from_here, own_names, parsing
from mtmsa_lightning.settings.configs import by_precedence, find_config, option, setting, split_configs
from mtmsa_lightning.settings.error_messages import explain
from mtmsa_lightning.training.checkpoint_settings import ConfigOfRun, config_of_run, continuing
from mtmsa_lightning.training.early_checks import CONTINUE, asks_for_help
from mtmsa_lightning.training.lightning_cli import BASES, TrainingCLI
from mtmsa_lightning.training.setting_hints import known_settings

log = logging.getLogger(__name__)


class _Checkpoint(NamedTuple):
    """The checkpoint that a command starts from."""

    path: str
    hparams: dict[str, Any]  # its model's settings
    preparation: dict[str, Any] | None  # of its training data


def run_trainer_command(
    command: str, args: list[str], cli: Callable[..., TrainingCLI] | None = None
) -> TrainingCLI:
    """Run ``fit``, ``validate`` or ``test`` and return the instance of ``cli`` that ran it.

    ``args`` have passed :func:`.early_checks.check_arguments`.
    """
    given, checkpoint, of_run = args, _read_checkpoint(command, args), None
    if checkpoint:
        args = [*args, f"--ckpt_path={checkpoint.path}"]
    own = own_names(args)
    import_from_here(own)
    if (backbone := setting(args, "model.backbone")) in own:
        import_class(backbone, "model.backbone")  # the parser does not know that it is a class
    if checkpoint and (of_run := config_of_run(args, checkpoint.path)):
        _log_run(command, given, of_run)
        args = [*places_of_run(of_run.file.parent, args), *args]
    for name in split_configs(args)[0] if not asks_for_help(args) else ():
        log.info("config: %s", find_config(name))
    hparams = checkpoint and checkpoint.hparams
    untrusted = [checkpoint.path] if checkpoint else []
    untrusted += [str(of_run.file)] if of_run else []
    with _short_errors([f"--config={of_run.file}", *args] if of_run else args):
        ordered = by_precedence(args, hparams, training=command == "fit", of_run=of_run and of_run.settings)
        with parsing(untrusted, own, BASES):
            recorded = checkpoint and checkpoint.hparams | {"preparation": checkpoint.preparation}
            return (cli or partial(TrainingCLI, given=given))(command, ordered, recorded)


def _read_checkpoint(command: str, args: Sequence[str]) -> _Checkpoint | None:
    """Return the checkpoint of a command line; ConfigError if it cannot be trained further by ``fit``."""
    ckpt_path = option(args, "ckpt_path")
    if ckpt_path in (None, "null", CONTINUE):
        return None
    file = checkpoint_file(str(ckpt_path))
    checkpoint = read_checkpoint(str(file))
    if command == "fit" and "optimizer_states" not in checkpoint:
        raise ConfigError(_no_training_state(file))
    preparation = (checkpoint.get("provenance") or {}).get("preparation")
    return _Checkpoint(str(file), checkpoint["hyper_parameters"], preparation)


def _log_run(command: str, given: Sequence[str], of_run: ConfigOfRun) -> None:
    """Log the config of a checkpoint's run, and how to continue that run instead of starting a new one."""
    log.info("config: %s", of_run.file)
    if command == "fit" and option(given, "run_dir") is None:
        left = f" without its {', '.join(of_run.left)}" if of_run.left else ""
        line = continuing(of_run.file.parent, command, [f"--config={of_run.file}", *given])
        log.info("a new run goes on from there%s; to continue the same run: %s", left, line)


@contextmanager
def _short_errors(args: Sequence[str]) -> Iterator[None]:
    """Raise ConfigError with one message for errors of the command line and for weights that do not fit."""
    try:
        yield
    except MTMSAError:
        raise
    except Exception as error:
        message = explain(error, lambda: known_settings(args))
        if "loading state_dict" in str(error):
            message = (
                f"{option(args, 'ckpt_path')}: its weights do not fit the model of the command line and "
                f"--config: {' '.join(str(error).split())[:300]} ...\nLeave --config out to use the settings "
                "of the checkpoint's run, or give a config that fits."
            )
        if message is None:
            raise
        raise ConfigError(message) from error


def _no_training_state(checkpoint: Path) -> str:
    """Return the message for a checkpoint that a training cannot be continued from."""
    run = run_of(checkpoint)
    last = f"continue its run by --ckpt_path {run / LAST}, or " if run and (run / LAST).is_file() else ""
    weights = checkpoint.parent if checkpoint.name == WEIGHTS else checkpoint
    return f"{checkpoint} holds weights only: {last}train from its weights by --model.weights {weights}"
