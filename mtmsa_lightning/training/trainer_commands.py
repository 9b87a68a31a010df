"""Run the commands fit, validate and test."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mtmsa_lightning.errors import ConfigError, MTMSAError
from mtmsa_lightning.runs.checkpoints import checkpoint_file, read_checkpoint
from mtmsa_lightning.runs.directory import LAST, run_of
from mtmsa_lightning.runs.pretrained import WEIGHTS
from mtmsa_lightning.runs.status import places_of_run
from mtmsa_lightning.settings.class_paths import import_from_here, own_names, parsing
from mtmsa_lightning.settings.configs import by_precedence, find_config, option, split_configs
from mtmsa_lightning.settings.error_messages import explain
from mtmsa_lightning.training.checkpoint_settings import config_of_run, continuing
from mtmsa_lightning.training.early_checks import CONTINUE, asks_for_help
from mtmsa_lightning.training.lightning_cli import BASES, TrainingCLI
from mtmsa_lightning.training.setting_hints import known_settings

log = logging.getLogger(__name__)


def run_trainer_command(
    command: str, args: list[str], cli: Callable[..., TrainingCLI] | None = None
) -> TrainingCLI:
    """Run ``fit``, ``validate`` or ``test`` and return the instance of ``cli`` that ran it.

    ``args`` have passed :func:`.early_checks.check_arguments`.
    """
    given = args
    ckpt_path = option(args, "ckpt_path")
    hparams = None
    if ckpt_path not in (None, "null", CONTINUE):
        ckpt_path = str(checkpoint_file(str(ckpt_path)))
        checkpoint = read_checkpoint(ckpt_path)
        hparams = checkpoint["hyper_parameters"]
        if command == "fit" and "optimizer_states" not in checkpoint:
            raise ConfigError(_no_training_state(Path(ckpt_path)))
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
            message = (
                f"{ckpt_path}: its weights do not fit the model of the command line and --config: "
                f"{' '.join(str(error).split())[:300]} ...\nLeave --config out to use the settings of the "
                "checkpoint's run, or give a config that fits."
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
