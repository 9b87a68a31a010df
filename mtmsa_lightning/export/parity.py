"""Check that the outputs of an exported file equal PyTorch's within stated bounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.errors import MTMSAError
from mtmsa_lightning.export.formats import Precision
from mtmsa_lightning.export.network import named_outputs
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.runs.ensemble import Ensemble

Runner = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[Any]]]
"""Function that runs an exported file: from faces ``(n, 3, size, size)`` to outputs by name."""

BATCH_SIZES = (1, 2, 7, 22)  # batch sizes, in turn, for files that take batches of any size


class ParityError(MTMSAError):
    """The outputs of an exported file differ from PyTorch's."""


@dataclass(frozen=True)
class Bound:
    """Largest allowed differences from PyTorch.

    Attributes:
        years: For mean and standard deviation of age and the ends of its interval, for any face.
        probability: For any probability, for any face.
        mean_years: For the predicted age, mean over faces.
    """

    years: float
    probability: float
    mean_years: float


BOUNDS = {
    Precision.FP32: Bound(0.01, 0.001, 0.01),
    Precision.FP16: Bound(0.25, 0.01, 0.05),
    Precision.INT8: Bound(3.0, 0.15, 0.5),
}
"""Bounds by precision, for faces as in training.

fp32: the same sums in another order; below the last printed digit.
fp16: weights and activations rounded to 11 bits; far below the error of any age estimator. A network of 64 px
trained on real faces differed by 0.02 years and 0.0005 at most.
int8: weights and activations rounded to 8 bits. The same network differed by 0.95 years and 0.03 at most, and
by 0.15 years in the mean; a larger network may have three times as much; more is an error of the ranges.
"""


@dataclass(frozen=True)
class Differences(Bound):
    """Measured differences, with the number of faces and the sizes of the batches."""

    faces: int
    batches: tuple[int, ...]

    def describe(self) -> str:
        """Return the differences in one line."""
        sizes, faces = ", ".join(map(str, self.batches)), pluralize(self.faces, "face")
        return (
            f"{self.years:.2g} years (predicted age: {self.mean_years:.2g} in the mean) and "
            f"{self.probability:.2g} of a probability, over {faces} in batches of {sizes}"
        )


def runner_of(model: MTMSA | Ensemble) -> Runner:
    """Return a function that runs a network in PyTorch."""

    def run(faces: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            outputs = named_outputs(model, torch.from_numpy(faces))
        return {name: values.numpy() for name, values in outputs.items()}

    return run


def compare(model: MTMSA | Ensemble, run: Runner, faces: Tensor, batch_sizes: Sequence[int]) -> Differences:
    """Run an exported file and PyTorch on the same faces, RGB, uint8, ``(N, 3, size, size)``.

    ``batch_sizes`` are repeated until all faces are used.

    Raises:
        ParityError: An output is missing or has another shape.
    """
    sizes, batches = cycle(batch_sizes), list[NDArray[np.uint8]]()
    start = 0
    while start < len(faces):
        batches.append(faces[start : start + next(sizes)].numpy())
        start += len(batches[-1])
    parts = [run(batch) for batch in batches]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    differences = _differences(runner_of(model)(faces.numpy()), found)
    return Differences(**differences, faces=len(faces), batches=tuple(sorted(set(map(len, batches)))))


def _differences(wanted: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    if wanted.keys() != found.keys():
        raise ParityError(
            f"the outputs of the file are {', '.join(found)}, PyTorch's are {', '.join(wanted)}"
        )
    largest = {"years": 0.0, "probability": 0.0}
    for name, values in found.items():
        expected = wanted[name]
        if values.shape != expected.shape:
            raise ParityError(f"{name} has shape {values.shape}, PyTorch's {expected.shape}")
        if np.issubdtype(values.dtype, np.floating):  # decisions may differ for values near a threshold
            kind = "probability" if name.endswith("_probs") else "years"
            largest[kind] = max(largest[kind], _largest(values, expected))
    ages = np.subtract(found.get("age_mean", 0.0), wanted.get("age_mean", 0.0))
    return largest | {"mean_years": float(np.abs(ages).mean())}


def _largest(values: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference; equal infinities (open ends of intervals) differ by 0."""
    same = values == expected
    difference = np.abs(np.where(same, 0, values) - np.where(same, 0, expected))
    return float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max())


def check(differences: Differences, bound: Bound) -> None:
    """Raise ParityError if a difference exceeds its bound."""
    passed = [
        f"{kind.replace('_', ' ')} {getattr(differences, kind):.3g} (at most {getattr(bound, kind):g})"
        for kind in ("years", "probability", "mean_years")
        if not getattr(differences, kind) <= getattr(bound, kind)
    ]
    if passed:
        raise ParityError(
            f"the outputs of the exported file differ from PyTorch's, so it is removed: {'; '.join(passed)}; "
            f"{differences.describe()}"
        )
