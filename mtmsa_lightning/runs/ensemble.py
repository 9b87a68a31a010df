"""Several trained networks as one, with the attributes that predictions and reports use."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.labels import class_key
from mtmsa_lightning.models.ensemble import mean_output
from mtmsa_lightning.models.face_output import FaceOutput


class Ensemble(nn.Module):
    """Networks of the same faces, such as folds or seeds, as one mixture; each is calibrated by itself.

    Args:
        networks: The networks by path, at least two.

    Attributes:
        calibration: None: those of the networks are within ``forward``.
        paths: The paths.

    Raises:
        ConfigError: There is only one, or crops, classes, age groups or heads differ; names two networks.
    """

    calibration: Calibration | None = None

    def __init__(self, networks: Mapping[str, Any]) -> None:
        super().__init__()
        if len(networks) < 2:
            raise ConfigError("an ensemble needs two different networks: one was given several times")
        self.paths = tuple(networks)
        self.networks = nn.ModuleList(networks.values())
        (first_path, first), *others = networks.items()
        for path, other in others:
            for what, own, its in _compared(first, other):
                if own != its:
                    raise ConfigError(
                        f"{first_path} and {path} are no ensemble: {what} {_text(own)} and {_text(its)}"
                    )
        self.image_size, self.crop, self.age_groups = first.image_size, first.crop, first.age_groups
        self.trained_classes: dict[str, tuple[str, ...]] = first.trained_classes
        self.provenance: dict[str, Any] | None = first.provenance

    @property
    def members(self) -> list[Any]:
        """The networks."""
        return list(self.networks)

    @property
    def age(self) -> Any:
        """The age head of the first network; None without age heads."""
        return self.members[0].age

    @property
    def flip_test(self) -> bool:
        """Whether networks average over mirror images."""
        return any(network.flip_test for network in self.members)

    @flip_test.setter
    def flip_test(self, value: bool) -> None:
        for network in self.members:
            network.flip_test = value

    @property
    def device(self) -> Any:
        """The device of the networks."""
        return self.members[0].device

    def forward(self, images: Tensor) -> FaceOutput:
        """Return the mixture of the calibrated predictions; logits are of ``trained_classes``.

        Args:
            images: As for a network; resized for networks with another input size.
        """
        return mean_output([self.output_of(network, images) for network in self.members])

    def output_of(self, network: Any, images: Tensor) -> FaceOutput:
        """Return the calibrated prediction of one network, with logits of ``trained_classes``."""
        return self.matched(network, network.calibrated(network(self.resized(network, images))))

    def resized(self, network: Any, images: Tensor) -> Tensor:
        """Return images in the input size of a network."""
        if images.shape[-1] == network.image_size:
            return images
        pixels = images if images.is_floating_point() else images.float() / 255
        size = (network.image_size, network.image_size)
        return F.interpolate(pixels, size, mode="bilinear", antialias=True)

    def matched(self, network: Any, output: FaceOutput) -> FaceOutput:
        """Return an output of a network with its logits in the order of ``trained_classes``."""
        logits: dict[str, Any] = {"gender": None, "race": None}
        for task, found in network.trained_logits(output).items():
            names = [class_key(name) for name in network.trained_classes[task]]
            order = [names.index(class_key(name)) for name in self.trained_classes[task]]
            logits[task] = found[:, order]
        return output._replace(**logits)

    def calibrated(self, output: FaceOutput) -> FaceOutput:
        """Return the output: the networks are calibrated already."""
        return output

    def trained_logits(self, output: FaceOutput) -> dict[str, Tensor]:
        """Return the logits ``(N, classes)`` of the ``trained_classes`` of an output, by task."""
        logits = {task: getattr(output, task) for task in self.trained_classes}
        return {task: each for task, each in logits.items() if each is not None}

    def describe(self) -> str:
        """Describe the ensemble and its first network."""
        return f"ensemble of {len(self.networks)} networks; the first: {self.members[0].describe()}"


def _compared(first: Any, other: Any) -> Sequence[tuple[str, Any, Any]]:
    """Return what must be equal in two networks, by name."""

    def classes(network: Any) -> dict[str, list[str]]:
        found: Mapping[str, Sequence[str]] = network.trained_classes
        return {task: sorted(map(class_key, names)) for task, names in found.items()}

    ours, theirs = classes(first), classes(other)
    preparation = [(each.provenance or {}).get("preparation") or {} for each in (first, other)]
    margins = [each.get("crop", {}).get("margin") for each in preparation]
    return [
        ("age heads", first.age is not None, other.age is not None),
        ("age groups", tuple(first.age_groups), tuple(other.age_groups)),
        ("crops", first.crop, other.crop),
        ("margins of prepared faces", margins[0], margins[1]),
        ("tasks", sorted(ours), sorted(theirs)),
        *((f"{task} classes", ours[task], theirs.get(task)) for task in ours),
    ]


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)
