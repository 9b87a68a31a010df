"""Arguments that verbs share, and types that say what a value must be; argparse would name functions."""

import argparse
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

ALLOW_CLASSES = (
    "modules or classes of yours, e.g. mylab or mylab.heads,mylab.MyFaces, that the files of a checkpoint "
    "and its run may name; otherwise only this package's and torch.optim's are imported"
)
"""Help on ``--allow_classes``, which the program itself reads, see ``named_classes.allowing``."""

_Choice = TypeVar("_Choice", bound=StrEnum)
_Value = TypeVar("_Value")


def add_checkpoint(parser: argparse.ArgumentParser, hub: bool = False) -> None:
    """Add ``--ckpt_path``.

    Args:
        parser: The verb's parser.
        hub: The verb takes networks on the Hugging Face Hub.
    """
    known = "a checkpoint, a run directory (its best.ckpt), a folder of runs, or one of pretrained weights"
    more = ", here or owner/name on the Hugging Face Hub" if hub else ""
    parser.add_argument("--ckpt_path", required=True, metavar="C", help=known + more)
    parser.add_argument("--allow_classes", metavar="NAMES", help=ALLOW_CLASSES)


def whole_number(text: str) -> int:
    """Read a whole number.

    Raises:
        ArgumentTypeError: It is none.
    """
    return _read(int, text, "a whole number")


def real_number(text: str) -> float:
    """Read a number.

    Raises:
        ArgumentTypeError: It is none.
    """
    return _read(float, text, "a number")


def one_of(choices: type[_Choice]) -> Callable[[str], _Choice]:
    """Return what reads one of several names.

    Raises:
        ArgumentTypeError: By what is returned: the text is none of them.
    """
    return lambda text: _read(choices, text, f"one of {', '.join(choices)}")


def _read(kind: Callable[[str], _Value], text: str, what: str) -> _Value:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}") from None
