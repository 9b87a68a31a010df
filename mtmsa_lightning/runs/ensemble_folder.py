"""The folder of an ensemble: one file that names its networks and holds their common calibration."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.folders import is_empty
from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.runs.checkpoints import ENSEMBLE, find_checkpoint, is_ensemble
from mtmsa_lightning.runs.directory import results_folder

FORMAT_VERSION = 1


class Member(NamedTuple):
    """A network of an ensemble: its file, the SHA-256 of its weights, whether it averages mirror images."""

    file: Path
    weights: str
    flip_test: bool


class EnsembleRecord(NamedTuple):
    """The networks of an ensemble and the calibration of their mixture, by ``Calibration.to_dict``."""

    members: tuple[Member, ...]
    calibration: dict[str, Any] | None


def read_ensemble(folder: Path) -> EnsembleRecord:
    """Return the record of a folder, without heavy imports.

    Raises:
        CheckpointError: It is unreadable or of another version, or the file of a network is missing.
    """
    file = folder / ENSEMBLE
    again = "make it again by `mtmsa calibrate --ckpt_path A B ... --out`"
    try:
        values = from_json(file.read_text(encoding="utf-8"))
        version = values["format_version"]
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{file}: has format version {version}, this version of the package reads {FORMAT_VERSION}: "
                f"update the package, or {again}"
            )
        members = tuple(
            Member(Path(os.path.normpath(folder / each["checkpoint"])), each["weights"], each["flip_test"])
            for each in values["networks"]
        )
        calibration = values["calibration"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: not the record of an ensemble ({error!r}): {again}") from error
    for member in members:
        if not member.file.is_file():
            raise CheckpointError(
                f"{file}: its network {member.file} does not exist: put it back, or {again}"
            )
    return EnsembleRecord(members, calibration)


def write_ensemble(folder: Path, members: Sequence[Member], calibration: Mapping[str, Any] | None) -> None:
    """Write the record of an ensemble; paths are relative to the folder, except on another drive."""
    networks = [
        {"checkpoint": _relative(file, folder), "weights": weights, "flip_test": flip_test}
        for file, weights, flip_test in members
    ]
    values = {"format_version": FORMAT_VERSION, "networks": networks, "calibration": calibration}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / ENSEMBLE, to_json(values, indent=2) + "\n")


def _relative(file: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return file.resolve().as_posix()


def names_ensemble(ckpt_paths: Sequence[str]) -> bool:
    """Return whether the values of ``--ckpt_path`` name an ensemble: several networks, or its folder."""
    return len(ckpt_paths) > 1 or is_ensemble(Path(ckpt_paths[0]))


def network_files(ckpt_paths: Sequence[str]) -> list[Path]:
    """Return the checkpoint files that the values of ``--ckpt_path`` name, without heavy imports.

    Those of the folder of an ensemble are those of its networks.

    Raises:
        CheckpointError: There is no such checkpoint.
        ConfigError: The folder of an ensemble is one of several.
    """
    if len(ckpt_paths) == 1 and is_ensemble(Path(ckpt_paths[0])):
        return [member.file for member in read_ensemble(Path(ckpt_paths[0])).members]
    for path in ckpt_paths:
        if is_ensemble(Path(path)):
            raise ConfigError(f"{path}: is an ensemble: give it alone, or its networks")
    return [find_checkpoint(Path(path)) for path in ckpt_paths]


def folder_of_results(ckpt_paths: Sequence[str]) -> Path:
    """Return the folder for reports and exports: that of an ensemble, else of the first network's run."""
    if is_ensemble(Path(ckpt_paths[0])):
        return Path(ckpt_paths[0])
    return results_folder(find_checkpoint(Path(ckpt_paths[0])))


def check_target(folder: Path) -> None:
    """Raise ConfigError for a folder that is a file, or holds anything but an ensemble."""
    if folder.suffix in (".ckpt", ".safetensors") or folder.is_file():
        raise ConfigError(f"--out {folder}: an ensemble is a folder: name one")
    if not is_empty(folder) and not is_ensemble(folder):
        raise ConfigError(f"--out {folder}: holds other files: choose another folder")
