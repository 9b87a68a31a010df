"""Arguments that several commands share, and argument types whose errors say what a value must be."""

import argparse
import math
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.runs.checkpoints import BEST, is_ensemble
from mtmsa_lightning.runs.ensemble_folder import network_files
from mtmsa_lightning.runs.hub import check_source
from mtmsa_lightning.runs.pretrained import is_pretrained
from mtmsa_lightning.runs.starter import STARTER, starter_folder
from mtmsa_lightning.settings.class_paths import ALLOW_CLASSES
from mtmsa_lightning.settings.defaults import ORIENTATIONS, SMALLEST_FACE

_Choice = TypeVar("_Choice", bound=StrEnum)
_Value = TypeVar("_Value")
_Number = TypeVar("_Number", int, float)

_CHECKPOINTS = (
    "a checkpoint, a run directory (its best.ckpt), a folder of runs, one of pretrained weights, or "
    f"{STARTER}: the network that comes along"
)


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError, with one line that suggests what could have been meant.

    Args:
        passed_on: Options of other parsers that resemble those of this one.
        settings: Passed to :class:`argparse.ArgumentParser`.
    """

    def __init__(self, passed_on: Collection[str] = (), **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | settings)
        self._passed_on = passed_on

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """Add an argument; the help of an option ends with its default, if it has one."""
        default = settings.get("default")
        if isinstance(default, str | int | float) and default != argparse.SUPPRESS:
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            shown = shown.lower() if isinstance(default, bool) else shown
            settings["help"] = f"{settings['help']} (default: {shown})"
        return super().add_argument(*names, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError in place of printing the usage."""
        text = message.removeprefix("argument ").replace("the following arguments are required:", "give")
        text = text.replace("expected one argument", "needs a value")
        raise ConfigError(f"{text}: `{self.prog} --help` lists the options")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, but refuse an unknown option that resembles a known one."""
        for word in args or ():
            name = word.partition("=")[0]
            known = name in self._option_string_actions or name in self._passed_on
            if name.startswith("--") and "." not in name and not known:
                near = get_close_matches(name, self._option_string_actions, n=1, cutoff=0.75)
                if near:
                    raise ConfigError(f"there is no option {name}: did you mean {near[0]}?")
        return super().parse_known_args(args, namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse a command line; raise ConfigError for an unknown option."""
        options, others = self.parse_known_args(args, namespace)
        if others:
            self.error(f"there is no option {others[0]}")
        return options


def add_checkpoint(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add ``--ckpt_path`` and ``--allow_classes``."""
    parser.add_argument("--ckpt_path", required=required, metavar="C", help=_CHECKPOINTS)
    add_allow_classes(parser)


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add ``--ckpt_path``, also for names on the Hugging Face Hub and by default the starter's."""
    known = f"{_CHECKPOINTS}, or owner/name on the Hugging Face Hub (default: {STARTER})"
    parser.add_argument("--ckpt_path", metavar="C", help=known)
    add_allow_classes(parser)


def add_several(parser: argparse.ArgumentParser) -> None:
    """Let ``--ckpt_path``, added before, take several networks, which are used as one."""
    action = next(each for each in parser._actions if each.dest == "ckpt_path")
    action.nargs = "+"
    action.help = f"{action.help}; several, such as folds or seeds, or the folder of an ensemble that "
    action.help += "`mtmsa calibrate` wrote, are one mixture"


def split_networks(words: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the networks among the words after ``--ckpt_path``, of which the first is one, and the rest."""
    words = list(words or ())
    found = [number == 0 or _is_network(Path(word)) for number, word in enumerate(words)]
    networks = [word for word, there in zip(words, found, strict=True) if there]
    return networks, [word for word, there in zip(words, found, strict=True) if not there]


def _is_network(path: Path) -> bool:
    """Return whether a path is a checkpoint file, or a folder that stands for a network or an ensemble."""
    return path.suffix == ".ckpt" or (path / BEST).is_file() or is_pretrained(path) or is_ensemble(path)


def find_networks(ckpt_paths: Sequence[str | None]) -> list[str]:
    """Return the checkpoint files of :func:`find_network`, or the folder of an ensemble, which is checked."""
    if len(ckpt_paths) == 1 and ckpt_paths[0] is not None and is_ensemble(Path(ckpt_paths[0])):
        network_files([ckpt_paths[0]])
        return [ckpt_paths[0]]
    return [str(find_network(path)) for path in ckpt_paths]


def find_network(ckpt_path: str | None) -> Path:
    """Return the checkpoint file that ``--ckpt_path`` of :func:`add_network` names.

    Raises:
        CheckpointError: There is none; without ``--ckpt_path``, the starter is not installed.
    """
    if ckpt_path is not None:
        return check_source(ckpt_path)
    try:
        return check_source(starter_folder())  # not a folder of that name in the working directory
    except CheckpointError as error:
        raise CheckpointError(f"give --ckpt_path, a trained network ({error})") from error


def add_allow_classes(parser: argparse.ArgumentParser) -> None:
    """Add ``--allow_classes``, which :func:`mtmsa_lightning.cli.main.main` reads."""
    parser.add_argument("--allow_classes", metavar="NAMES", help=ALLOW_CLASSES)


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add the options of the search for faces, see :class:`mtmsa_lightning.align.search.PhotoSearch`."""
    parser.add_argument(
        "--smallest_face", type=whole_number_from(10), default=SMALLEST_FACE, metavar="PIXELS",
        help="shorter side of the smallest face that is searched for in large photos; half of it takes four "
        "times as long",
    )  # fmt: skip
    parser.add_argument(
        "--orientation", choices=ORIENTATIONS, default=ORIENTATIONS[0], help="auto: photos without a certain "
        "upright face are tried at four quarter turns; upright: photos are upright, after EXIF",
    )  # fmt: skip


def add_boolean(
    parser: argparse.ArgumentParser, name: str, help: str, default: bool | None = False, note: str = ""
) -> None:
    """Add an option that takes ``true`` or ``false``; ``note`` describes a default of None."""
    text = f"{help} (default: {note})" if default is None else help
    parser.add_argument(name, type=boolean, default=default, metavar="{true,false}", help=text)


def boolean(text: str) -> bool:
    """Read ``true`` or ``false``, or raise ArgumentTypeError."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false, not {text!r}")
    return text.lower() == "true"


def whole_number(text: str) -> int:
    """Read a whole number, or raise ArgumentTypeError."""
    return _read(int, text, "a whole number")


def whole_number_from(least: int, most: float = math.inf) -> Callable[[str], int]:
    """Return a function that reads a whole number within a range, or raises ArgumentTypeError."""
    return lambda text: _within(whole_number(text), least, most, f"a whole number from {least:g}", text)


def number_from(least: float, most: float = math.inf) -> Callable[[str], float]:
    """Return a function that reads a finite number within a range, or raises ArgumentTypeError."""
    return lambda text: _within(real_number(text), least, most, f"a number from {least:g}", text)


def fraction(text: str) -> float:
    """Read a number from 0 to 1, or raise ArgumentTypeError."""
    return number_from(0, 1)(text)


def positive_number(text: str) -> float:
    """Read a finite number above 0, or raise ArgumentTypeError."""
    number = real_number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return number


def open_fraction(text: str) -> float:
    """Read a number between 0 and 1, neither included, or raise ArgumentTypeError with a hint."""
    plain = text.strip().removesuffix("%").strip()
    number = _read(float, plain, "a number between 0 and 1")
    if 0 < number < 1 and plain == text.strip():
        return number
    share = number if 0 < number < 100 else 5.0
    hint = f"for {share:g} % write {share / 100:g}"
    raise argparse.ArgumentTypeError(f"must be a number between 0 and 1, not {text!r}; {hint}")


def real_number(text: str) -> float:
    """Read a number, or raise ArgumentTypeError."""
    return _read(float, text, "a number")


def one_of(choices: type[_Choice]) -> Callable[[str], _Choice]:
    """Return a function that reads one of several names, or raises ArgumentTypeError."""
    return lambda text: _read(choices, text, f"one of {', '.join(choices)}")


def parse_shard(text: str) -> tuple[int, int]:
    """Return the number, from 1, and the count of ``--shard I/N``; raise ConfigError for any other text."""
    index, _, number = text.partition("/")
    if not (index.isdecimal() and number.isdecimal() and 1 <= int(index) <= int(number)):
        raise ConfigError(f"--shard {text}: write I/N with I from 1 to N, such as 1/4")
    return int(index), int(number)


def _within(number: _Number, least: float, most: float, what: str, text: str) -> _Number:
    if not (least <= number <= most and math.isfinite(number)):
        what += "" if most == math.inf else f" to {most:g}"
        raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}")
    return number


def _read(kind: Callable[[str], _Value], text: str, what: str) -> _Value:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}") from None
