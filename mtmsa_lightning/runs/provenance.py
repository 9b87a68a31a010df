"""The provenance of a network: its training data, recorded when training starts."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer

from mtmsa_lightning.data.overlap import OverlapError, check_overlap
from mtmsa_lightning.data.preprocessing_check import describe_crop
from mtmsa_lightning.data.splits import earlier_training as earlier
from mtmsa_lightning.runs.initial_weights import earlier_trainings


def start_record(
    trainer: Trainer,
    known: Mapping[str, Any] | None,
    initial: tuple[str | None, Mapping[str, Any] | None] | None,
    teachers: Mapping[str, Mapping[str, Any] | None],
    seed: int | None,
    allow_overlap: bool,
) -> dict[str, Any]:
    """Return the present and earlier training data; OverlapError if test faces were trained on.

    ``initial`` are the initial weights and the provenance of their network; None where a checkpoint was
    loaded, with the provenance ``known``. ``teachers`` are the provenances of the teachers by path.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    now = data.provenance()
    if initial is None:
        before = earlier.inherited(known or {}, now["fingerprints"])
    else:
        before = earlier_trainings(*initial, now["fingerprints"])
        before = earlier.with_teachers(before, teachers, now["fingerprints"])
    refused = None
    if trainer.is_global_zero:
        try:
            check_overlap(before, data, force=allow_overlap)
            check_overlap(before, data, force=True, part="val")  # it will choose the checkpoint
        except OverlapError as error:
            refused = str(error)
    if refused := trainer.strategy.broadcast(refused):
        raise OverlapError(refused)
    return {**now, "seed": seed, **before}


def describe(provenance: Mapping[str, Any] | None, image_size: int, crop: float) -> str:
    """Describe in one line the training data and the input of a network."""
    known = provenance or {}
    dataset, protocol = known.get("dataset", "unknown data"), known.get("protocol", "?")
    names = dict.fromkeys(str(each.get("dataset") or "unknown data") for each in known.get("earlier", []))
    before = f", and before on {', '.join(names)}" if names else ""
    expected = f"input {image_size} px, {describe_crop(crop, known.get('preparation'))}"
    return f"trained on {dataset} ({protocol}){before}; {expected}"
