"""Classes that settings name: which of them a file may choose, and what another class starts from.

A command line and the configs that it names are the user's own word: they name any class. Files that come
with a checkpoint (its record of settings, the ``config.yaml`` of its run) may have been made by anyone, and
naming a class runs code: they name classes of this package and of torch.optim, a few of Lightning's, and what
the user allows, see :func:`allowing`.
"""

import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml

from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.settings.configs import find_config, split_configs

PACKAGE = "mtmsa_lightning"

_LIGHTNING = "lightning.pytorch"
_HARMLESS = {
    f"{_LIGHTNING}.callbacks": (
        "DeviceStatsMonitor", "EarlyStopping", "GradientAccumulationScheduler", "LearningRateMonitor",
        "ModelSummary", "RichModelSummary", "RichProgressBar", "StochasticWeightAveraging", "TQDMProgressBar",
    ),
    f"{_LIGHTNING}.strategies": ("DDPStrategy", "SingleDeviceStrategy"),
}  # fmt: skip
"""Classes of Lightning that runs of this package use, and that neither load nor run anything else."""

FROM_FILES = (PACKAGE, "torch.optim")
"""Packages whose classes any file may name."""

NOT_FROM_FILES = (f"{PACKAGE}.training",)
"""What it may not name of them: these write files wherever they are told to."""

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_DENIED = re.compile(r"Importing '([\w.]+)' is not allowed")
_allowed: ContextVar[tuple[str, ...]] = ContextVar("allowed", default=())


# ------------------------------------------------------------------------ the user's word


@contextmanager
def allowing(names: Iterable[str]) -> Iterator[None]:
    """Let files name classes that the user trusts.

    Args:
        names: Modules or classes, with dots, e.g. ``mylab`` or ``mylab.heads.MLPHead``; what lies in a module
            is allowed with it. They are found in the working directory too.

    Raises:
        ConfigError: One is no such name.
    """
    chosen = tuple(names)
    for name in chosen:
        if not _DOTTED.fullmatch(name) or _of_python(name):
            raise ConfigError(
                f"allow_classes {name!r}: give modules or classes of your own, with dots, e.g. mylab.heads"
            )
    import_from_here(chosen)
    token = _allowed.set((*_allowed.get(), *chosen))
    try:
        yield
    finally:
        _allowed.reset(token)


def allowed() -> tuple[str, ...]:
    """Return the names that the user allows at this moment."""
    return _allowed.get()


def split_names(text: str | None) -> tuple[str, ...]:
    """Read the value of ``--allow_classes``: names with commas between them."""
    return tuple(name.strip() for name in (text or "").strip("[]").split(",") if name.strip())


def names_in(value: Any) -> set[str]:
    """Return all texts in nested settings that could name a class."""
    if isinstance(value, dict):
        return {name for item in value.values() for name in names_in(item)}
    if isinstance(value, list | tuple):
        return {name for item in value for name in names_in(item)}
    return {value} if isinstance(value, str) and "." in value and _DOTTED.fullmatch(value) else set()


def own_names(args: Sequence[str]) -> set[str]:
    """Return the names of classes that the user wrote on the command line or in the configs named there."""
    configs, others = split_configs(args)
    values: list[Any] = [yaml.safe_load(find_config(name).read_text(encoding="utf-8")) for name in configs]
    for arg in others:
        text = arg.partition("=")[2] if arg.startswith("--") else arg
        with suppress(yaml.YAMLError):  # the parser will say what is wrong
            values.append(yaml.safe_load(text))
    return names_in(values)


def allow_option(settings: Any) -> str:
    """Return what a command on a run needs beside its path: `` --allow_classes NAMES``, or nothing.

    Args:
        settings: The settings that the run recorded.
    """
    known = (*FROM_FILES, *_lightning_names())
    modules = {name.rpartition(".")[0] for name in _class_paths(settings) if not _within(name, known)}
    names = [*allowed(), *sorted(each for each in modules if each and not _within(each, allowed()))]
    return f" --allow_classes {','.join(dict.fromkeys(names))}" if names else ""


def _class_paths(value: Any) -> Iterator[str]:
    """Yield the names of all classes in nested settings."""
    if isinstance(value, dict):
        if isinstance(value.get("class_path"), str):
            yield value["class_path"]
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _class_paths(item)


def import_from_here(names: Iterable[str]) -> None:
    """Put the working directory at the end of the path of imports if the user names a module that lies there.

    Without such a name nothing is imported from there, whatever the directory holds.
    """
    here = os.getcwd()  # noqa: PTH109  # what sys.path holds
    if here not in sys.path and any(_lies_in(Path(here), name) for name in names):
        sys.path.append(here)


def _lies_in(folder: Path, name: str) -> bool:
    """Tell whether a file of a folder holds a module by whose name a dotted name begins."""
    parts = name.split(".")
    for number in range(1, len(parts) + 1):
        module = folder.joinpath(*parts[:number])
        if module.with_suffix(".py").is_file() or (module / "__init__.py").is_file():
            return True
    return False


# ------------------------------------------------------------------------ one class


def find_class(name: str, *bases: type) -> type:
    """Return the class that a file names, importing it only if it may choose it.

    Args:
        name: Its dotted name.
        bases: What it must be derived from.

    Raises:
        CheckpointError: If it may not, there is no such class, or it is none of these.
    """
    cls = _in_process(name, bases)
    if cls is None and not _within(name, (PACKAGE, *allowed())):
        raise CheckpointError(refusal(name, ", or import it before you load"))
    module, _, attribute = name.rpartition(".")
    try:
        found: Any = cls or getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(f"the class {name} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, bases)):
        raise CheckpointError(f"{name} is no {' or '.join(base.__name__ for base in bases)}")
    return found


def refusal(name: str, otherwise: str = "") -> str:
    """Say that a file may not choose a class, and what to type if it may.

    Args:
        name: Its dotted name.
        otherwise: What else would help.
    """
    said = f"{name} is no class of this package, and a file does not choose what code runs"
    module = name.rpartition(".")[0]
    if _of_python(name):
        return said
    if module == "__main__":
        return f"{said}; it was defined in a script or a notebook: move it to a module that can be imported"
    return (
        f"{said}: if you trust it, add --allow_classes {module} (in Python allow_classes=[{module!r}])"
        f"{otherwise}"
    )


def _of_python(name: str) -> bool:
    """Tell whether a name is one of Python's own library, by which anything could be run."""
    return name.partition(".")[0] in sys.stdlib_module_names


def _in_process(name: str, bases: Sequence[type]) -> type | None:
    """Return the class of a name among those derived from bases that have been imported by now."""
    waiting, seen = list(bases), set[type]()
    while waiting:
        cls = waiting.pop()
        if f"{cls.__module__}.{cls.__qualname__}" == name:
            return cls
        derived: list[type] = cls.__subclasses__()
        new = [each for each in derived if each not in seen]
        seen.update(new)
        waiting += new
    return None


def _within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


# ------------------------------------------------------------------------ the parser of settings


@contextmanager
def parsing(
    sources: Sequence[str] = (), own: Iterable[str] = (), bases: Sequence[type] = ()
) -> Iterator[None]:
    """Let the parser of settings treat classes as this package means it, while it parses or builds.

    Args:
        sources: Files that came with a checkpoint and are among what is parsed, for the message. If there are
            any, only what may be chosen is imported.
        own: Names in the user's own settings, see :func:`names_in`.
        bases: Classes whose subclasses may be named if they have been imported by now.

    Raises:
        CheckpointError: If a class is named that may not be.
    """
    from jsonargparse import _common, _typehints, set_parsing_settings

    settings, discard = dict(_common.parsing_settings), _typehints.discard_init_args_on_class_path_change
    try:
        _typehints.discard_init_args_on_class_path_change = _start_from_defaults(discard)
        if sources:
            trusted = [*FROM_FILES, *_lightning_names(), *allowed(), *_modules_of(own), *_imported(bases)]
            kept = [name for name in trusted if not _common.denying_import_path_entry(name)]
            set_parsing_settings(import_path_denylist=["*", *NOT_FROM_FILES], import_path_allowlist=kept)
        yield
    except Exception as error:
        denied = _DENIED.search(str(error)) if sources else None
        if denied is None:
            raise
        raise CheckpointError(f"{' or '.join(sources)}: {refusal(denied[1])}") from error
    finally:
        _typehints.discard_init_args_on_class_path_change = discard
        _common.parsing_settings.update(settings)


def _start_from_defaults(discard: Any) -> Any:
    """Return what the parser does when a class takes the place of another: forget all that was set for that.

    The parser's own ``discard`` keeps what the new class takes as well, such as a weight decay.
    """

    def forget(parser_or_action: Any, previous: Any, value: Any) -> None:
        if not previous or previous.get("class_path") is None:  # arguments of no class: the base's own
            discard(parser_or_action, previous, value)
        elif previous["class_path"] != value["class_path"]:
            for key in ("init_args", "dict_kwargs"):
                if key in previous:
                    previous.pop(key)

    return forget


def _lightning_names() -> Iterator[str]:
    """Yield the names of the allowed classes of Lightning, and under which module each is defined."""
    for module, names in _HARMLESS.items():
        for name in names:
            yield f"{module}.{name}"
            cls = getattr(importlib.import_module(module), name)
            yield f"{cls.__module__}.{name}"


def _modules_of(names: Iterable[str]) -> Iterator[str]:
    """Yield the modules that names lie in, since a class may be defined deeper than it is named."""
    yield from (name.rpartition(".")[0] for name in names)


def _imported(bases: Sequence[type]) -> Iterator[str]:
    """Yield the names of all subclasses of bases that have been imported by now."""
    for base in bases:
        subclasses: list[type] = base.__subclasses__()
        for cls in subclasses:
            if "<" not in cls.__qualname__:  # defined within a function: it has no name to go by
                yield f"{cls.__module__}.{cls.__qualname__}"
            yield from _imported([cls])


ALLOW_CLASSES = (
    "modules or classes of yours that a checkpoint and the config of its run may name, e.g. "
    "mylab.heads,mylab.MyFaces; by default only those of this package and torch.optim"
)
"""Help text of ``--allow_classes``, see :func:`allowing`."""
