"""What is said of a face in a photo."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.align.canonical import Transform
from mtmsa_lightning.align.faces import Points
from mtmsa_lightning.errors import CheckpointError
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.models.distributions import AgeDistribution, printed_age

Interval = tuple[float, float]
"""Both ends in years."""


@dataclass(frozen=True, eq=False)
class Age:
    """What is said of a face's age.

    Attributes:
        distribution: The predictive distribution, a batch of this one face, on the CPU; of a calibrated
            checkpoint the calibrated one.
        groups: Probability of each age group ``(low, high)`` in completed years, by the cells in which groups
            are decided; empty if the checkpoint learnt no groups.
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

    def interval(self, level: float = 0.9) -> Interval:
        """Return both ends in years of the interval that is to hold the age with probability ``level``.

        Of a calibrated checkpoint this is the conformal interval at the levels that were fitted (0.5, 0.8,
        0.9, 0.95), infinite where it was fitted on too few subjects; else the central interval of that mass.
        Both ends are cut at 0; those of ``distribution.interval`` are not.

        Raises:
            ValueError: If ``level`` is not between 0 and 1, both excluded.
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
    """What is said of a face's gender or race.

    Attributes:
        probabilities: Probability by class name, in the order of the checkpoint's classes.
    """

    probabilities: Mapping[str, float]

    @property
    def name(self) -> str:
        """Name of the likeliest class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def probability(self) -> float:
        """Probability of the likeliest class."""
        return max(self.probabilities.values())

    def __str__(self) -> str:
        return f"{self.name} ({100 * self.probability:.0f} %)"


class FaceCrop(NamedTuple):
    """A face as it is given to the network.

    Attributes:
        image: RGB, uint8, shape (image_size, image_size, 3).
        transform: Matrix (2, 3) from pixels (x, y, 1) of the photo to those of ``image``.
        box: Left, top, right and bottom edge in pixels of the photo, where the centre of the left top pixel
            is (0, 0): as detected, or the part of the photo that was taken for the face.
        landmarks: The five landmarks (``align.detector.LANDMARKS``) in pixels of the photo, shape (5, 2);
            None where no face was looked for.
        score: Confidence of the detector, 0 to 1; None where no face was looked for.
    """

    image: Image
    transform: Transform
    box: tuple[float, float, float, float]
    landmarks: Points | None = None
    score: float | None = None


@dataclass(frozen=True, eq=False)
class Face:
    """A face and what is said of it.

    Attributes:
        crop: Where it is, and what the network saw.
        age_or_none: Its age; None if the checkpoint has no age head.
        gender: Its gender; None if the checkpoint was not trained on it.
        race: Its race; None if the checkpoint was not trained on it.
        unsure: Whether it is beyond a threshold of the calibration; None if no threshold was set.
    """

    crop: FaceCrop
    age_or_none: Age | None
    gender: ClassPrediction | None
    race: ClassPrediction | None
    unsure: bool | None

    @property
    def age(self) -> Age:
        """Its age.

        Raises:
            CheckpointError: The checkpoint has no age head.
        """
        if self.age_or_none is None:
            raise CheckpointError("the checkpoint was trained without an age head: it says no ages")
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
        """Confidence of the detector; None where no face was looked for."""
        return self.crop.score

    def __repr__(self) -> str:
        said = [str(part) for part in (self.age_or_none, self.gender, self.race) if part is not None]
        left, top, right, bottom = (round(edge) for edge in self.box)
        return f"Face({', '.join(said)}; box {left}, {top}, {right}, {bottom})"


class PhotoFaces(NamedTuple):
    """What is said of one photo of many.

    Attributes:
        faces: Its faces, the largest first; none where none was found or the photo could not be read.
        fault: Why the photo could not be read; empty if it could.
        path: The photo's file; None for arrays, tensors and Pillow images.
    """

    faces: list[Face]
    fault: str = ""
    path: Path | None = None


class FaceAttention(NamedTuple):
    """What the multi-scale attention modules do on a face, by the stage of the network that they follow.

    Attributes:
        maps: Gates averaged over channels, ``(h, w)`` over the face's crop: above 0 amplifies, below 0 damps.
        rates: Dilation rates, each with the mean share of the scale that ends with its convolution; the
            shares of a stage sum to 1.
    """

    maps: dict[int, NDArray[np.float32]]
    rates: dict[int, list[tuple[int, float]]]
