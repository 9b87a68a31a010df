"""Transforms of albumentations and classes of the user, built from plain values."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from mtmsa_lightning.data.augment.presets import PRESETS, albumentations
from mtmsa_lightning.errors import ConfigError, shorten
from mtmsa_lightning.settings.class_paths import import_class

SUFFIXES = (".json", ".yaml", ".yml")
"""Names of files that hold a pipeline end with one of these."""

FORMS = (
    f"a preset ({', '.join(PRESETS)}), a file ({', '.join(SUFFIXES)}) or a class with dots, e.g. mylab.Fog"
)
"""Values of ``data.augment`` that are one word, for messages."""


def build_steps(setting: Any) -> Any:
    """Build the object that a setting of plain values describes, or return a callable unchanged.

    ConfigError if the setting has no known form or names no class, or a class refuses its arguments.
    """
    if isinstance(setting, list):
        library = albumentations()
        steps = [build_steps(each) for each in setting]
        for step in steps:
            if not isinstance(step, library.BasicTransform | library.BaseCompose):
                raise ConfigError(
                    f"data.augment: {type(step).__name__} is not a transform of albumentations: derive it "
                    "from albumentations.ImageOnlyTransform for use in a list, or give it alone"
                )
        return library.Compose(steps)
    if isinstance(setting, Mapping):
        if "transform" in setting or "__class_fullname__" in setting:
            return _from_saved(setting.get("transform", setting))
        return _from_class_path(setting)
    if isinstance(setting, type):
        return setting()
    if callable(setting):
        return setting
    raise ConfigError(
        f"data.augment {setting!r}: give {FORMS}, a list of steps, or a dict of albumentations.to_dict"
    )


def _from_class_path(setting: Mapping[str, Any]) -> Any:
    """Build ``{class_path: ..., init_args: {...}}``, with steps inside its arguments."""
    name, arguments = setting.get("class_path"), setting.get("init_args") or {}
    extra = [key for key in setting if key not in ("class_path", "init_args")]
    if not isinstance(name, str) or not isinstance(arguments, Mapping) or extra:
        raise ConfigError(
            f"data.augment {shorten(str(dict(setting)), 200)}: give a class_path and init_args, or a dict of "
            "albumentations.to_dict"
        )
    cls = _find(name)
    built = {key: _nested(value) for key, value in arguments.items()}
    if _is_step(cls):
        return _checked(name, lambda: cls(**built))
    try:
        inspect.signature(cls).bind(**built)
    except TypeError as error:
        raise ConfigError(f"data.augment, init_args of {name}: {error}") from error
    return cls(**built)


def _nested(value: Any) -> Any:
    """Build the steps in an argument of a step."""
    if isinstance(value, list | tuple):
        return [_nested(each) for each in value]
    return _from_class_path(value) if isinstance(value, Mapping) and "class_path" in value else value


def _from_saved(content: Any) -> Any:
    """Build the pipeline of ``albumentations.to_dict``."""
    for name in _saved_names(content):
        _find(name)  # a class of the user's is known to albumentations once it has been imported
    return _checked("pipeline", lambda: albumentations().from_dict({"transform": content}))


def _saved_names(content: Any) -> Iterator[str]:
    if isinstance(content, Mapping):
        if "__class_fullname__" in content:
            yield str(content["__class_fullname__"])
        content = list(content.values())
    for each in content if isinstance(content, list | tuple) else ():
        yield from _saved_names(each)


def _find(name: str) -> Any:
    """Return a class of albumentations by its name, or any other by its name with dots."""
    library = albumentations()
    package, _, short = name.rpartition(".")
    if package and package.partition(".")[0] != "albumentations":
        return import_class(name, "data.augment")
    cls = getattr(library, short, None)
    if not _is_step(cls):
        steps = [each for each in dir(library) if _is_step(getattr(library, each))]
        close = ", ".join(get_close_matches(short, steps)) or "see its documentation"
        raise ConfigError(
            f"data.augment: albumentations {library.__version__} has no transform {short!r} ({close})"
        )
    return cls


def _is_step(cls: Any) -> bool:
    library = albumentations()
    return isinstance(cls, type) and issubclass(cls, library.BasicTransform | library.BaseCompose)


def _checked(name: str, build: Callable[[], Any]) -> Any:
    """Build a step; albumentations only warns of unknown arguments."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return build()
    except (UserWarning, ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise ConfigError(f"data.augment, {name}: {shorten(' '.join(str(error).split()), 300)}") from error
