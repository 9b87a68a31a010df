"""Turn errors of the parser, which joins what it tried in one text, and of the Trainer into one message."""

import re
import sys
import traceback
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches

from mtmsa_lightning._utils.text import install
from mtmsa_lightning.errors import ConfigError, MTMSAError

NO_DATA = "name a config, e.g. `--config morph.yaml`, or a DataModule, e.g. `--data FaceCSV`"
"""Message if neither a config nor a dataset is given."""

# The parser raises ArgumentError for every mistake: only its text names the setting. Each alternative
# below is needed by a line of tests/settings/test_error_messages.py, which fails if the wording changes.
_UNKNOWN = re.compile(
    r"Option '([^']+)' is not accepted|does not accept option '([^']+)'|unrecognized arguments: ([^\s=]+)"
)
"""Texts for a setting that does not exist."""

_KEY = re.compile(r"Parser key \"([^\"]+)\"")
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_REQUIRED = re.compile(r"the following arguments are required: (.+)")
_NO_CLASS = re.compile(r"Expected a dot import path string: (.*)")
_NESTED = re.compile(r"NestedArg\(key='[^']*', val=(?:'([^']*)'|(.*))\)$")
_CALLABLE = re.compile(r"Type \S*Callable\[.*?\] expects a function or a callable class: ")
_DROPPED = re.compile(r"Does not validate against|Subtypes:|Errors:|Given value type:|Expected a path but")

_TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text",
          "dict": "a mapping, such as '{name: value}'"}  # fmt: skip
_IMPORT = "the import path of a class"
_LISTS = ("tuple", "list", "set", "Sequence", "Iterable")
_NOTHING = ("none", "false", "no", "off")
"""Values that users write in place of ``null``."""

_INSTEAD = {
    "resume": "--ckpt_path last continues the newest run", "gpus": "give --devices",
    "seed": "give --seed_everything, of the run, or --data.seed, of the split",
}  # fmt: skip
"""Settings of other programs, and what replaces them here."""

_CHECKING = ("jsonargparse", "lightning", "lightning_fabric", "mtmsa_lightning", "pytorch_lightning", "torch")
"""Packages whose errors about a value are shown without a traceback."""

_MAX_LISTED = 40
_MAX_VALUE = 60
_MAX_REASON = 400


@dataclass(frozen=True)
class Known:
    """The settings and classes that a command line may name, by section (``""`` for the command itself)."""

    settings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # that may be chosen
    chosen: Mapping[str, str] = field(default_factory=dict)  # names of the chosen classes


def explain(error: Exception, known: Callable[[], Known] = Known) -> str | None:
    """Return a short message for an error of the command line or config; None if it needs its traceback.

    ``known`` returns the settings that could have been meant; it is called only if the message needs it.
    """
    text = str(error)
    if isinstance(error, ValueError) and _raised_in(error) == "lightning":  # about a Trainer's argument
        return text.strip()
    refused = "Union subtypes" in text and not _from_elsewhere(error)
    if not (isinstance(error, ArgumentError) or _misconfigured(error) or refused):
        return None
    try:
        settings = known()
    except (MTMSAError, OSError):  # a config was moved in the meantime
        settings = Known()
    return _Refusal(text).message(settings)


@contextmanager
def as_config_error(what: str = "") -> Iterator[None]:
    """Turn errors of constructors about their arguments into one short message.

    An error in the user's own code keeps its traceback. ``what`` is the setting that names the class, if the
    error does not name it.

    Raises:
        ConfigError: For a ValueError or TypeError of the parser, torch, Lightning or this package, for
            Lightning's MisconfigurationException, and for a package that is not installed.
    """
    try:
        yield
    except Exception as error:
        refused = isinstance(error, ValueError | TypeError) and not _from_elsewhere(error)
        refused = refused or isinstance(error, ModuleNotFoundError) or _misconfigured(error)
        if isinstance(error, MTMSAError) or not refused:
            raise
        if "`tensorboard`" in str(error):
            raise ConfigError(f"TensorBoard is not installed: {install('tensorboard')}") from error
        message = explain(error) or str(error)
        raise ConfigError(f"{what}: {message}" if what else message) from error


def _misconfigured(error: Exception) -> bool:
    return type(error).__name__ == "MisconfigurationException"


def _from_elsewhere(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, was raised in the user's own code."""
    while error is not None:
        if _raised_in(error) not in _CHECKING:
            return True
        error = error.__cause__
    return False


def _raised_in(error: BaseException) -> str:
    """Return the package that raised an error, or that called the standard library that raised it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    packages = [str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in frames]
    outside = [package for package in packages if package not in sys.stdlib_module_names]
    return outside[-1] if outside else ""


class _Refusal:
    """An error of the parser, read from its text: an indented list of what was tried."""

    def __init__(self, text: str) -> None:
        self.keys: list[str] = []
        self.cls = self.value = ""
        self.types: list[str] = []
        self.reasons: list[str] = []
        depth = -1
        for line in text.splitlines():
            content = _CALLABLE.sub("", re.sub(r"^[\s-]+", "", line))
            if (key := _KEY.match(content)) and not self.reasons:
                indent = len(line) - len(line.lstrip())
                self.keys += [key[1]] if indent > depth else []
                depth = max(depth, indent)
            elif (cls := _CLASS.match(content)) and not self.reasons:
                self.cls = cls[1]
            elif not (key or cls or _DROPPED.match(content)):
                self._read(content)
        self.path = ".".join(self.keys)  # such as ``model.msa.rates``

    def _read(self, line: str) -> None:
        line = re.sub(r"<class '([\w.]+)'>", r"\1", line)
        line, _, got = line.partition(". Got value: ")
        if line.startswith("Given value: "):
            got, line = line.removeprefix("Given value: "), ""
        if nested := _NESTED.match(got):
            got = nested[1] or nested[2] or ""
        within = got.startswith("{") and _IMPORT in self.types and self.value  # a class in other settings
        if got and "Namespace(" not in got and (not self.value or not line) and not within:
            self.value = got
        if missing := _NO_CLASS.match(line):
            self.value = self.value or missing[1]
            self.types.append(_IMPORT)
        elif line.startswith("Expected a ") and not line.startswith("Expected a subclass"):
            self.types.append(line.removeprefix("Expected a "))
        elif line and line not in self.reasons:
            self.reasons.append(line)

    def message(self, known: Known) -> str:
        """Return the message."""
        text = "\n".join(self.reasons)
        if ("is abstract" in text and self.path == "data") or re.search(r"required: (\w+\.)?data\b", text):
            return NO_DATA
        if unknown := _UNKNOWN.search(text):
            name = next(filter(None, unknown.groups()))
            return unknown_setting(".".join([*self.keys, name]), known)
        if required := _REQUIRED.search(text):
            return self._required(required[1].split(", "), known)
        if self.path in known.classes and self.value and not self.reasons:
            return self._no_class(known.classes[self.path])
        if self.reasons and not self.path:
            ours = self.cls.startswith("mtmsa_lightning") or not self.cls
            return _short(text if ours else f"{self.cls.rpartition('.')[2]}: {text}")
        wanted = text or f"must be {_types(self.types, self.value)}"
        value = f" {self.value[:_MAX_VALUE]}" if self.value and "Namespace" not in self.value else ""
        return _short(f"{self.path}{value}: {wanted}")

    def _required(self, names: Sequence[str], known: Known) -> str:
        if not self.path:
            return f"give {' '.join(f'--{name} VALUE' for name in names)}"
        cls = self.cls.rpartition(".")[2] or known.chosen.get(self.path, self.path)
        given = " ".join(f"--{self.path}.{name} VALUE" for name in names)
        return f"{self.path}: {cls} needs {' and '.join(names)}: give {given}"

    def _no_class(self, names: Sequence[str]) -> str:
        if self.value.lower() in _NOTHING:
            return f"{self.path} {self.value}: write null for none"
        if self.value in names:
            return f"{self.path} {self.value}: must be a list: [{self.value}], or --{self.path}+={self.value}"
        near = _near_class(self.value, names)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(names)}"
        return f"{self.path} {self.value}: there is no class of that name; {hint}"


def _near_class(name: str, names: Sequence[str]) -> list[str]:
    """Return class names similar to a name, with or without their common endings."""
    short = {re.sub(r"(AgeHead|Logger|LR)$", "", each).lower(): each for each in names}
    pool = short | {each.lower(): each for each in names}
    near = get_close_matches(name.lower(), pool, n=2, cutoff=0.7)
    near = near or [each for each in pool if name.lower() in each][:2]
    return list(dict.fromkeys(pool[each] for each in near))


def _types(types: Sequence[str], value: str) -> str:
    """Describe the types that a value may have."""
    literals = [
        match[1].replace("'", "") for text in types if (match := re.match(r"typing\.Literal\[(.*)\]", text))
    ]
    described = [f"one of {', '.join(literals)}"] if literals else []
    names = [text.rpartition(".")[2] for text in types if not text.startswith("typing.Literal")]
    for name in names:
        if name == _IMPORT and len(types) > 1:
            continue
        if name in _LISTS:
            described.append(f"a list in brackets: [{value}]" if value and value[0] not in "[{" else "a list")
        elif name != "NoneType" and not (name == "int" and "float" in names):
            described.append(_TYPES.get(name, name))
    return " or ".join(dict.fromkeys(described))


def _short(text: str) -> str:
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]} ..."


def unknown_setting(path: str, known: Known) -> str:
    """Return the message for a setting that does not exist, with similar ones."""
    if not path.startswith("--") and path.startswith("-"):
        return f"there is no option {path}: `mtmsa COMMAND --help` lists all"
    parts = [part for part in path.removeprefix("--").split(".") if part != "init_args"]
    section: list[str] = []
    while len(parts) > 1 and ".".join([*section, parts[0]]) in known.settings:
        section.append(parts.pop(0))
    place, name = ".".join(section), parts[0]
    message = f"there is no setting {path.removeprefix('--')}: "
    if name in _INSTEAD:
        return message + _INSTEAD[name]
    if len(parts) > 1 and name in known.settings.get(place, ()):
        return f"{message}did you mean another setting of the class given in {place}.{name}?"
    meant = _meant(place, name, parts[-1], known.settings)
    if meant:
        return message + f"did you mean {' or '.join(f'--{full}' for full in meant)}?"
    here = known.settings.get(place, ())
    if place and here and len(here) <= _MAX_LISTED:
        return message + f"{known.chosen.get(place, place)} has {', '.join(here)}"
    return message + "`mtmsa COMMAND --help` lists all"


def _meant(place: str, name: str, leaf: str, settings: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the settings that a name could mean: the same name elsewhere, else a similar one."""
    everywhere = [(section, each) for section, names in settings.items() for each in names]
    near = get_close_matches(name, settings.get(place, ()), n=2, cutoff=0.6)
    like = get_close_matches(name, [each for _, each in everywhere], n=2, cutoff=0.75)
    found = (
        [(section, each) for section, each in everywhere if each == leaf],
        [(place, each) for each in near],
        [(section, each) for section, each in everywhere if each in like],
    )
    return [f"{section}.{each}".lstrip(".") for section, each in next(filter(None, found), [])[:2]]
