"""The settings and classes that a command line of ``fit``, ``validate`` or ``test`` may name."""

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
from mtmsa_lightning.settings.class_paths import ALLOW_CLASSES
from mtmsa_lightning.settings.configs import LINKED, find_config, option, split_configs
from mtmsa_lightning.settings.error_messages import Known
from mtmsa_lightning.training.callbacks.checkpoints import BestCheckpoint
from mtmsa_lightning.training.callbacks.wandb import WandbMode

RUN_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "ckpt_path": (str | None, None, "A checkpoint, a run directory (its best.ckpt), a folder of runs or of "
                  "pretrained weights; for fit, the run to continue, or `last`: the newest one."),
    "name": (str, "run", "Name of the experiment; runs go to <root>/<name>/<time>."),
    "run_dir": (str | None, None, "Directory of the run; an existing run is continued."),
    "wandb": (WandbMode | None, None, "Default: WANDB_MODE, else online if possible."),
    "wandb_faces": (bool, False, "Send photos and file names of faces to W&B."),
    "ema": (float | None, None, "Decay of averaged weights, e.g. 0.999."),
    "compile": (bool, False, "Compile the network; the first steps take minutes."),
    "test_after_fit": (bool, True, "Test the best checkpoint after a fit."),
    "allow_overlap": (bool, False, "Train for and test on faces that the initial weights were trained on; "
                      "recorded."),
    "allow_classes": (str | None, None, f"{ALLOW_CLASSES} (command line only)."),
}  # fmt: skip
"""Type, default and help of the options of a run beside trainer, model, data and checkpoint."""


class _Chosen(NamedTuple):
    """A setting that chooses a class.

    Attributes:
        names: Names of classes that need no import path.
        home: Module of those classes.
        default: The class unless another one is named.
        given: Number of arguments that are passed to the class, which are not settings.
    """

    names: Sequence[str]
    home: Any
    default: Any = None
    given: int = 0


def _subclasses(module: Any, base: type) -> list[str]:
    """Return the names of the public, concrete subclasses in a module."""
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
"""The settings that choose a class."""


def known_settings(args: Sequence[str]) -> Known:
    """Return the settings of a command line, including those of the classes that it chooses.

    Args:
        args: Arguments after the command.
    """
    model = [name for name in inspect.signature(MTMSA).parameters if name not in LINKED]
    settings = {
        "": ["config", "seed_everything", "checkpoint", "trainer", "model", "data", *RUN_OPTIONS],
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
    """Return the names of a class's arguments, including those passed on to its bases."""
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
    """Return a class by its name or import path; None if it does not exist or is not imported yet."""
    module, _, short = (name or "").rpartition(".")
    return getattr(sys.modules.get(module) if module else home, short, None)


def _named(args: Sequence[str], path: str) -> str | None:
    """Return the name of the class that a command line, or else its last config, chooses for a setting."""
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
