"""What a network says of a batch of faces, as columns of a table."""

from typing import Any

import numpy as np
import torch

from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.module import MTMSA, FaceOutput


def prediction_columns(model: MTMSA, output: FaceOutput) -> dict[str, np.ndarray[Any, Any]]:
    """Turn a batch of outputs into named columns.

    Args:
        model: The model that made them; it knows its class names.
        output: Outputs of N faces.

    Returns:
        Arrays of length N: those of the distribution of age (``age_mean, age_std``) and ``age_low90,
        age_high90`` in years (its central 90 %; of a calibrated model its conformal interval, beside those
        of the other levels), ``unsure`` where a calibration sets thresholds, ``group_<low>_<high>``,
        ``gender_<class>`` and ``race_<class>`` probabilities; only of heads that exist.
    """
    columns: dict[str, torch.Tensor] = {}
    if output.age is not None:
        low, high = output.age.interval(0.9)
        columns = output.age.columns() | {"age_low90": low, "age_high90": high}
        if model.calibration is not None and model.calibration.abstains:
            columns["unsure"] = model.calibration.unsure(output.age)
        if model.age_groups:
            probs = output.age.group_probs(AGE_GROUP_EDGES)
            columns |= {f"group_{low}_{high}": probs[:, i] for i, (low, high) in enumerate(model.age_groups)}
    for task, names in model.answers.items():
        probs = getattr(output, task).double().softmax(1)
        columns |= {f"{task}_{name}": probs[:, i] for i, name in enumerate(names)}
    return {name: _array(values) for name, values in columns.items()}


def _array(values: torch.Tensor) -> np.ndarray[Any, Any]:
    return (
        values.detach().cpu().numpy()
        if values.dtype == torch.bool
        else values.detach().double().cpu().numpy()
    )
