"""The settings and classes that a command line of ``fit``, ``validate`` or ``test`` may name."""

import inspect
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer, callbacks, loggers
from torch.optim import Optimizer, lr_scheduler

import mtmsa_lightning
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.datasets import DATA
from mtmsa_lightning.models.heads import age as age_heads
from mtmsa_lightning.models.heads.age import AgeHead
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.optim.schedulers import WarmupCosine
from mtmsa_lightning.settings.class_paths import ALLOW_CLASSES
from mtmsa_lightning.settings.configs import LINKED, setting
from mtmsa_lightning.settings.error_messages import Known
from mtmsa_lightning.training.callbacks.checkpoints import BestCheckpoint
from mtmsa_lightning.training.callbacks.wandb import WandbMode

RUN_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "ckpt_path": (str | None, None, "A checkpoint, a run directory (its best.ckpt), a folder of runs or of "
                  "pretrained weights, or `starter`; for fit, the run to continue, or `last`: the newest."),
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
    """A setting that chooses a class."""

    names: Sequence[str]  # of classes that need no import path
    home: Any  # module of those classes
    default: Any = None  # the class unless another one is named
    given: int = 0  # number of arguments that are passed to the class, which are not settings


def _subclasses(module: Any, base: type) -> list[str]:
    """Return the names of the public, concrete subclasses in a module."""
    found = {name: each for name, each in vars(module).items() if inspect.isclass(each) and each is not base}
    names = (name for name, each in found.items() if issubclass(each, base) and not inspect.isabstract(each))
    return sorted(name for name in names if not name.startswith(("_", "Base")))


CHOSEN = {
    "data": _Chosen([*DATA.values()], mtmsa_lightning, FaceDataModule),
    "model.msa": _Chosen(["MSAConfig"], mtmsa_lightning, mtmsa_lightning.MSAConfig),
    "model.age": _Chosen(_subclasses(age_heads, AgeHead), age_heads, age_heads.GaussianAgeHead, 1),
    "model.gender": _Chosen(["ClassHead"], mtmsa_lightning, mtmsa_lightning.ClassHead, 2),
    "model.race": _Chosen(["ClassHead"], mtmsa_lightning, mtmsa_lightning.ClassHead, 2),
    "model.optimizer": _Chosen(_subclasses(torch.optim, Optimizer), torch.optim, torch.optim.AdamW, 1),
    "model.scheduler": _Chosen(
        ["WarmupCosine", *_subclasses(lr_scheduler, lr_scheduler.LRScheduler)], lr_scheduler, WarmupCosine, 1
    ),
    "trainer.callbacks": _Chosen(_subclasses(callbacks, callbacks.Callback), callbacks),
    "trainer.logger": _Chosen(_subclasses(loggers, loggers.Logger), loggers),
}
"""The settings that choose a class."""


def known_settings(args: Sequence[str]) -> Known:
    """Return the settings of a command line after the command, including those of the classes it chooses."""
    settings = {
        "": ["config", "seed_everything", "checkpoint", "trainer", "model", "data", *RUN_OPTIONS],
        "trainer": [*inspect.signature(Trainer).parameters],
        "model": [name for name in inspect.signature(MTMSA).parameters if name not in LINKED],
        "checkpoint": [*inspect.signature(BestCheckpoint).parameters],
    }
    names = {}
    for path, chosen in CHOSEN.items():
        named = setting(args, f"{path}.class_path", path, f"{path}+")
        cls = _class(named, chosen.home) or chosen.default
        settings[path] = _arguments(cls, chosen.given) if cls else []
        names[path] = getattr(cls, "__name__", path)
    classes = {path: chosen.names for path, chosen in CHOSEN.items()}
    return Known(settings, classes | {"data.sources": classes["data"]}, names)


def _arguments(cls: type, given: int) -> list[str]:
    """Return the names of a class's arguments after the first ``given``, including those of its bases."""
    skip = {given} if given else None
    return list(ArgumentParser().add_class_arguments(cls, skip=skip, fail_untyped=False))


def _class(name: Any, home: Any) -> Any:
    """Return a class by its name or import path; None if it does not exist or is not imported yet."""
    module, _, short = str(name or "").rpartition(".")
    return getattr(sys.modules.get(module) if module else home, short, None)
