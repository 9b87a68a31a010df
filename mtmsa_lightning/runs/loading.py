"""Load a network from a checkpoint for prediction."""

from collections.abc import Sequence
from typing import TypeVar

from lightning.pytorch import LightningModule

from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.runs.checkpoints import checkpoint_file, read_checkpoint
from mtmsa_lightning.runs.status import warn_unfinished
from mtmsa_lightning.settings.class_paths import allowing

_Module = TypeVar("_Module", bound=LightningModule)


def load_network(cls: type[_Module], path: str, allow_classes: Sequence[str] = ()) -> _Module:
    """Load a network without running code from its checkpoint; see :meth:`.MTMSA.load`.

    Args:
        cls: Class of the network.
        path: The checkpoint.
        allow_classes: Modules or classes that it may name as its heads.

    Raises:
        CheckpointError: The file is not a checkpoint of this package.
    """
    file = checkpoint_file(path)
    checkpoint = read_checkpoint(file)
    warn_unfinished(file)
    try:
        with allowing(allow_classes):
            model = cls(**checkpoint["hyper_parameters"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise CheckpointError(f"{path}: its settings build no network of this version: {error}") from error
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit its settings: {error}") from error
    model.on_load_checkpoint(checkpoint)
    return model.eval()
