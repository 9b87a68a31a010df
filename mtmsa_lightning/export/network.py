"""The exported network: from decoded faces to ages and probabilities."""

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mtmsa_lightning.calibration.policy import DECISIONS
from mtmsa_lightning.evaluation.prediction_columns import decision_columns
from mtmsa_lightning.labels import age_group_edges
from mtmsa_lightning.metrics.stage_metrics import StageMetrics
from mtmsa_lightning.models.backbones.trunk import Trunk
from mtmsa_lightning.models.distributions import MixtureAge, printed_age, without_intervals
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.ensemble import Ensemble, members_of
from mtmsa_lightning.settings.defaults import INTERVAL_LEVEL

INPUT = "images"  # name of the input

OUTPUTS = {
    "age_mean": "predicted age in years, cut at 0, [n]",
    "age_std": "its standard deviation in years, [n]",
    "age_std_within": "of an ensemble: root of the mean variance of its networks, years, [n]",
    "age_std_between": "of an ensemble: standard deviation of the means of its networks, years, [n]",
    "age_low90": "lower end in years of the interval of age that holds 90 %, cut at 0, [n]",
    "age_high90": "upper end in years, cut at 0, [n]",
    "age_group_probs": "probabilities of the age groups, [n, groups]",
    "gender_probs": "probabilities of the gender classes, [n, classes]",
    "race_probs": "probabilities of the race classes, [n, classes]",
    "unsure": "whether a threshold of the calibration is exceeded, bool [n]",
}
"""Descriptions of the outputs, in order; a checkpoint has those of its heads."""


def describe_output(name: str) -> str:
    """Return the description of an output."""
    if name in OUTPUTS:
        return OUTPUTS[name]
    codes = ", ".join(f"{code} {decision}" for code, decision in enumerate(DECISIONS))
    return f"whether a person is {name.removeprefix('over_')} years old or older: {codes}, int64 [n]"


def named_outputs(model: MTMSA | Ensemble, images: Tensor) -> dict[str, Tensor]:
    """Return the calibrated outputs of a checkpoint in float32, those of :data:`OUTPUTS` that it has.

    The decisions of its policies come last, by name.

    Args:
        model: The network, in evaluation mode.
        images: RGB, uint8, ``(N, 3, image_size, image_size)``.
    """
    output = model.calibrated(model(images))
    found: dict[str, Tensor] = {}
    if output.age is not None:
        low, high = map(printed_age, output.age.interval(INTERVAL_LEVEL))
        mean = printed_age(output.age.mean)
        found |= {"age_mean": mean, "age_std": output.age.std}
        if isinstance(mixture := without_intervals(output.age), MixtureAge):
            found |= {"age_std_within": mixture.std_within, "age_std_between": mixture.std_between}
        found |= {"age_low90": low, "age_high90": high}
        if model.age_groups:
            found["age_group_probs"] = output.age.group_probs(age_group_edges(model.age_groups))
    for task, logits in model.trained_logits(output).items():
        found[f"{task}_probs"] = logits.softmax(1)
    found = {name: values.float() for name, values in found.items()}
    if output.age is not None and model.calibration is not None and model.calibration.abstains:
        found["unsure"] = model.calibration.unsure(output.age, model.age_groups)
    return found | decision_columns(model, output)


class ExportNetwork(nn.Module):
    """A copy of a checkpoint's network, or of an ensemble, with the outputs of :func:`named_outputs`.

    Batch normalisation is folded into the convolutions; ``half`` computes the trunk in float16.

    Shape:
        Input RGB, uint8, ``(N, 3, image_size, image_size)``: normalisation happens inside.
    """

    def __init__(self, model: MTMSA | Ensemble, half: bool = False) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().eval()
        for network in members_of(self.model):
            network.metrics = StageMetrics({}, groups=False)
            fold_batch_norm(network.trunk)
            if half:
                network.trunk = _HalfTrunk(network.trunk)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name."""
        return named_outputs(self.model, images)


class _HalfTrunk(nn.Module):
    """A trunk that computes in float16 between float32 images and float32 features."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk.half()

    def forward(self, images: Tensor, aux_stage: int) -> tuple[Tensor, Tensor]:
        """Return the pooled features of the last stage and of an earlier one."""
        features, aux = self.trunk(images.half(), aux_stage)
        return features.float(), aux.float()


def fold_batch_norm(module: nn.Module) -> None:
    """Fold each BatchNorm into the convolution right before it among its siblings, in place."""
    for (name, layer), (following, norm) in pairwise(list(module.named_children())):
        if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(layer, norm))
            activation = getattr(norm, "act", None)  # timm's normalisation contains the activation
            setattr(module, following, activation if isinstance(activation, nn.Module) else nn.Identity())
    for child in module.children():
        fold_batch_norm(child)


def traced(network: ExportNetwork, dynamic: bool) -> torch.export.ExportedProgram:
    """Trace a network, for batches of any size (``dynamic``) or one face."""
    size = network.model.image_size
    # With an example of one face the batch size would be fixed to 1.
    example = torch.zeros(2 if dynamic else 1, 3, size, size, dtype=torch.uint8)
    shapes = {INPUT: {0: torch.export.Dim("n", min=1)} if dynamic else None}
    with torch.no_grad():
        return torch.export.export(network, (example,), dynamic_shapes=shapes, strict=False)
