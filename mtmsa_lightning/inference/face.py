"""Predictions for a face in a photo."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.align.canonical import Transform, from_enlarged
from mtmsa_lightning.align.detected_face import Points, scale_pixels
from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.models.distributions import AgeDistribution, MixtureAge, printed_age, without_intervals
from mtmsa_lightning.settings.defaults import INTERVAL_LEVEL

BOX = ("box_left", "box_top", "box_right", "box_bottom")  # columns of tables for the edges of a box in pixels

Interval = tuple[float, float]
"""Both ends in years."""


@dataclass(frozen=True, eq=False)
class Age:
    """A predicted age.

    Attributes:
        distribution: The predictive distribution, a batch of one face, on the CPU; calibrated if the
            checkpoint is.
        groups: Probability of each age group ``(low, high)`` in completed years; empty without groups.
    """

    distribution: AgeDistribution
    groups: Mapping[tuple[int, int], float]

    @property
    def mean(self) -> float:
        """Mean in years, cut at 0; ``distribution.mean`` is not."""
        return float(printed_age(self.distribution.mean))

    @property
    def std(self) -> float:
        """Standard deviation in years."""
        return float(self.distribution.std)

    def interval(self, level: float = INTERVAL_LEVEL) -> Interval:
        """Return both ends in years, cut at 0, of the interval with probability ``level``.

        For a calibrated checkpoint this is the conformal interval at the fitted levels (0.5, 0.8, 0.9, 0.95),
        infinite if it was fitted on too few subjects; else the central interval.

        Raises:
            ValueError: ``level`` is not between 0 and 1, both excluded.
        """
        low, high = map(printed_age, self.distribution.interval(level))
        return float(low), float(high)

    def probability(self, low: float, high: float) -> float:
        """Return the probability of ``low`` to ``high`` completed years, both included."""
        return float(self.distribution.interval_prob(low - 0.5, high + 0.5))

    def cells(self, edges: tuple[float, ...] = AGE_GROUP_EDGES) -> list[float]:
        """Return the probability of each cell between edges in years, the first and the last cell open."""
        probabilities: list[float] = self.distribution.group_probs(edges)[0].tolist()
        return probabilities

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.mean:z.1f} years (90 %: {low:z.0f} to {high:z.0f})"


@dataclass(frozen=True)
class ClassPrediction:
    """A predicted gender or race, as probabilities by class name in the order of the checkpoint's classes."""

    probabilities: Mapping[str, float]

    @property
    def name(self) -> str:
        """Name of the most probable class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return max(self.probabilities.values())

    def __str__(self) -> str:
        return f"{self.name} ({100 * self.probability:.0f} %)"


class FaceCrop(NamedTuple):
    """A face as input of the network.

    Attributes:
        image: RGB, uint8, shape (image_size, image_size, 3).
        transform: Matrix (2, 3) from pixels (x, y, 1) of the photo to those of ``image``.
        box: Left, top, right and bottom edge in pixels of the photo, where the centre of the left top pixel
            is (0, 0): as detected, or the part of the photo that was used.
        landmarks: The five ``align.detector.LANDMARKS`` in pixels of the photo, (5, 2), if detected.
        score: Confidence of the detector, 0 to 1; None without detection.
        turned: Degrees, clockwise, by which the photo was turned to find the face.
    """

    image: Image
    transform: Transform
    box: tuple[float, float, float, float]
    landmarks: Points | None = None
    score: float | None = None
    turned: int = 0

    def in_file(self, factor: int) -> "FaceCrop":
        """Return the face with coordinates in a file that was reduced by a factor when it was decoded."""
        if factor == 1:
            return self
        left, top, right, bottom = scale_pixels(np.array(self.box), factor).tolist()
        points = None if self.landmarks is None else scale_pixels(self.landmarks, factor)
        transform = from_enlarged(self.transform, factor)
        return self._replace(transform=transform, box=(left, top, right, bottom), landmarks=points)


@dataclass(frozen=True, eq=False)
class Face:
    """A face and its predictions; None where the checkpoint was not trained on a task.

    Attributes:
        crop: The position of the face and the network's input.
        age_or_none: The age; None without an age head.
        gender: The gender.
        race: The race.
        unsure: Whether a threshold of the calibration is exceeded; None without thresholds.
        over: The decision ``yes``, ``no`` or ``unsure`` by legal age in years, see
            :class:`~mtmsa_lightning.calibration.policy.AgePolicy`; empty without policies.
    """

    crop: FaceCrop
    age_or_none: Age | None
    gender: ClassPrediction | None
    race: ClassPrediction | None
    unsure: bool | None
    over: Mapping[int, str] = field(default_factory=dict)

    @property
    def age(self) -> Age:
        """The age; raise CheckpointError if the checkpoint has no age head."""
        if self.age_or_none is None:
            raise CheckpointError("the checkpoint was trained without an age head: it predicts no ages")
        return self.age_or_none

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom edge in pixels of the photo, see :class:`FaceCrop`."""
        return self.crop.box

    @property
    def landmarks(self) -> Points | None:
        """Landmarks in pixels of the photo, see :class:`FaceCrop`."""
        return self.crop.landmarks

    @property
    def score(self) -> float | None:
        """Confidence of the detector; None without detection."""
        return self.crop.score

    def to_dict(self) -> dict[str, Any]:
        """Return the predictions as plain values, with the names of the columns of ``mtmsa predict``.

        These are ``box_left``, ``box_top``, ``box_right``, ``box_bottom``, ``score`` and ``turned``;
        ``age_mean``, ``age_std`` (of an ensemble also ``age_std_within`` and ``age_std_between``),
        ``age_low90`` and ``age_high90`` in years, ``unsure``, decisions ``over_<age>``, probabilities
        ``group_<low>_<high>``; the most probable ``gender`` and ``race`` with the probabilities
        ``gender_<class>`` and ``race_<class>``. Predictions that the checkpoint does not make are missing.
        """
        values: dict[str, Any] = dict(zip(BOX, map(float, self.box), strict=True))
        values |= {"score": self.score, "turned": self.crop.turned}
        if self.age_or_none is not None:
            age = self.age_or_none
            low, high = age.interval(0.9)
            values |= {"age_mean": age.mean, "age_std": age.std}
            if isinstance(mixture := without_intervals(age.distribution), MixtureAge):
                within, between = float(mixture.std_within), float(mixture.std_between)
                values |= {"age_std_within": within, "age_std_between": between}
            values |= {"age_low90": low, "age_high90": high}
            values |= {} if self.unsure is None else {"unsure": self.unsure}
            values |= {f"over_{legal_age}": decision for legal_age, decision in self.over.items()}
            values |= {f"group_{low}_{high}": share for (low, high), share in age.groups.items()}
        for task, predicted in (("gender", self.gender), ("race", self.race)):
            if predicted is not None:
                values[task] = predicted.name
                values |= {f"{task}_{name}": share for name, share in predicted.probabilities.items()}
        return values

    def __repr__(self) -> str:
        parts = [str(part) for part in (self.age_or_none, self.gender, self.race) if part is not None]
        left, top, right, bottom = (round(edge) for edge in self.box)
        return f"Face({', '.join(parts)}; box {left}, {top}, {right}, {bottom})"


class PhotoFaces(NamedTuple):
    """The faces of one photo of many, the largest first; ``error`` is empty, or why it cannot be read."""

    faces: list[Face]
    error: str = ""
    path: Path | None = None


class FaceAttention(NamedTuple):
    """The multi-scale attention for a face, by the stage of the network that it follows.

    ``maps`` are gates averaged over channels, ``(h, w)`` over the face's crop: above 0 amplifies, below 0
    damps. ``rates`` are dilation rates, each with the mean weight of the scale that ends with its
    convolution; the weights of a stage sum to 1.
    """

    maps: dict[int, NDArray[np.float32]]
    rates: dict[int, list[tuple[int, float]]]
