"""Random people for synthetic faces, and the cues of their age."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.float64]
"""An RGB colour, (3,), 0 to 255."""

LIGHT_SKIN, DARK_SKIN = np.array([242.0, 205, 178]), np.array([88.0, 56, 40])
SKIN_TONE = {
    "white": (0.12, 0.07), "asian": (0.20, 0.07), "hispanic": (0.32, 0.10),
    "indian": (0.48, 0.11), "black": (0.72, 0.11), "other": (0.35, 0.18),
}  # fmt: skip
"""Mean and spread of the skin tone between the lightest (0) and the darkest (1): the ranges overlap."""

HAIR = np.array([[26.0, 23, 22], [58, 40, 29], [96, 63, 40], [186, 148, 96], [140, 72, 38]])
GREY = np.array([198.0, 198, 196])
HAIR_SHARES = {"white": (0.1, 0.3, 0.3, 0.22, 0.08), "hispanic": (0.45, 0.4, 0.12, 0.03, 0)}
DARK_HAIR = (0.75, 0.22, 0.03, 0, 0)


@dataclass(frozen=True)
class Subject:
    """A person: the properties that are the same in all images.

    ``skin`` and ``hair`` (before greying) are RGB colours, ``width``, ``jaw``, ``eye``, ``nose`` and ``lips``
    sizes relative to the average, ``curl``, ``slant`` (narrowness of the eyes), ``beard`` and ``dye`` (of
    grey hair) fractions, ``brow`` (thickness) and ``hair_line`` (above the average) pixels, and ``ageing``
    the shifts in years of wrinkles, grey, hair line, sagging and texture.
    """

    gender: str
    race: str
    skin: Colour
    hair: Colour
    long_hair: bool
    curl: float
    width: float
    jaw: float
    eye: float
    nose: float
    lips: float
    slant: float
    brow: float
    beard: float
    glasses: bool
    hair_line: float
    dye: float
    ageing: NDArray[np.float64]


def draw_subject(rng: np.random.Generator, gender: str, race: str) -> Subject:
    """Draw a random person of a gender (``male``, ``female``) and race (one of ``labels.RACES``)."""
    male = gender == "male"
    tone = float(np.clip(rng.normal(*SKIN_TONE[race]), 0, 1))
    shares = HAIR_SHARES.get(race, DARK_HAIR)
    east = {"asian": 0.75, "other": 0.35}.get(race, 0.12)
    return Subject(
        gender=gender,
        race=race,
        skin=LIGHT_SKIN + (DARK_SKIN - LIGHT_SKIN) * tone + rng.normal(0, 4, 3),
        hair=np.clip(HAIR[rng.choice(5, p=shares)] + rng.normal(0, 7, 3), 8, 230),
        long_hair=bool(rng.random() < (0.08 if male else 0.8)),
        curl=float(np.clip(rng.normal(0.85 if race == "black" else 0.2, 0.15), 0, 1)),
        width=float(rng.normal(1.02 if male else 0.97, 0.04)),
        jaw=float(rng.normal(0.30 if male else 0.42, 0.07)),
        eye=float(rng.normal(1, 0.07)),
        nose=float(rng.normal(1.15 if race == "black" else 1, 0.1)),
        lips=float(rng.normal((1.0 if male else 1.2) + (0.3 if race == "black" else 0), 0.12)),
        slant=float(np.clip(rng.normal(east, 0.12), 0, 1)),
        brow=float(rng.normal(4.2 if male else 2.6, 0.6)),
        beard=float(np.clip(rng.normal(0.45, 0.4), 0, 1)) if male else 0.0,
        glasses=bool(rng.random() < 0.12),
        hair_line=float(rng.normal(0, 6)),
        dye=float(rng.choice([0.0, 0.9], p=[0.88, 0.12] if male else [0.6, 0.4])),
        ageing=rng.normal(0, 4, 5),
    )


@dataclass(frozen=True)
class Cues:
    """Strength of each cue of age, 0 to 1; ``growth`` is that of the proportions, from infant to adult."""

    wrinkles: float
    grey: float
    hairline: float
    sag: float
    texture: float
    growth: float


def age_cues(subject: Subject, age: float, rng: np.random.Generator) -> Cues:
    """Return the cues of an age, each shifted by its own number of years."""
    wrinkles, grey, hairline, sag, texture = age + subject.ageing + rng.normal(0, 2, 5)
    receding = 1.0 if subject.gender == "male" else 0.45
    return Cues(
        wrinkles=float(np.clip((wrinkles - 14) / 48, 0, 1)),
        grey=float(1 / (1 + np.exp(-(grey - 46) / 8))) * (1 - subject.dye),
        hairline=float(np.clip((hairline - 17) / 50, 0, 1)) * receding,
        sag=float(np.clip((sag - 17) / 46, 0, 1)),
        texture=float(np.clip((texture - 12) / 52, 0, 1)),
        growth=float(np.clip(age / 19, 0, 1)) ** 0.7,
    )
