"""Record heads as plain values in checkpoints, and build them from records."""

from collections.abc import Mapping
from functools import partial
from inspect import signature
from typing import Any

import mtmsa_lightning
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.models.heads.age import AgeHead
from mtmsa_lightning.models.heads.classes import ClassHead
from mtmsa_lightning.settings.class_paths import find_class


def head_spec(head: AgeHead | ClassHead | None) -> dict[str, Any] | None:
    """Return a head as plain ``{class_path, init_args}``; ConfigError if they cannot build it again."""
    if head is None:
        return None
    _check_init_args(head)
    return {"class_path": _class_path(type(head)), "init_args": dict(head.init_args)}


def _check_init_args(head: AgeHead | ClassHead) -> None:
    """Raise ConfigError for arguments that a user's head does not record."""
    parameters = [*signature(type(head)).parameters.values()][1 if isinstance(head, AgeHead) else 2 :]
    named = {each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    any_other = any(each.kind == each.VAR_KEYWORD for each in parameters)
    wrong = [f"lack {name!r}" for name in sorted(named - head.init_args.keys())]
    wrong += [] if any_other else [f"hold {name!r}, no argument" for name in head.init_args.keys() - named]
    values = head.init_args.items()
    wrong += [f"hold no plain value in {key!r}" for key, each in values if not _is_plain(each)]
    if wrong:
        raise ConfigError(
            f"{_class_path(type(head))}: its init_args {'; '.join(wrong)}: set self.init_args to all "
            "arguments but the features and classes, as plain values, by which a checkpoint builds the head"
        )


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _class_path(cls: type) -> str:
    """Return the exported name of a class, which does not depend on its file."""
    name = cls.__qualname__
    if getattr(mtmsa_lightning, name, None) is cls:
        return f"mtmsa_lightning.{name}"
    return f"{cls.__module__}.{name}"


def callable_spec(factory: Any) -> Any:
    """Return the record of an optimiser or scheduler (a class, partial or record); None for anything else."""
    if isinstance(factory, Mapping):
        return dict(factory)
    inner = factory.func if isinstance(factory, partial) else factory
    if not isinstance(inner, type):
        return None
    arguments = factory.keywords if isinstance(factory, partial) else {}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
    return {"class_path": f"{inner.__module__}.{inner.__qualname__}", "init_args": plain}


def build_head(head: Any, *features: int) -> Any:
    """Build a head from a class or partial, a recorded ``{class_path, init_args}``, or None.

    CheckpointError if a recorded class is not a head, or a file may not name it.
    """
    if not isinstance(head, Mapping):
        return None if head is None else head(*features)
    cls = find_class(str(head["class_path"]), AgeHead, ClassHead)
    return cls(*features, **head.get("init_args", {}))
