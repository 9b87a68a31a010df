"""Find and read checkpoint files, without running code from them."""

import hashlib
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.runs.directory import runs_with
from mtmsa_lightning.runs.pretrained import WEIGHTS, is_pretrained, read_pretrained
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.runs.starter import describe_use, is_starter, names_starter, starter_folder

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

BEST = "checkpoints/best.ckpt"
"""The checkpoint that a run directory stands for."""

ENSEMBLE = "ensemble.json"
"""The file that makes a folder an ensemble, see :mod:`.ensemble_folder`."""

_EXPECTED = (
    f"give a .ckpt file, a run directory ({BEST}), a folder of runs, a folder of `save_pretrained` "
    f"(config.json and {WEIGHTS}), or `starter`"
)
_ZIP = b"PK"  # first bytes of a file of torch.save
_SHOWN = 5


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the checkpoint at a path of :func:`checkpoint_file`, with settings and ``state_dict``.

    CheckpointError if it is missing, unreadable, of another program, or holds objects.
    """
    file = find_checkpoint(Path(path))
    _refuse_foreign(file)

    import torch  # after the check for a missing file

    try:
        if file.name == WEIGHTS:
            checkpoint = read_pretrained(file.parent)
        else:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # a broken file can raise anything
        why = "it is damaged or cut off: copy it again, or choose another"
        if isinstance(error, pickle.UnpicklingError):
            why = "it holds objects of other programs, which are not loaded since they could run code: "
            why += _EXPECTED
        raise CheckpointError(f"{file}: not a readable checkpoint: {why}") from error
    if not isinstance(checkpoint, dict) or not {"hyper_parameters", "state_dict"} <= checkpoint.keys():
        raise CheckpointError(
            f"{file}: not a checkpoint of this package; bare weights go to `mtmsa fit --model.weights {file}`"
        )
    if broken := [name for name, value in checkpoint["state_dict"].items() if not value.isfinite().all()]:
        raise CheckpointError(
            f"{file}: {pluralize(len(broken), 'weight tensor')} ({broken[0]}, ...) hold NaN or infinity: the "
            "training had diverged: choose a checkpoint from before"
        )
    return checkpoint


def checkpoint_file(path: str | Path) -> Path:
    """Return the checkpoint file of a path, and log a run that was chosen and the use of the starter.

    Args:
        path: A ``.ckpt`` file, a run directory (its ``checkpoints/best.ckpt``), a folder of runs (the newest
            one with such a checkpoint), a folder of ``save_pretrained`` (its ``model.safetensors``), or
            ``starter``, the network that comes along.

    Raises:
        CheckpointError: There is none, or it is an ensemble.
    """
    file = find_checkpoint(Path(path))
    if is_starter(file) and file != Path(path):
        log.warning("%s", describe_use(file))  # a warning, which Python shows without settings
    elif Path(path).is_dir() and Path(path) not in file.parents[:2]:
        log.info("using %s", file.parents[1])
    return file


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint file of a path as :func:`checkpoint_file`, without logging."""
    path = starter_folder() if names_starter(path) else path
    if is_ensemble(path):
        raise CheckpointError(
            f"{path}: is an ensemble, here one network is needed: `predict`, `evaluate`, `export` and "
            f"`calibrate` take it; {path / ENSEMBLE} names its networks"
        )
    if path.is_dir() and is_pretrained(path):
        return path / WEIGHTS
    file = path / BEST if path.is_dir() else path
    if file.is_file():
        return file
    if (path / "run.json").is_file():
        raise CheckpointError(f"{path}: {_why_without(path)}")
    if path.is_dir() and (runs := runs_with(BEST, path)):
        return runs[0] / BEST
    if path.is_dir():
        raise CheckpointError(f"{path}: no checkpoint in this folder: {_contents(path)}: {_EXPECTED}")
    nearby = sorted(file.parent.glob("*.ckpt")) if file.parent.is_dir() else []
    names = ", ".join(each.name for each in nearby[:_SHOWN])
    raise CheckpointError(
        f"{file}: no such checkpoint{f'; in its folder: {names}' if nearby else f': {_EXPECTED}'}"
    )


def is_ensemble(path: Path) -> bool:
    """Return whether a path is the folder of an ensemble."""
    return (path / ENSEMBLE).is_file()


def weights_digest(state: "Mapping[str, Tensor]") -> str:
    """Return the SHA-256 of a state dict, which records use to identify weights."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_checkpoint(path: str | Path) -> None:
    """Raise CheckpointError if there is no checkpoint, by its first bytes, without heavy imports."""
    _refuse_foreign(find_checkpoint(Path(path)))


def _refuse_foreign(file: Path) -> None:
    """Raise CheckpointError if a file's first bytes are not those of a checkpoint."""
    if file.name == WEIGHTS:  # checked with its folder
        return
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error
    if start.startswith(_ZIP):
        return
    kind = "empty" if not start else "a text" if start.isascii() else "no file that torch has written"
    if file.suffix == ".safetensors":
        kind = "bare weights; those of `save_pretrained` are called model.safetensors, beside a config.json"
    raise CheckpointError(f"{file}: not a readable checkpoint: it is {kind}: {_EXPECTED}")


def _contents(folder: Path) -> str:
    """Return a short description of a folder's content."""
    names = sorted(entry.name for entry in folder.iterdir())
    if not names:
        return "it is empty"
    return f"it holds {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"


def _why_without(run: Path) -> str:
    """Return why a run has no best checkpoint, and what to do."""
    if tested := read_record(run).get("checkpoint"):
        return f"a run that trained nothing: it evaluated {tested}, give that"
    text = "a run without a checkpoint: it was not trained to the end; "
    if (run / "checkpoints" / "last.ckpt").is_file():
        return f"{text}continue it by `mtmsa fit ... --ckpt_path last`"
    return f"{text}train it again by `mtmsa fit`"
