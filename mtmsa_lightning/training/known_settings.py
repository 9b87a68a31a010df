"""The settings and classes that a command line of ``fit``, ``validate`` or ``test`` may name, for hints."""

import inspect
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import yaml
from lightning.pytorch import Trainer, callbacks, loggers
from torch.optim import lr_scheduler

import mtmsa_lightning
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.datasets import CLASSES
from mtmsa_lightning.models.heads import age as age_heads
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.optim.schedulers import WarmupCosine
from mtmsa_lightning.settings.configs import LINKED, RUN_SETTINGS, find_config, option, split_configs
from mtmsa_lightning.settings.messages import Known
from mtmsa_lightning.training.callbacks.checkpoints import BestCheckpoint


class _Chosen(NamedTuple):
    """A setting that chooses a class.

    Attributes:
        names: Names that are known without an import path.
        home: Where those classes are found.
        default: The class unless another is named.
        given: Number of arguments that it is called with, which are no settings.
    """

    names: Sequence[str]
    home: Any
    default: Any = None
    given: int = 0


def _subclasses(module: Any, base: type) -> list[str]:
    """Return the public classes of a module that can be built."""
    found = {name: each for name, each in vars(module).items() if inspect.isclass(each) and each is not base}
    names = (name for name, each in found.items() if issubclass(each, base) and not inspect.isabstract(each))
    return sorted(name for name in names if not name.startswith(("_", "Base")))


CHOSEN = {
    "data": _Chosen([*CLASSES.values()], mtmsa_lightning, FaceDataModule),
    "model.msa": _Chosen(["MSAConfig"], mtmsa_lightning, mtmsa_lightning.MSAConfig),
    "model.age": _Chosen(
        _subclasses(age_heads, age_heads.AgeHead), age_heads, age_heads.GaussianAgeHead, 1
    ),
    "model.gender": _Chosen(["ClassHead"], mtmsa_lightning, mtmsa_lightning.ClassHead, 2),
    "model.race": _Chosen(["ClassHead"], mtmsa_lightning, mtmsa_lightning.ClassHead, 2),
    "model.optimizer": _Chosen(
        _subclasses(torch.optim, torch.optim.Optimizer), torch.optim, torch.optim.AdamW, 1
    ),
    "model.scheduler": _Chosen(
        ["WarmupCosine", *_subclasses(lr_scheduler, lr_scheduler.LRScheduler)], lr_scheduler, WarmupCosine, 1
    ),
    "trainer.callbacks": _Chosen(_subclasses(callbacks, callbacks.Callback), callbacks),
    "trainer.logger": _Chosen(_subclasses(loggers, loggers.Logger), loggers),
}  # fmt: skip
"""Settings that choose a class."""


def known_settings(args: Sequence[str]) -> Known:
    """List the settings of a command line, those of the classes that it chooses included.

    Args:
        args: Arguments after the verb.
    """
    model = [name for name in inspect.signature(MTMSA).parameters if name not in LINKED]
    settings = {
        "": [*RUN_SETTINGS],
        "trainer": [*inspect.signature(Trainer).parameters],
        "model": model,
        "checkpoint": [*inspect.signature(BestCheckpoint).parameters],
    }
    names = {}
    for path, chosen in CHOSEN.items():
        cls = _class(_named(args, path), chosen.home) or chosen.default
        settings[path] = _arguments(cls)[chosen.given :] if cls else []
        names[path] = getattr(cls, "__name__", path)
    return Known(settings, {path: chosen.names for path, chosen in CHOSEN.items()}, names)


def _arguments(cls: type) -> list[str]:
    """Return the names of a class's arguments, those that it passes on to its bases included."""
    names: dict[str, None] = {}
    for each in [base for base in cls.__mro__ if "__init__" in vars(base)]:
        parameters = inspect.signature(each).parameters.values()
        names |= {
            parameter.name: None
            for parameter in parameters
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            break
    return list(names)


def _class(name: str | None, home: Any) -> Any:
    """Return a class by its name or import path; None if there is none, or it has not been imported yet."""
    module, _, short = (name or "").rpartition(".")
    return getattr(sys.modules.get(module) if module else home, short, None)


def _named(args: Sequence[str], path: str) -> str | None:
    """Return the name of the class that a command line, else its last config, chooses for a setting."""
    for name in (path, f"{path}.class_path", f"{path}+"):
        if (given := option(args, name)) is not None:
            return given
    for config in reversed(split_configs(args)[0]):
        value: Any = yaml.safe_load(find_config(config).read_text(encoding="utf-8"))
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str):
            return value
        if isinstance(value, dict) and isinstance(value.get("class_path"), str):
            return str(value["class_path"])
    return None
