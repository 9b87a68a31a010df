"""Arguments that verbs share, and types that say what a value must be; argparse would name functions."""

import argparse
from collections.abc import Callable
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.settings.configs import RUN_SETTINGS
from mtmsa_lightning.settings.named_classes import ALLOW_CLASSES

_Choice = TypeVar("_Choice", bound=StrEnum)
_Value = TypeVar("_Value")


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are errors of this package: one line that names what could have been meant."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | settings)

    def error(self, message: str) -> NoReturn:
        """Raise in place of printing the whole usage.

        Raises:
            ConfigError: Always.
        """
        text = message.removeprefix("argument ").replace("the following arguments are required:", "give")
        raise ConfigError(f"{text}: `{self.prog} --help` lists the options")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, but refuse a misspelt option before it can take another one's place.

        Raises:
            ConfigError: An option does not exist and is like one that does.
        """
        for word in args or ():
            name = word.partition("=")[0]
            strange = name.startswith("--") and "." not in name and name not in self._option_string_actions
            if strange and self._subparsers is None and name[2:] not in RUN_SETTINGS:
                near = get_close_matches(name, self._option_string_actions, n=1, cutoff=0.75)
                if near:
                    raise ConfigError(f"there is no option {name}: did you mean {near[0]}?")
        return super().parse_known_args(args, namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse a command line of which every word must be known.

        Raises:
            ConfigError: A word is not.
        """
        options, others = self.parse_known_args(args, namespace)
        if others:
            self.error(f"there is no option {others[0]}")
        return options


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


def whole_number_from(least: int) -> Callable[[str], int]:
    """Return what reads a whole number that is not too small.

    Raises:
        ArgumentTypeError: By what is returned: it is none, or too small.
    """

    def read(text: str) -> int:
        number = whole_number(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least}, not {text!r}")
        return number

    return read


def fraction(text: str) -> float:
    """Read a number from 0 to 1.

    Raises:
        ArgumentTypeError: It is none.
    """
    number = real_number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {text!r}")
    return number


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
