"""What an exported file says of itself: enough to feed it and to read its answers without this package."""

from importlib.metadata import version
from typing import Any

from mtmsa_lightning.data.provenance import describe_crop
from mtmsa_lightning.datasets import terms_of
from mtmsa_lightning.export.formats import Precision
from mtmsa_lightning.export.network import INPUT, OUTPUTS
from mtmsa_lightning.export.parity import BOUNDS
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.module import IMAGENET_MEAN, IMAGENET_STD, MTMSA

FORMAT_VERSION = 1


def describe_export(
    model: MTMSA, names: tuple[str, ...], precision: Precision, dynamic: bool
) -> dict[str, Any]:
    """Return the metadata of an export as plain values.

    Args:
        model: The network.
        names: Names of the outputs.
        precision: What the trunk computes in.
        dynamic: Whether it takes batches of any size.

    Returns:
        By key: ``input`` (name, layout, how faces are brought to it), ``outputs`` (name to meaning),
        ``gender_classes``, ``race_classes``, ``age_groups`` with their ``age_group_edges``, ``calibration``,
        ``trained_on``, ``licence``, ``limits``, ``parity_bound``, ``precision``, ``producer`` and
        ``format_version``.
    """
    provenance = model.provenance or {}
    bound = BOUNDS[precision]
    return {
        "format_version": FORMAT_VERSION,
        "producer": f"mtmsa-lightning {version('mtmsa-lightning')}",
        "precision": str(precision),
        "input": {
            "name": INPUT,
            "layout": "uint8 RGB, [n, 3, height, width]" if dynamic else "uint8 RGB, [1, 3, height, width]",
            "image_size": model.image_size,
            "crop": model.crop,
            "preparation": (provenance.get("preparation") or {}).get("crop"),
            "how": f"{describe_crop(model.crop, provenance.get('preparation'))}, resized to "
            f"{model.image_size} px: by area where that shrinks it, else bilinear",
            "normalised_inside": {"scale": 255, "mean": IMAGENET_MEAN, "std": IMAGENET_STD},
        },
        "outputs": {name: OUTPUTS[name] for name in names},
        **{f"{task}_classes": list(classes) for task, classes in model.answers.items()},
        "age_groups": [list(group) for group in model.age_groups],
        "age_group_edges": list(AGE_GROUP_EDGES) if model.age_groups else [],
        "calibration": None if model.calibration is None else model.calibration.to_dict(),
        "trained_on": {name: value for name, value in provenance.items() if not name.endswith("_hashes")},
        "licence": licence_note(model),
        "limits": "Labels are what a dataset recorded, not what a person is. Apparent age, gender or race "
        "must not decide anything about a person.",
        "parity_bound": {"years": bound.years, "probability": bound.probability, "mean_years": bound.mean_years},
    }


def licence_note(model: MTMSA) -> str:
    """Say whose terms hold for code and weights."""
    dataset = (model.provenance or {}).get("dataset")
    initial = model.weights
    start = "from random weights" if initial is None else f"from {initial} weights, whose own terms hold too"
    return (
        f"The code of mtmsa-lightning is Apache-2.0. These weights were trained {start}, on "
        f"{dataset or 'data that is not recorded'}: {terms_of(dataset)}."
    )
