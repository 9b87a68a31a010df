"""The predictions of several networks for the same faces as one prediction."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mtmsa_lightning.models.distributions import MixtureAge, without_intervals
from mtmsa_lightning.models.face_output import FaceOutput


def mean_output(outputs: Sequence[FaceOutput]) -> FaceOutput:
    """Return the mixture of the ages and the mean class probabilities of networks, each with equal weight.

    Args:
        outputs: Outputs; logits of one task have the same classes in the same order. Fitted intervals,
            which cannot be mixed, are dropped. A head that any network lacks is None.
    """
    ages = [without_intervals(output.age) for output in outputs if output.age is not None]
    return FaceOutput(
        MixtureAge(ages) if len(ages) == len(outputs) else None,
        _mean_logits([output.gender for output in outputs]),
        _mean_logits([output.race for output in outputs]),
    )


def _mean_logits(logits: Sequence[Tensor | None]) -> Tensor | None:
    known = [each.double().log_softmax(1) for each in logits if each is not None]
    if len(known) < len(logits):
        return None
    return torch.stack(known).logsumexp(0) - math.log(len(known))
