"""Classes named by settings: which of them a file may choose, since naming one imports and runs its code.

The command line and its configs may name any class. Files that come with a checkpoint may name classes of
this package and of torch.optim, a few of Lightning's, and those that the user allows.
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

from mtmsa_lightning._utils.yaml_text import load_yaml
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
"""Classes of Lightning that runs of this package use, and that load or run nothing else."""

FROM_FILES = (PACKAGE, "torch.optim")
"""Packages whose classes any file may name."""

NOT_FROM_FILES = (f"{PACKAGE}.training",)
"""Modules of them that a file may not name, since they write files to any path."""

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_DENIED = re.compile(r"Importing '([\w.]+)' is not allowed")
_allowed: ContextVar[tuple[str, ...]] = ContextVar("allowed", default=())


@contextmanager
def allowing(names: Iterable[str]) -> Iterator[None]:
    """Allow files to name classes that the user trusts: modules or classes, with dots, e.g. ``mylab.heads``.

    They are searched for in the working directory too.

    Raises:
        ConfigError: A name is not a dotted name, or belongs to the standard library.
    """
    chosen = tuple(names)
    for name in chosen:
        if not _DOTTED.fullmatch(name) or _of_python(name):
            wanted = "give modules or classes of your own, with dots, e.g. mylab.heads"
            raise ConfigError(f"allow_classes {name!r}: {wanted}")
    import_from_here(chosen)
    token = _allowed.set((*_allowed.get(), *chosen))
    try:
        yield
    finally:
        _allowed.reset(token)


def allowed() -> tuple[str, ...]:
    """Return the names that are allowed at the moment."""
    return _allowed.get()


def split_names(text: str | None) -> tuple[str, ...]:
    """Return the names in a value of ``--allow_classes``, which are separated by commas."""
    return tuple(name.strip() for name in (text or "").strip("[]").split(",") if name.strip())


def names_in(value: Any) -> set[str]:
    """Return all strings in nested settings that could name a class."""
    if isinstance(value, dict):
        return {name for item in value.values() for name in names_in(item)}
    if isinstance(value, list | tuple):
        return {name for item in value for name in names_in(item)}
    return {value} if isinstance(value, str) and "." in value and _DOTTED.fullmatch(value) else set()


def own_names(args: Sequence[str]) -> set[str]:
    """Return the names of classes that the user wrote on the command line or in the configs named there."""
    configs, others = split_configs(args)
    values: list[Any] = [load_yaml(find_config(name).read_text(encoding="utf-8")) for name in configs]
    for arg in others:
        text = arg.partition("=")[2] if arg.startswith("--") else arg
        with suppress(yaml.YAMLError):  # the parser reports it
            values.append(load_yaml(text))
    return names_in(values)


def allow_option(settings: Any) -> str:
    """Return `` --allow_classes NAMES`` if a command on a run with these settings needs it, or nothing."""
    known = (*FROM_FILES, "albumentations", *_lightning_names())
    modules = {name.rpartition(".")[0] for name in _class_paths(settings) if not _within(name, known)}
    names = [*allowed(), *sorted(each for each in modules if each and not _within(each, allowed()))]
    return f" --allow_classes {','.join(dict.fromkeys(names))}" if names else ""


def _class_paths(value: Any) -> Iterator[str]:
    """Yield the names of all classes in nested settings."""
    if isinstance(value, dict):
        named = (value.get("class_path"), value.get("backbone"))
        yield from (name for name in named if isinstance(name, str) and _DOTTED.fullmatch(name))
        value = list(value.values())
    for item in value if isinstance(value, list | tuple) else ():
        yield from _class_paths(item)


def import_from_here(names: Iterable[str]) -> None:
    """Append the working directory to ``sys.path`` if a name is that of a module there."""
    here = os.getcwd()  # noqa: PTH109  # sys.path holds strings
    if here not in sys.path and any(_lies_in(Path(here), name) for name in names):
        sys.path.append(here)


def _lies_in(folder: Path, name: str) -> bool:
    """Return whether a folder holds a module whose name is the start of a dotted name."""
    parts = name.split(".")
    modules = [folder.joinpath(*parts[:number]) for number in range(1, len(parts) + 1)]
    return any(each.with_suffix(".py").is_file() or (each / "__init__.py").is_file() for each in modules)


def find_class(name: str, *bases: type) -> type:
    """Return the class with a dotted name that a file gives; import it only if the file may choose it.

    Raises:
        CheckpointError: The file may not choose the class, or it does not exist or derive from ``bases``.
    """
    cls = next((each for each in _subclasses(bases) if _name(each) == name), None)
    if cls is None and not _within(name, (PACKAGE, *allowed())):
        raise CheckpointError(refusal(name, ", or import it before you load"))
    module, _, attribute = name.rpartition(".")
    try:
        found: Any = cls or getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(f"the class {name} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, bases)):
        raise CheckpointError(f"{name} is not a subclass of {' or '.join(base.__name__ for base in bases)}")
    return found


def import_class(name: str, setting: str) -> Any:
    """Import the class that a setting of plain values names, with the restrictions of :func:`parsing`.

    Raises:
        ConfigError: It cannot be imported.
    """
    from jsonargparse._common import ImportDenied
    from jsonargparse._util import import_object

    try:
        found = import_object(name)
    except ImportDenied:
        raise
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{setting}: the class {name} cannot be imported: {error}") from error
    if not isinstance(found, type):
        raise ConfigError(f"{setting}: {name} is not a class")
    return found


def refusal(name: str, otherwise: str = "") -> str:
    """Return the message for a class that a file may not choose; ``otherwise`` is a further remedy."""
    reason = f"{name} is not a class of this package, and files must not choose what code runs"
    module = name.rpartition(".")[0]
    if _of_python(name):
        return reason
    if module == "__main__":
        return f"{reason}; it was defined in a script or notebook: move it to a module that can be imported"
    python = f"(in Python allow_classes=[{module!r}])"
    return f"{reason}: if you trust it, add --allow_classes {module} {python}{otherwise}"


def _of_python(name: str) -> bool:
    """Return whether a name belongs to the standard library, which can run anything."""
    return name.partition(".")[0] in sys.stdlib_module_names


def _subclasses(bases: Iterable[type]) -> Iterator[type]:
    """Yield classes and all their imported subclasses, those that were defined last first."""
    for base in bases:
        yield base
        yield from _subclasses(type.__subclasses__(base)[::-1])


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@contextmanager
def parsing(
    sources: Sequence[str] = (), own: Iterable[str] = (), bases: Sequence[type] = ()
) -> Iterator[None]:
    """Restrict which classes the parser imports, and reset the arguments of a class that is replaced.

    Args:
        sources: Files that came with a checkpoint and are parsed, for the message. If there are any, only
            allowed classes are imported, as CheckpointError reports.
        own: Names in the user's own settings, see :func:`names_in`.
        bases: Classes whose imported subclasses may be named.
    """
    from jsonargparse import _common, _typehints, set_parsing_settings

    settings, discard = dict(_common.parsing_settings), _typehints.discard_init_args_on_class_path_change
    try:
        _typehints.discard_init_args_on_class_path_change = _start_from_defaults(discard)
        if sources:
            modules = [name.rpartition(".")[0] for name in own]  # a class may be defined in a submodule
            imported = [name for name in map(_name, _subclasses(bases)) if "<" not in name]
            trusted = [*FROM_FILES, *_lightning_names(), *allowed(), *modules, *imported]
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
    """Return a function that discards all arguments of a class when another one replaces it.

    The parser's own ``discard`` keeps those that the new class takes too, such as a weight decay.
    """

    def forget(parser_or_action: Any, previous: Any, value: Any) -> None:
        if not previous or previous.get("class_path") is None:  # arguments of the base class
            discard(parser_or_action, previous, value)
        elif previous["class_path"] != value["class_path"]:
            for key in ("init_args", "dict_kwargs"):
                previous.pop(key, None)

    return forget


def _lightning_names() -> Iterator[str]:
    """Yield the names of the allowed classes of Lightning, as exported and as defined."""
    for module, names in _HARMLESS.items():
        for name in names:
            yield f"{module}.{name}"
            yield _name(getattr(importlib.import_module(module), name))


ALLOW_CLASSES = (
    "modules or classes of yours that a checkpoint and the config of its run may name, e.g. "
    "mylab.heads,mylab.MyFaces; by default only those of this package and torch.optim"
)
"""Help text of ``--allow_classes``, see :func:`allowing`."""
