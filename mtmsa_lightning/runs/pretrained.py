"""A trained network as a folder to share: weights without pickle, and settings as JSON.

On disk::

    <folder>/
      config.json               settings, what it was trained on, calibration, licence note; written last
      model.safetensors         the weights
      trained_on.safetensors    optional: hashes of the training faces, so that it is not tested on them
      README.md                 optional: the model card
"""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmsa_lightning import __version__
from mtmsa_lightning._utils.atomic_write import replacing, write_text
from mtmsa_lightning._utils.file_access import file_sha256, read_regular
from mtmsa_lightning._utils.folders import make_folder
from mtmsa_lightning._utils.strict_json import from_json, to_json
from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.labels import SYNTHETIC

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TRAINED_ON = "trained_on.safetensors"

FILES = (CONFIG, WEIGHTS, TRAINED_ON)
"""The files needed to use a network."""

README = "README.md"
"""Name of the model card, which the Hub shows."""

FORMAT = "mtmsa-lightning"
FORMAT_VERSION = 1

INPUT = (
    "RGB faces, uint8 or floats in [0, 1], shape (N, 3, image_size, image_size); the network scales them by "
    "ImageNet's mean and standard deviation itself"
)

_SECTIONS = {"hyper_parameters": dict, "provenance": dict | None, "calibration": dict | None}
_AGAIN = "copy the whole folder again"

_TERMS = {
    "morph": "MORPH Album II, whose licence allows non-commercial research only",
    "adience": "Adience, whose terms allow non-commercial research only",
    "utkface": "UTKFace, whose terms allow non-commercial research only",
    SYNTHETIC: "synthetic faces, which nobody's terms apply to",
}


def licence_note(provenance: Mapping[str, Any] | None) -> str:
    """Return the terms of use of a network, from its provenance."""
    known = provenance or {}
    names = [known.get("dataset"), *(each.get("dataset") for each in known.get("earlier") or ())]
    datasets = dict.fromkeys(name or "data that is not recorded" for name in names)
    other = {name: f"{name}: see the terms of that data" for name in datasets}
    kinds = {name: SYNTHETIC if name.partition("-")[0] == SYNTHETIC else name for name in datasets}
    terms = "; before on ".join(_TERMS.get(kinds[name], other[name]) for name in datasets)
    return (
        f"The program is under Apache-2.0. The weights were trained on {terms}. What they say must not "
        "decide anything about a person."
    )


def is_pretrained(folder: Path) -> bool:
    """Return whether a folder was written by :func:`write_pretrained`, even if damaged since."""
    try:
        config = from_json(read_regular(folder / CONFIG))
    except (OSError, ValueError):
        return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()
    return isinstance(config, dict) and config.get("format") == FORMAT


def identity(folder: Path) -> tuple[Any, ...] | None:
    """Return weights digest and calibration of a network in a folder; None if there is no network."""
    if not is_pretrained(folder):
        return None
    config = _read_config(folder / CONFIG)
    return config["weights_sha256"], config["calibration"]


def write_pretrained(checkpoint: Mapping[str, Any], folder: Path, half: bool = False) -> None:
    """Write a checkpoint without the state of its training; files of a network in the folder are replaced.

    With ``half``, or if nothing is lost by it, as for weights that were read from such a folder, the weights
    of convolutions and linear layers are stored as float16, which halves the file. They are computed with in
    float32. Biases, normalisation and the statistics of the age head are always stored as they are.
    """
    import torch

    make_folder(folder)
    provenance = checkpoint.get("provenance")
    hashes = {key: value for key, value in (provenance or {}).items() if torch.is_tensor(value)}
    plain = provenance and {key: value for key, value in provenance.items() if key not in hashes}
    settings = dict(checkpoint["hyper_parameters"])
    if settings.get("weights"):
        settings["weights"] = Path(settings["weights"]).name  # without its folder
    if settings.get("teacher"):
        settings["teacher"] = [Path(each).name for each in settings["teacher"]]
    _write_tensors(folder / WEIGHTS, _stored(checkpoint["state_dict"], half))
    _write_tensors(folder / TRAINED_ON, hashes)
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "licence": licence_note(provenance),
        "input": INPUT,
        "weights_sha256": file_sha256(folder / WEIGHTS),
        "hyper_parameters": settings,
        "provenance": plain,
        "calibration": checkpoint.get("calibration"),
    }
    write_text(folder / CONFIG, to_json(config, indent=2, ensure_ascii=False) + "\n")


def read_pretrained(folder: Path) -> dict[str, Any]:
    """Return the checkpoint in a folder of :func:`write_pretrained`, without running code from it.

    CheckpointError if a file is missing, damaged, of a newer format or of another program.
    """
    config = _read_config(folder / CONFIG)
    state = {name: _computed(values) for name, values in read_tensors(folder / WEIGHTS).items()}
    if file_sha256(folder / WEIGHTS) != config["weights_sha256"]:
        raise CheckpointError(
            f"{folder / WEIGHTS}: damaged, or not the weights that {CONFIG} was written with: {_AGAIN}"
        )
    checkpoint = {key: config[key] for key in _SECTIONS if config[key] is not None}
    if "provenance" in checkpoint and (folder / TRAINED_ON).is_file():
        checkpoint["provenance"] |= read_tensors(folder / TRAINED_ON)
    lightning = importlib.metadata.version("lightning")  # or its Trainer would treat it as an old file
    return checkpoint | {"state_dict": state, "pytorch-lightning_version": lightning}


def read_tensors(file: Path) -> "dict[str, Tensor]":
    """Read a file of safetensors; CheckpointError if it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise CheckpointError(f"{file}: no such file: {_AGAIN}")
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: no readable file of safetensors ({error}): {_AGAIN}") from error


def _stored(state: "Mapping[str, Tensor]", half: bool) -> "dict[str, Tensor]":
    """Return the tensors of a file: kernels and matrices in float16 with ``half``, or if that is lossless."""
    import torch

    large = {name for name, each in state.items() if each.ndim > 1 and each.dtype is torch.float32}
    half = half or all(torch.equal(state[name].half().float(), state[name]) for name in large)
    return {name: values.half() if half and name in large else values for name, values in state.items()}


def _computed(stored: "Tensor") -> "Tensor":
    """Return a tensor of a file in the precision of its use."""
    import torch

    return stored.float() if stored.dtype is torch.float16 else stored


def _write_tensors(file: Path, tensors: "Mapping[str, Tensor]") -> None:
    """Write tensors atomically; without tensors, remove the file."""
    if not tensors:
        file.unlink(missing_ok=True)
        return

    from safetensors.torch import save_file

    with replacing(file) as partial:
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, partial)


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = from_json(read_regular(file))
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror}): {_AGAIN}") from error
    except ValueError as error:
        raise CheckpointError(f"{file}: damaged ({error}): {_AGAIN}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(f"{file}: does not describe a network of this package")
    version = config.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{file}: format {version} is newer than this program's ({FORMAT_VERSION}): update it"
        )
    wrong = [key for key, kind in _SECTIONS.items() if key not in config or not isinstance(config[key], kind)]
    if wrong or not isinstance(config.get("weights_sha256"), str):
        raise CheckpointError(
            f"{file}: {', '.join(wrong) or 'weights_sha256'} missing or of no use: {_AGAIN}"
        )
    return config
