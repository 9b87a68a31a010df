"""Predictions of a batch of faces as columns of a table."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtmsa_lightning.calibration.policy import DECISIONS
from mtmsa_lightning.labels import age_group_edges
from mtmsa_lightning.models.distributions import printed_columns
from mtmsa_lightning.models.face_output import FaceOutput
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.ensemble import Ensemble


def prediction_columns(model: MTMSA | Ensemble, output: FaceOutput) -> dict[str, Tensor]:
    """Return a model's outputs for N faces as named columns ``(N,)``, on the same device.

    They are those of the distribution of age (``age_mean, age_std``) and ``age_low90, age_high90`` in years
    (its central 90 %; of a calibrated model its conformal interval, beside those of the other levels), cut at
    0, and uncut as ``age_mean_unclipped`` and so on; ``unsure`` where a calibration sets thresholds, and for
    its policies ``over_<age>``, an index of :data:`~mtmsa_lightning.calibration.policy.DECISIONS`;
    ``group_<low>_<high>``, ``gender_<class>`` and ``race_<class>`` probabilities; only for existing heads.
    """
    columns: dict[str, Tensor] = {}
    if output.age is not None:
        low, high = output.age.interval(0.9)
        columns = printed_columns(output.age.columns() | {"age_low90": low, "age_high90": high})
        if model.calibration is not None and model.calibration.abstains:
            columns["unsure"] = model.calibration.unsure(output.age, model.age_groups)
        columns |= decision_columns(model, output)
        if model.age_groups:
            probs = output.age.group_probs(age_group_edges(model.age_groups))
            columns |= {f"group_{low}_{high}": probs[:, i] for i, (low, high) in enumerate(model.age_groups)}
    for task, logits in model.trained_logits(output).items():
        probs = logits.double().softmax(1)
        columns |= {f"{task}_{name}": probs[:, i] for i, name in enumerate(model.trained_classes[task])}
    return columns


def decision_columns(model: MTMSA | Ensemble, output: FaceOutput) -> dict[str, Tensor]:
    """Return the decisions of a model's policies by name, such as ``over_18``, as indices, int64 ``(N,)``."""
    if output.age is None or model.calibration is None:
        return {}
    return {policy.name: policy.decide(output.age) for policy in model.calibration.policies}


def to_arrays(batches: Sequence[Mapping[str, Tensor]]) -> dict[str, NDArray[Any]]:
    """Concatenate the columns of batches and copy them to the CPU at once, as each copy waits for the device.

    bool and int64, which must be exact in float64, keep their type, and decisions become their names; all
    others become float64.
    """
    joined = torch.cat([torch.stack([*map(Tensor.double, batch.values())]) for batch in batches], dim=1)
    kinds = {torch.bool: bool, torch.int64: int}
    columns = zip(batches[0].items(), joined.detach().cpu().numpy(), strict=True)
    arrays = {name: row.astype(kinds.get(of.dtype, float), copy=False) for (name, of), row in columns}
    return {name: _named(row) if _DECISION.fullmatch(name) else row for name, row in arrays.items()}


_DECISION = re.compile(r"over_\d+")


def _named(codes: NDArray[np.int64]) -> NDArray[np.object_]:
    return np.array(DECISIONS, dtype=object)[codes]
