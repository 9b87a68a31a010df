"""Augmentations of the user, from settings, files and Python."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mtmsa_lightning._utils.yaml_text import load_yaml
from mtmsa_lightning.data.augment.cpu import augmented
from mtmsa_lightning.data.augment.presets import PRESETS, albumentations, preset_name
from mtmsa_lightning.data.augment.steps import FORMS, SUFFIXES, build_steps
from mtmsa_lightning.errors import ConfigError

AugmentSetting = bool | str | list[dict[str, object]] | dict[str, object]
"""Values of ``data.augment`` in a config, see :func:`build_augmentation`."""

_TRIALS = 8


def build_augmentation(setting: Any) -> Any:
    """Return the name of a preset, or build and try an augmentation.

    Args:
        setting: One of

            - the name of a preset (true is ``light``, false is ``none``);
            - a list of steps ``{class_path: albumentations.Blur, init_args: {p: 0.5}}``, which may hold
              steps; ``albumentations.`` may be left out, and a class may be the user's own transform;
            - a dict of ``albumentations.to_dict``;
            - a file with one of these, as written by ``albumentations.save``;
            - ``{class_path: mylab.Fog, init_args: {...}}`` or ``mylab.Fog``: any class whose instances take
              an RGB image (uint8, shape (height, width, 3)) and return one of any size;
            - in Python also an albumentations pipeline or such a callable.

            Random numbers must come from albumentations' states or the global ones of ``random``, NumPy and
            torch, which are set for every sample.

    Returns:
        The name of a preset, an albumentations ``Compose``, or a callable.

    Raises:
        ConfigError: The setting is not an augmentation, or a trial on an image fails.
    """
    if preset := preset_name(setting):
        return preset
    built = build_steps(read_setting(setting))
    library = albumentations()
    if isinstance(built, library.BasicTransform | library.BaseCompose) and not isinstance(
        built, library.Compose
    ):
        built = library.Compose([built])
    _try(built)
    return built


def read_setting(setting: Any) -> Any:
    """Return a setting of an augmentation with the content of a file in place of its name.

    Raises:
        ConfigError: The file cannot be read, or the text names neither a preset, nor a file or class.
    """
    if not isinstance(setting, str) or preset_name(setting):
        return setting
    if not setting.endswith(SUFFIXES):
        if "." in setting and all(part.isidentifier() for part in setting.split(".")):
            return {"class_path": setting}
        raise ConfigError(f"data.augment {setting!r}: give {FORMS}")
    try:
        text = Path(setting).read_text(encoding="utf-8")
        content = json.loads(text) if setting.endswith(".json") else load_yaml(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"data.augment {setting}: cannot be read: {error}") from error
    if not isinstance(content, dict | list):
        raise ConfigError(f"data.augment {setting}: has no pipeline: write it with albumentations.save")
    return content


def describe_augmentation(setting: Any, built: Any, image_size: int) -> dict[str, Any]:
    """Return what was applied, as plain values: the setting and the pipeline.

    Args:
        setting: The value of ``data.augment``.
        built: The result of :func:`build_augmentation`.
        image_size: Side of the output in pixels.
    """
    pipeline = PRESETS[built](image_size) if isinstance(built, str) else built
    name = built if isinstance(built, str) else "own"
    if pipeline is None:
        return {"name": name}
    try:
        content = pipeline.to_dict()
    except Exception:  # a callable, or a transform that albumentations cannot write
        given, cls = read_setting(setting), type(built)
        name_of_class = f"{cls.__module__}.{cls.__qualname__}"
        content = given if isinstance(given, dict | list) else {"class_path": name_of_class}
    return {"name": name, "pipeline": json.loads(json.dumps(content, default=str, allow_nan=False))}


def _try(augmentation: Any) -> None:
    """Apply an augmentation to an image several times, in two orders.

    Raises:
        ConfigError: The result is not an image, or not a function of the seed.
    """
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seeds = [*range(_TRIALS), *reversed(range(_TRIALS))]
            results = [augmented(augmentation, image.copy(), seed, isolated=True) for seed in seeds]
    except Exception as error:
        if isinstance(error, ConfigError) or not hasattr(augmentation, "set_random_state"):
            raise  # an error in the user's own code keeps its traceback
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"data.augment: a trial on an image failed: {reason}") from error
    if not all(np.array_equal(one, other) for one, other in zip(results, reversed(results), strict=True)):
        raise ConfigError(
            "data.augment: two calls with one seed return different images: draw random numbers in the call "
            "from albumentations' states (self.py_random, self.random_generator) or from random, numpy.random"
            " or torch, whose states are set for every face, not from a generator of the class"
        )
