"""Heads as plain values: what a checkpoint records, and how it is built again."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import mtmsa_lightning
from mtmsa_lightning.models.age_heads import AgeHead
from mtmsa_lightning.models.heads import ClassHead
from mtmsa_lightning.named_classes import find_class


def head_spec(head: AgeHead | ClassHead | None) -> dict[str, Any] | None:
    """Record a head as ``{class_path, init_args}``, plain values only."""
    if head is None:
        return None
    return {"class_path": _class_path(type(head)), "init_args": dict(head.init_args)}


def _class_path(cls: type) -> str:
    """Return the name by which the package exports a class: it stays when the class moves to another file."""
    name = cls.__qualname__
    if getattr(mtmsa_lightning, name, None) is cls:
        return f"mtmsa_lightning.{name}"
    return f"{cls.__module__}.{name}"


def callable_spec(factory: Any) -> Any:
    """Record an optimiser or scheduler given as class or partial; a record stays as it is.

    What is not a class, partial or record (a lambda, say) is recorded as None.
    """
    if isinstance(factory, Mapping):
        return dict(factory)
    inner = factory.func if isinstance(factory, partial) else factory
    if not isinstance(inner, type):
        return None
    arguments = factory.keywords if isinstance(factory, partial) else {}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
    return {"class_path": f"{inner.__module__}.{inner.__qualname__}", "init_args": plain}


def build_head(head: Any, *features: int) -> Any:
    """Build a head.

    Args:
        head: A class or partial that takes ``features``, a recorded ``{class_path, init_args}``, or None.
        features: Numbers of input features and, for class heads, of classes.

    Returns:
        The head, or None.

    Raises:
        CheckpointError: If a recorded class is no head, or none that a file may name.
    """
    if not isinstance(head, Mapping):
        return None if head is None else head(*features)
    cls = find_class(str(head["class_path"]), AgeHead, ClassHead)
    return cls(*features, **head.get("init_args", {}))
