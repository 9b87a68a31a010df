"""Opening checkpoint files: without running code from them, and with errors that say what to do."""

from pathlib import Path
from typing import Any

import torch

from mtmsa_lightning.errors import CheckpointError

MOVED = {
    f"mtmsa_lightning.models.heads.{name}": f"mtmsa_lightning.{name}"
    for name in ("GaussianAgeHead", "ClassHead")
}
"""Classes by the names under which older checkpoints record them."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a Lightning checkpoint of this package.

    Args:
        path: A ``.ckpt`` file, or a run directory, whose ``checkpoints/best.ckpt`` is meant.

    Returns:
        The checkpoint; it has ``hyper_parameters``, ``state_dict`` and usually ``provenance``.

    Raises:
        CheckpointError: If the file is missing, unreadable, holds anything but plain values, or is not ours.
    """
    file = checkpoint_file(path)
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever a broken or foreign file makes it raise
        raise CheckpointError(
            f"{file}: not a readable checkpoint ({type(error).__name__}): copy it again, or choose another"
        ) from error
    if not isinstance(checkpoint, dict) or not {"hyper_parameters", "state_dict"} <= checkpoint.keys():
        raise CheckpointError(
            f"{file}: not a checkpoint of this package; bare weights go to `mtmsa fit --model.weights {file}`"
        )
    for head in (checkpoint["hyper_parameters"].get(task) for task in ("age", "gender", "race")):
        if head is not None:
            head["class_path"] = MOVED.get(head["class_path"], head["class_path"])
    return checkpoint


def checkpoint_file(path: str | Path) -> Path:
    """Return the file that is meant by a path to a checkpoint or to a run directory."""
    path = Path(path)
    file = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
    if file.is_file():
        return file
    nearby = sorted(file.parent.glob("*.ckpt")) if file.parent.is_dir() else []
    hint = f"; there are {', '.join(map(str, nearby))}" if nearby else ""
    raise CheckpointError(f"{file}: no such checkpoint{hint}")
