"""Initial weights: ImageNet, a file of trunk weights, or a trained network."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mtmsa_lightning._utils.nested_dicts import differences
from mtmsa_lightning.data.splits import earlier_training as earlier
from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.models.weights import fill_trunk, is_published, load_trunk_weights
from mtmsa_lightning.runs.checkpoints import checkpoint_file, read_checkpoint
from mtmsa_lightning.runs.pretrained import is_pretrained
from mtmsa_lightning.runs.starter import names_starter

log = logging.getLogger(__name__)

TASKS = ("age", "gender", "race")

TRUNK, YEARS = ("backbone", "msa", "last_stride", "stem_pool"), ("min_age", "max_age")
"""Settings that the meaning of a trunk's weights, and of an age head's outputs, depends on."""


def load_initial_weights(model: Any, weights: str | None) -> dict[str, Any] | None:
    """Load initial weights into a model and return the provenance of their network, None for other weights.

    From a network of this package, the trunk is loaded, which must fit, and every head of the same kind with
    the same classes in the same order; skipped heads are logged. Other files fill the trunk only, see
    :func:`~mtmsa_lightning.models.weights.load_trunk_weights`. CheckpointError if they do not fit.
    """
    trained = trained_network(weights)
    if trained is None:
        load_trunk_weights(model.trunk, weights)
        return None
    settings, state = trained["hyper_parameters"], trained["state_dict"]
    _load_trunk(model, settings, _below(state, "trunk"), str(weights))
    loaded = ["trunk"]
    for task in TASKS:
        mismatch = _mismatch(model, task, settings, _below(state, task))
        if mismatch:
            log.warning("%s: the %s head %s", weights, task, mismatch)
        elif getattr(model, task) is not None:
            getattr(model, task).load_state_dict(_below(state, task))
            loaded.append(f"{task} head")
    log.info("initial weights from %s: %s", weights, ", ".join(loaded))
    return trained.get("provenance") or {}


def earlier_trainings(
    weights: str | None, provenance: Mapping[str, Any] | None, fingerprints: Mapping[str, str]
) -> dict[str, Any]:
    """Return the record of earlier trainings of weights with the result of :func:`load_initial_weights`."""
    if weights is None:
        return {}
    if provenance is not None:
        return earlier.of_network(provenance, weights, fingerprints)
    return earlier.of_imagenet(weights) if is_published(weights) else earlier.of_file(Path(weights))


def trained_network(weights: str | None) -> dict[str, Any] | None:
    """Read the network of this package that initial weights come from; None for other weights."""
    if weights is None or is_published(weights):
        return None
    path = Path(str(weights))
    try:
        return read_checkpoint(checkpoint_file(path))
    except CheckpointError:
        named = path.is_dir() or names_starter(path)
        if named or (path.suffix == ".safetensors" and is_pretrained(path.parent)):
            raise
        return None  # weights without settings, or an error that is raised when they are loaded


def _load_trunk(model: Any, settings: dict[str, Any], state: dict[str, Tensor], source: str) -> None:
    then, now = ({key: values.get(key) for key in TRUNK} for values in (settings, model.hparams))
    changes = "; ".join(differences(then, now, "model"))
    try:
        fill_trunk(model.trunk, state, source)
    except CheckpointError as error:
        more = f"\nIts settings differ: {changes}" if changes else ""
        raise CheckpointError(f"{error}{more}") from error
    if changes:
        log.warning("%s: the trunk was trained with other settings: %s", source, changes)


def _below(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the part of a state dict that belongs to a module."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def _mismatch(model: Any, task: str, settings: dict[str, Any], state: dict[str, Tensor]) -> str | None:
    """Return why a head is not loaded; None if it fits, or if neither side has one."""
    then, now = settings[task], model.hparams[task]
    if then is None:
        return None if now is None else "starts at random: that network has none"
    if now is None:
        return "of that network is not used: this one has none"
    if then["class_path"] != now["class_path"]:
        return f"starts at random: there it is {then['class_path']}, here {now['class_path']}"
    places = [(f"{task}_classes", settings, model.hparams)]
    places += [(key, then["init_args"], now["init_args"]) for key in YEARS]
    for key, old, new in places:
        if old.get(key) != new.get(key):
            return f"starts at random: {key} were {old.get(key)}, are {new.get(key)}"
    shapes = {key: value.shape for key, value in getattr(model, task).state_dict().items()}
    if {key: value.shape for key, value in state.items()} != shapes:
        return "starts at random: it reads other features (model.aux_stage)"
    return None
