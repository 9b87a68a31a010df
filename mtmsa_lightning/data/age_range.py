"""Check of age labels against the years of an age head."""

import logging
from collections.abc import Mapping

import pandas as pd

from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.errors import ConfigError

log = logging.getLogger(__name__)

MOST = 0.5
"""Fraction of a part's age labels outside the years above which an error is raised."""


def check_years(parts: Mapping[str, pd.DataFrame], years: tuple[int, int]) -> None:
    """Warn about age labels of parts outside the years (first, last) of a head.

    Raises:
        ConfigError: More than ``MOST`` of the labels of a part are outside.
    """
    first, last = years
    for part, faces in parts.items():
        outside = faces[(faces["age_high"] < first) | (faces["age_low"] > last)]
        if outside.empty:
            continue
        known = int(faces["age_low"].notna().sum())
        few = outside.head(5)
        ages = zip(few["id"].tolist(), few["age_low"].tolist(), few["age_high"].tolist(), strict=True)
        named = [f"{name} ({low:.0f}" + (")" if low == high else f"-{high:.0f})") for name, low, high in ages]
        text = (
            f"{len(outside):,} of {known:,} {part} age labels lie outside the years {first} to {last} of the "
            f"age head: {shown(named)}{', ...' if len(outside) > len(named) else ''}"
        )
        advice = "set model.age.min_age and model.age.max_age by the ages of the data"
        if len(outside) > MOST * known:
            raise ConfigError(f"{text}: {advice}, or choose a checkpoint with these years")
        log.warning("%s: they count as the nearest of these years (%s)", text, advice)
