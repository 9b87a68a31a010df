"""The predictions of a network for a batch of faces."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from torch import Tensor

from mtmsa_lightning.models.class_mapping import ClassMapping
from mtmsa_lightning.models.distributions import AgeDistribution


class FaceOutput(NamedTuple):
    """Predictions for N faces; None for a missing head.

    Attributes:
        age: Predictive distributions of age, in years.
        gender: Logits, shape (N, genders).
        race: Logits, shape (N, races).
        age_raw: Input of the age head's loss.
    """

    age: AgeDistribution | None
    gender: Tensor | None
    race: Tensor | None
    age_raw: Tensor | None = None

    def common(self, mappings: Mapping[str, ClassMapping]) -> Self:
        """Return these predictions with the logits of the classes that data and model share."""
        matched: dict[str, Any] = {
            task: each.logits(getattr(self, task))
            for task, each in mappings.items()
            if getattr(self, task) is not None
        }
        return self._replace(**matched)
