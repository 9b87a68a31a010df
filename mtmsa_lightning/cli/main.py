"""The command line ``mtmsa``: commands of the Lightning Trainer, and commands of this package."""

import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from mtmsa_lightning._utils.logs import to_console
from mtmsa_lightning._utils.processes import end_with_parent, safe_path
from mtmsa_lightning._utils.signals import TRY_AGAIN, Stopped, raised_on_signals, stopped_by
from mtmsa_lightning.errors import MTMSAError, Preempted, shorten

TRAINER_COMMANDS = {
    "fit": "train, then test the best checkpoint",
    "validate": "evaluate a checkpoint on the validation part",
    "test": "evaluate a checkpoint on the test part and write per-image predictions",
}
OWN_COMMANDS = {
    "app": "serve a web page that predicts the faces in a photo",
    "audit": "find leaks, contradicting labels and bad images in a dataset",
    "calibrate": "fit a checkpoint's uncertainty on held-out faces",
    "check": "check a dataset and a config before training, in seconds",
    "compare": "paired comparison of runs on the same test images",
    "crossval": "train and test every fold of a protocol, then summarise",
    "evaluate": "test a checkpoint and write a report with plots and tables",
    "export": "write a checkpoint as ONNX, torch.export or safetensors, with a model card",
    "predict": "predict ages, genders and races of the faces in image files",
    "prepare": "find, align and crop the faces of a release",
    "reproduce": "run a study: all folds and seeds of its variants, one table",
    "sweep": "choose settings by validation, by Optuna",
    "synthesize": "write synthetic faces in the layout of a real release",
}
CONTINUED = ("crossval", "predict", "prepare", "reproduce", "sweep")
"""Commands that keep finished work, and continue when they are repeated."""

USAGE = """usage: mtmsa COMMAND [arguments]   (`mtmsa COMMAND --help` lists them)

Facial age estimation with multi-task multi-scale attention.

{commands}

  mtmsa fit --config demo.yaml                    train on synthetic faces (no data needed)
  mtmsa fit --config morph.yaml --data.fold 2     MORPH II, third subject-exclusive fold
  mtmsa crossval --config adience.yaml            all five folds, one process each
  mtmsa test --config morph.yaml --ckpt_path runs/morph/.../checkpoints/best.ckpt
  mtmsa predict --ckpt_path runs/morph/... faces/ --out ages.csv
  mtmsa predict photo.jpg                         by the network that comes along, if installed
"""

USERS_TO_FIX = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG, errno.ELOOP, errno.EDQUOT)
"""Errors of the operating system that are shown without a traceback."""

_WITHOUT_WINDOWS = (
    "opencv-python, a dependency of the extra `align`, has replaced the OpenCV that needs no display. "
    "Restore it: pip install --force-reinstall --no-deps opencv-python-headless"
)


def usage() -> str:
    """Return the help text with all commands."""
    commands = TRAINER_COMMANDS | OWN_COMMANDS
    return USAGE.format(commands="\n".join(f"  {name:<12}{text}" for name, text in commands.items()))


def main(args: Sequence[str] | None = None) -> None:
    """Run a command, by default with the arguments of the process.

    Raises:
        SystemExit: With status 2 after an error that the user can fix. After a signal (Ctrl-C, SIGTERM,
            SIGUSR1, SIGHUP) with status 75 for fit, validate and test, which can be continued or repeated,
            and with 128 plus the signal's number for all other commands.
    """
    end_with_parent()
    if args is None:  # not when called from Python: the processes started from there are not ours
        os.environ.update(safe_path())
    command, *rest = list(sys.argv[1:] if args is None else args) or ["--help"]
    try:
        with raised_on_signals():
            run(command, rest)
    except Preempted as stop:
        raise SystemExit(stop.status) from None
    except MTMSAError as error:
        message = str(error)
    except OSError as error:
        if error.errno not in USERS_TO_FIX:
            raise
        message = f"{shorten(str(error.filename), 200)}: {error.strerror}"
    except Stopped as stop:
        trainer = command in TRAINER_COMMANDS
        then = "the same command starts again" if trainer else ""
        then = "the same command continues" if command in CONTINUED else then
        print(stopped_by(stop.name, then), file=sys.stderr)
        raise SystemExit(TRY_AGAIN if trainer else stop.status) from None
    except ImportError as error:
        if "libGL" not in str(error):
            raise
        message = f"{error}\n{_WITHOUT_WINDOWS}"
    except KeyboardInterrupt:
        print(stopped_by("SIGINT"), file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    else:
        return
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def run(command: str, args: list[str]) -> None:
    """Run a command with the classes of ``--allow_classes`` allowed."""
    from mtmsa_lightning.settings.class_paths import allowing, split_names
    from mtmsa_lightning.settings.configs import option

    with allowing(split_names(option(args, "allow_classes"))):
        dispatch(command, args)


def dispatch(command: str, args: list[str]) -> None:
    """Run a command by its name; each command imports what it needs itself."""
    if command in ("-h", "--help", "help"):
        print(usage())
    elif command == "--version":
        from importlib.metadata import version

        print(version("mtmsa-lightning"))
    elif command in OWN_COMMANDS:
        to_console()  # on the first process of a run only
        importlib.import_module(f"mtmsa_lightning.cli.commands.{command}").main(args)
    elif command in TRAINER_COMMANDS:
        to_console()
        from mtmsa_lightning.cli.data_arguments import expand
        from mtmsa_lightning.training.early_checks import check_arguments

        args = expand(args)
        check_arguments(command, args)

        from mtmsa_lightning.training.trainer_commands import run_trainer_command

        run_trainer_command(command, args)
    else:
        from difflib import get_close_matches

        near = get_close_matches(command, [*TRAINER_COMMANDS, *OWN_COMMANDS], n=1)
        hint = f": did you mean `mtmsa {near[0]}`?" if near else ""
        raise MTMSAError(f"there is no command {command!r}{hint}\n\n{usage()}")
