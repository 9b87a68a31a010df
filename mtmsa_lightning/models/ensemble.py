"""The predictions of several networks for the same faces as one prediction."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mtmsa_lightning.models.distributions import AgeDistribution, CalibratedAge, MixtureAge
from mtmsa_lightning.models.face_output import FaceOutput


def mean_output(outputs: Sequence[FaceOutput]) -> FaceOutput:
    """Return the mixture of the ages and the mean class probabilities of networks, each with equal weight.

    Args:
        outputs: Calibrated outputs; logits of one task have the same classes in the same order. A head that
            any network lacks is None.
    """
    ages = [_whole(output.age) for output in outputs if output.age is not None]
    return FaceOutput(
        MixtureAge(ages) if len(ages) == len(outputs) else None,
        _mean_logits([output.gender for output in outputs]),
        _mean_logits([output.race for output in outputs]),
    )


def _whole(age: AgeDistribution) -> AgeDistribution:
    """Return a distribution without fitted intervals, which cannot be mixed."""
    return age.base if isinstance(age, CalibratedAge) else age


def _mean_logits(logits: Sequence[Tensor | None]) -> Tensor | None:
    known = [each.double().log_softmax(1) for each in logits if each is not None]
    if len(known) < len(logits):
        return None
    return torch.stack(known).logsumexp(0) - math.log(len(known))
