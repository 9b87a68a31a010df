"""Several trained networks as one, with the attributes that predictions and reports use."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.labels import class_key
from mtmsa_lightning.models.class_mapping import ClassMapping
from mtmsa_lightning.models.ensemble import mean_output
from mtmsa_lightning.models.face_output import FaceOutput
from mtmsa_lightning.runs.checkpoints import is_ensemble, weights_digest
from mtmsa_lightning.runs.ensemble_folder import EnsembleRecord, Member, network_files, read_ensemble

_Network = TypeVar("_Network")


class Ensemble(nn.Module):
    """Networks of the same faces, such as folds or seeds, as one mixture.

    Without a calibration of the mixture each network is calibrated by itself. With one, the networks' own
    calibrations are removed: a mixture of calibrated distributions is too wide (Gneiting and Ranjan,
    "Combining predictive distributions", Electronic Journal of Statistics 7, 2013), and conformal intervals
    need scores that do not depend on the calibration faces, which may also be those of the networks.

    Args:
        networks: The networks by path, at least two.

    Attributes:
        calibration: Calibration of the mixture, see :meth:`calibrate_with`.
        class_mappings: Mapping between the classes of data and ensemble by task, after :meth:`match`.
        paths: The paths.

    Raises:
        ConfigError: There is only one, or crops, classes, age groups or heads differ; names two networks.
    """

    def __init__(self, networks: Mapping[str, Any]) -> None:
        super().__init__()
        self.calibration: Calibration | None = None
        self.class_mappings: dict[str, ClassMapping] = {}
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
        """Return the mixture, before its own calibration; logits are of ``trained_classes``.

        Args:
            images: As for a network; resized for networks with another input size.
        """
        return self.mixed(
            [network.calibrated(network(self.resized(network, images))) for network in self.members]
        )

    def mixed(self, outputs: Sequence[FaceOutput]) -> FaceOutput:
        """Return the mixture of outputs of the networks, in their order and with all their logits."""
        return mean_output([self.matched(*pair) for pair in zip(self.members, outputs, strict=True)])

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
        """Apply the calibration of the mixture, if there is one."""
        return output if self.calibration is None else self.calibration.output(output)

    def trained_logits(self, output: FaceOutput) -> dict[str, Tensor]:
        """Return the logits ``(N, classes)`` of the ``trained_classes`` of an output, by task."""
        logits = {task: getattr(output, task) for task in self.trained_classes}
        return {task: each for task, each in logits.items() if each is not None}

    def describe(self) -> str:
        """Describe the ensemble and its first network."""
        text = f"ensemble of {len(self.networks)} networks; the first: {self.members[0].describe()}"
        return text if self.calibration is None else f"{text}; the mixture: {self.calibration.describe()}"

    def describe_calibration(self) -> str:
        """Describe the calibration of the mixture, or else those of its networks; empty without any."""
        if self.calibration is not None:
            return self.calibration.describe()
        own = sum(network.calibration is not None for network in self.members)
        return (
            f"{own} of {len(self.networks)} networks calibrated by themselves, not the mixture" if own else ""
        )

    def remove_calibrations(self) -> None:
        """Remove the calibrations of the mixture and of the networks."""
        self.calibration = None
        for network in self.members:
            network.calibration = None

    def calibrate_with(self, calibration: Calibration) -> None:
        """Set the calibration of the mixture and remove those of the networks."""
        self.remove_calibrations()
        self.calibration = calibration

    def match(self, data: Any) -> None:
        """Match classes and age groups with those of a DataModule, as a network does."""
        of_data = {"gender": data.gender_classes, "race": data.race_classes}
        classes = self.trained_classes.items()
        self.class_mappings = {task: ClassMapping(of_data[task], names) for task, names in classes}
        self.age_groups = tuple(data.age_groups)

    def records(self) -> list[Member]:
        """Return what identifies the networks."""
        return [
            Member(Path(path), weights_digest(network.state_dict()), network.flip_test)
            for path, network in zip(self.paths, self.members, strict=True)
        ]


def load_networks(ckpt_paths: Sequence[str], load: Callable[[str], _Network]) -> "_Network | Ensemble":
    """Load the network that ``ckpt_paths`` name, or several, or the folder of an ensemble, as one.

    Args:
        ckpt_paths: Values of ``--ckpt_path``.
        load: Loads one network.

    Raises:
        CheckpointError: A file does not exist or is damaged, or the weights of a network have changed.
        ConfigError: The networks differ in what must be equal.
    """
    first = Path(ckpt_paths[0])
    if len(ckpt_paths) > 1:
        files = network_files(ckpt_paths)
        return Ensemble({str(file): load(path) for path, file in zip(ckpt_paths, files, strict=True)}).eval()
    if not is_ensemble(first):
        return load(str(first))
    record = read_ensemble(first)
    ensemble = Ensemble({str(member.file): load(str(member.file)) for member in record.members}).eval()
    _check_unchanged(ensemble, record, first)
    if record.calibration is not None:
        ensemble.calibrate_with(Calibration.from_dict(record.calibration))
        for network, member in zip(ensemble.members, record.members, strict=True):
            network.flip_test = member.flip_test
    return ensemble


def _check_unchanged(ensemble: Ensemble, record: EnsembleRecord, folder: Path) -> None:
    """Raise CheckpointError if weights are not those that the record of an ensemble names."""
    for found, recorded in zip(ensemble.records(), record.members, strict=True):
        if found.weights != recorded.weights:
            raise CheckpointError(
                f"{recorded.file}: its weights have changed since the ensemble {folder} was made: put the "
                "network back, or make the ensemble again by `mtmsa calibrate`"
            )


def members_of(model: Any) -> list[Any]:
    """Return the networks of an ensemble, or the one network."""
    return model.members if isinstance(model, Ensemble) else [model]


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
