"""The command line ``mtmsa``: verbs of the Lightning Trainer, and verbs of our own."""

import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from mtmsa_lightning._utils.processes import end_with_parent, safe_path
from mtmsa_lightning._utils.signals import TRY_AGAIN, Stopped, raised_on_signals, stopped_by
from mtmsa_lightning.errors import MTMSAError, Preempted, shorten

TRAINER_VERBS = {
    "fit": "train, then test the best checkpoint",
    "validate": "evaluate a checkpoint on the validation part",
    "test": "evaluate a checkpoint on the test part and write per-image predictions",
}
OWN_VERBS = {
    "app": "a web page: ages, genders and races of the faces in a photo",
    "audit": "look for leaks, contradicting labels and bad images in a dataset",
    "calibrate": "fit a checkpoint's uncertainty on held-out faces",
    "check": "the ten-second look at a dataset and a config before training",
    "compare": "paired comparison of runs on the same test images",
    "crossval": "train and test every fold of a protocol, then summarise",
    "evaluate": "test a checkpoint and write a report with plots and tables",
    "export": "a checkpoint as ONNX, torch.export or safetensors, checked, with a model card",
    "predict": "ages, genders and races of image files, by a checkpoint alone",
    "prepare": "find, align and crop the faces of a release, once",
    "reproduce": "run a study: folds and seeds of all its variants, one table",
    "synthesize": "draw synthetic faces in the layout of a real release",
}
USAGE = """usage: mtmsa VERB [arguments]      (`mtmsa VERB --help` lists them)

Facial age estimation with multi-task multi-scale attention.

{verbs}

  mtmsa fit --config demo.yaml                    train on synthetic faces (no data needed)
  mtmsa fit --config morph.yaml --data.fold 2     MORPH II, third subject-exclusive fold
  mtmsa crossval --config adience.yaml            all five folds, one process each
  mtmsa test --config morph.yaml --ckpt_path runs/morph/.../checkpoints/best.ckpt
  mtmsa predict --ckpt_path runs/morph/... faces/ --out ages.csv
"""

USERS_TO_FIX = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG, errno.ELOOP, errno.EDQUOT)
"""Errors of the system that say what is wrong by themselves: a traceback would not help."""

_WITHOUT_WINDOWS = (
    "opencv-python, which the extra `align` brings, has replaced the OpenCV that needs no display. Put it "
    "back: pip install --force-reinstall --no-deps opencv-python-headless"
)


def usage() -> str:
    """Return the help text with all verbs."""
    verbs = TRAINER_VERBS | OWN_VERBS
    return USAGE.format(verbs="\n".join(f"  {verb:<12}{text}" for verb, text in verbs.items()))


def main(args: Sequence[str] | None = None) -> None:
    """Run a verb.

    Args:
        args: Arguments without the program's name; those of the process by default.

    Raises:
        SystemExit: With status 2 after an error that the user can mend, told in one message. After a signal
            (Ctrl-C, SIGTERM, SIGUSR1, SIGHUP) with 75 from fit, validate and test, which can be continued or
            repeated, and with 128 plus its number from all other verbs.
    """
    end_with_parent()
    if args is None:  # the process is ours: so are all that it starts
        os.environ.update(safe_path())
    verb, *rest = list(sys.argv[1:] if args is None else args) or ["--help"]
    try:
        with raised_on_signals():
            run(verb, rest)
    except MTMSAError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except Preempted as stop:
        raise SystemExit(stop.status) from None
    except OSError as error:
        if error.errno not in USERS_TO_FIX:
            raise
        print(f"error: {shorten(str(error.filename), 200)}: {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None
    except Stopped as stop:
        trainer = verb in TRAINER_VERBS
        print(stopped_by(stop.name, "the same command starts anew" if trainer else ""), file=sys.stderr)
        raise SystemExit(TRY_AGAIN if trainer else stop.status) from None
    except ImportError as error:
        if "libGL" not in str(error):
            raise
        print(f"error: {error}\n{_WITHOUT_WINDOWS}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(stopped_by("SIGINT"), file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None


def run(verb: str, args: list[str]) -> None:
    """Dispatch a verb, with the classes that the user allows files to name."""
    from mtmsa_lightning.settings.configs import option
    from mtmsa_lightning.settings.named_classes import allowing, split_names

    with allowing(split_names(option(args, "allow_classes"))):
        dispatch(verb, args)


def dispatch(verb: str, args: list[str]) -> None:
    """Run the verb of a name; everything heavy is imported by the verb itself."""
    if verb in ("-h", "--help", "help"):
        print(usage())
    elif verb == "--version":
        from importlib.metadata import version

        print(version("mtmsa-lightning"))
    elif verb in OWN_VERBS:
        show_messages()
        importlib.import_module(f"mtmsa_lightning.cli.commands.{verb}").main(args)
    elif verb in TRAINER_VERBS:
        show_messages()
        from mtmsa_lightning.training.preflight import check_arguments

        check_arguments(verb, args)

        from mtmsa_lightning.training.cli import run_trainer_verb

        run_trainer_verb(verb, args)
    else:
        from difflib import get_close_matches

        near = get_close_matches(verb, [*TRAINER_VERBS, *OWN_VERBS], n=1)
        hint = f": did you mean `mtmsa {near[0]}`?" if near else ""
        raise MTMSAError(f"there is no verb {verb!r}{hint}\n\n{usage()}")


def show_messages() -> None:
    """Print the package's messages as they are, on the first process of a run only."""
    from mtmsa_lightning._utils.logs import to_console

    to_console()
