"""What metrics must be quoted with: data, protocol, checkpoint, seed and versions."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.data.preprocessing_check import describe_crop
from mtmsa_lightning.data.splits.earlier_training import describe


@dataclass(frozen=True)
class ReportContext:
    """What metrics must be quoted with, as plain values.

    Attributes:
        title: Title of the page, such as the name of the experiment.
        data: The test data as ``FaceDataModule.provenance()`` gives it. For predictions of several folds
            ``fold`` is a text that lists them, and ``fingerprints["test"]`` belongs to all of their faces.
        checkpoint: The checkpoint, or several ones, that predicted.
        trained_on: Provenance of the checkpoint, if any.
        seed: Seed of the run (``seed_everything``), or a text that lists several.
        calibration: Calibration record of the checkpoint; None if not calibrated.
        weights: SHA-256 of its weights; empty for several checkpoints.
        partial: Describes the faces of the test part that were used, if not all; else empty.
        notes: Further notes for the reader.
        sources: Metrics by name of every source of a mixture, by its name.
        predictions: The file that the predictions were read from, if another program made them.
    """

    title: str
    data: dict[str, Any]
    checkpoint: str
    trained_on: dict[str, Any] | None = None
    seed: int | str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    calibration: dict[str, Any] | None = None
    weights: str = ""
    partial: str = ""
    notes: tuple[str, ...] = ()
    sources: dict[str, dict[str, float]] = field(default_factory=dict)
    predictions: str = ""

    @property
    def about(self) -> str:
        """Model, dataset and protocol, for captions."""
        data = self.data
        return f"{self.title} on {data['dataset']}, protocol {data['protocol']}, fold {data['fold']}"

    def quotes(self) -> dict[str, str]:
        """Return everything that a metric must be quoted with, by name."""
        data = self.data
        prints = data["fingerprints"]
        return {
            "dataset": str(data["dataset"]),
            "protocol": f"{data['protocol']}, fold {data['fold']}",
            "split seed": str(data["split_seed"]),
            "split fingerprint (test)": prints["test"],
            **({"faces": self.partial} if self.partial else {}),
            "label rule": str(data["label_rule"]),
            "label fingerprint": str(prints.get("labels", "unknown")),
            "gender classes": numbered(data["gender_classes"]),
            "race classes": numbered(data["race_classes"]),
            **({"predictions": self.predictions} if self.predictions else self._quotes_of_model()),
            "versions": ", ".join(f"{name} {version}" for name, version in self.versions.items())
            or "unknown",
            "command": self.command or "unknown",
        }

    def _quotes_of_model(self) -> dict[str, str]:
        data, earlier = self.data, (self.trained_on or {}).get("earlier")
        return {
            "image": f"the {describe_crop(data['crop'], data.get('preparation'))}, {data['image_size']} px",
            "checkpoint": self.checkpoint,
            **({"weights (SHA-256)": self.weights} if self.weights else {}),
            "calibration": (
                "none" if self.calibration is None else Calibration.from_dict(self.calibration).describe()
            ),
            "checkpoint trained on": _training(self.trained_on),
            **({"earlier training data": "; ".join(map(describe, earlier))} if earlier else {}),
            "seed of the run": "unknown" if self.seed is None else str(self.seed),
        }


def numbered(names: Iterable[str]) -> str:
    """Return names with their numbers, such as those of classes."""
    return ", ".join(f"{number} {name}" for number, name in enumerate(names)) or "none"


def _training(trained: dict[str, Any] | None) -> str:
    if not trained:
        return "unknown"
    where = f"{trained['dataset']}, {trained['protocol']}, fold {trained['fold']}, {trained['label_rule']}"
    faces = trained.get("faces", {}).get("train")
    count = "" if faces is None else f", {pluralize(faces, 'face')}"
    return f"{where}{count}, split fingerprint (train) {trained['fingerprints']['train']}"
