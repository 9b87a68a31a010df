"""Loading of published weights and weight files into a trunk."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.models.backbones.trunk import Trunk


def is_published(weights: str | os.PathLike[str] | None) -> bool:
    """Return whether weights are given by a name of the library of the trunk, not by a file."""
    return weights == "imagenet" or str(weights).startswith("IMAGENET1K_")


def load_trunk_weights(trunk: Trunk, weights: str | os.PathLike[str] | None) -> None:
    """Load weights into a trunk: all of them, or none if a key or shape does not match.

    Args:
        trunk: The trunk.
        weights: None keeps the random initialisation. ``"imagenet"`` and torchvision's names
            (``IMAGENET1K_V2``) are weights that the library of the trunk publishes, see
            :meth:`.Trunk.published_weights`. Anything else is the path of a file written by safetensors or
            ``torch.save``: a state dict in the layout of that library (its classifier is dropped, attention
            keeps its initialisation), or the state dict of a trunk or a whole network of this package.

    Raises:
        CheckpointError: If the download fails, the file cannot be read, or a key or shape does not match.
    """
    if weights is None:
        return
    if is_published(weights):
        fill_trunk(trunk, trunk.published_weights(str(weights)), f"the weights {weights}")
        return
    state, own = _read_state(Path(weights))
    own = own or state.keys() == trunk.state_dict().keys()
    fill_trunk(trunk, state if own else trunk.library_weights(state), str(weights))


def fill_trunk(trunk: Trunk, state: dict[str, Tensor], source: str) -> None:
    """Load a complete state dict into a trunk; CheckpointError, with nothing loaded, if it does not fit."""
    if problems := _mismatches(state, trunk.state_dict()):
        raise CheckpointError(f"{source} does not fit this trunk:\n  " + "\n  ".join(problems))
    trunk.load_state_dict(state)


def _read_state(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Return the trunk's state dict in a file, and whether it is in our own layout."""
    if not path.is_file():
        raise CheckpointError(f"weight file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a file of weights: it is damaged, or contains Python objects, which are not "
            "loaded because they could run code: give a state dict of tensors"
        ) from error
    except Exception as error:  # a damaged file makes torch.load raise nearly anything
        raise CheckpointError(
            f"{path} is not a file of weights: it is damaged or truncated: copy it again, or choose another"
        ) from error
    nested = isinstance(content, dict) and isinstance(content.get("state_dict"), dict)
    state = _checked_state(content["state_dict"] if nested else content, path, "no state dict")
    trunk = {key.removeprefix("trunk."): value for key, value in state.items() if key.startswith("trunk.")}
    if nested or trunk:
        return _checked_state(trunk, path, "a checkpoint without trunk.* weights"), True
    return state, any(key.startswith(("msa.", "body.")) for key in state)


def _checked_state(content: Any, path: Path, complaint: str) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not content or not all(map(torch.is_tensor, content.values())):
        raise CheckpointError(f"{path} holds {complaint}")
    return content


def _mismatches(state: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """List all keys that are missing, unexpected or of another shape."""
    missing = [f"missing: {key} {tuple(expected[key].shape)}" for key in expected.keys() - state.keys()]
    extra = [f"unexpected: {key} {tuple(state[key].shape)}" for key in state.keys() - expected.keys()]
    shapes = [
        f"shape of {key}: {tuple(state[key].shape)} in the file, {tuple(expected[key].shape)} in the trunk"
        for key in expected.keys() & state.keys()
        if state[key].shape != expected[key].shape
    ]
    return sorted(missing) + sorted(extra) + sorted(shapes)
