"""The metadata of an exported file: everything needed to use it without this package."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from mtmsa_lightning import __version__
from mtmsa_lightning.calibration.policy import DECISIONS
from mtmsa_lightning.data.preprocessing_check import describe_crop
from mtmsa_lightning.export.formats import Precision
from mtmsa_lightning.export.network import INPUT, describe_output
from mtmsa_lightning.export.parity import BOUNDS
from mtmsa_lightning.labels import age_group_edges
from mtmsa_lightning.module import IMAGENET_MEAN, IMAGENET_STD, MTMSA
from mtmsa_lightning.runs.checkpoints import weights_digest
from mtmsa_lightning.runs.ensemble import Ensemble
from mtmsa_lightning.runs.pretrained import licence_note

FORMAT_VERSION = 1

NOT_CALIBRATED = "not calibrated: intervals and probabilities are the network's own"


def describe_export(
    model: MTMSA | Ensemble, names: Sequence[str], precision: Precision, dynamic: bool
) -> dict[str, Any]:
    """Return the metadata of an export, with the outputs ``names``, as plain values.

    By key: ``input`` (name, shape, type, colour order, preprocessing), ``outputs`` (name to meaning and
    unit), ``classes`` (names of a row of probabilities by its output), ``decisions`` (names of the codes of
    an output such as ``over_18``; their thresholds are in ``calibration``), ``gender_classes`` and
    ``race_classes``, ``age_groups`` with their ``age_group_edges``, ``calibrated`` (in words) and
    ``calibration``, with the metrics of the calibrated network, ``weights_sha256`` of the checkpoint,
    ``trained_on``, ``licence``, ``precision``, ``parity_bound``, ``producer`` and ``format_version``.
    """
    provenance = {
        key: value for key, value in (model.provenance or {}).items() if not isinstance(value, Tensor)
    }
    classes = {f"{task}_probs": list(names) for task, names in model.trained_classes.items()}
    if "age_group_probs" in names:
        classes["age_group_probs"] = [f"{low}-{high}" for low, high in model.age_groups]
    calibration, recorded = model.calibration, None
    if calibration is not None:  # with the metrics of the calibrated network alone
        after = {f"{part}, calibrated": each["after"] for part, each in calibration.metrics.items()}
        recorded = calibration.to_dict() | {"metrics": after}
    return {
        "format_version": FORMAT_VERSION,
        "producer": f"mtmsa-lightning {__version__}",
        "precision": str(precision),
        "input": _describe_input(model, provenance, dynamic),
        "outputs": {name: describe_output(name) for name in names},
        "classes": classes,
        "decisions": {each.name: list(DECISIONS) for each in calibration.policies} if calibration else {},
        **{f"{task}_classes": list(classes) for task, classes in model.trained_classes.items()},
        "age_groups": [list(group) for group in model.age_groups],
        "age_group_edges": list(age_group_edges(model.age_groups)) if model.age_groups else [],
        "calibrated": model.describe_calibration() or NOT_CALIBRATED,
        "calibration": recorded,
        "weights_sha256": weights_digest(model.state_dict()),
        "trained_on": provenance or None,
        "licence": licence_note(provenance),
        "parity_bound": asdict(BOUNDS[precision]),
    }


def _describe_input(model: MTMSA | Ensemble, provenance: dict[str, Any], dynamic: bool) -> dict[str, Any]:
    size, prepared = model.image_size, provenance.get("preparation")
    shape = ["n" if dynamic else 1, 3, size, size]
    return {
        "name": INPUT,
        "layout": f"uint8 RGB, [{', '.join(map(str, shape))}]",
        "shape": shape,
        "dtype": "uint8",
        "colours": "RGB",
        "image_size": size,
        "crop": model.crop,
        "prepared_crop": (prepared or {}).get("crop"),
        "how": f"{describe_crop(model.crop, prepared)}, resized to {size} px by area where that shrinks it, "
        "else bilinearly; nothing else: pixels are divided by 255 and standardised inside",
        "mean_inside": list(IMAGENET_MEAN),
        "std_inside": list(IMAGENET_STD),
    }
