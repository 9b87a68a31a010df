"""Texts on decisions at legal ages: what was fitted, at what cost, and why it could not be."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table

from mtmsa_lightning._utils.logs import drawn
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.calibration.policy import AgePolicy
from mtmsa_lightning.calibration.risk_control import fewest_units, smallest_rate

ADULTS_AND_MINORS = ("minors", "adults", "all adults")
ERRORS = ("minors who pass", "young adults who do not pass", "all adults who do not pass")
"""Columns of rates of :func:`.threshold_table`, and their heads."""

OF_SUBJECTS = "Shares are of subjects: several faces of a person, or equal pictures, count as one"


def fitted_lines(rules: Sequence[AgePolicy], chosen: str) -> list[str]:
    """Return a title and a table of a policy by every rule, ``chosen`` or not, with its rates by part.

    The rates are means over subjects, as the bound is, so that they stand with the number of these.
    """
    policy = rules[0]
    table = Table("rule", "part", "yes from", "no below")
    (first, last), (low, high) = policy.minor_ages, policy.adult_ages
    near = f"{low}-{high}"
    for head in (f"yes at {first}-{last}", f"no at {near}", f"yes at {near}", f"yes from {low} on"):
        table.add_column(head, justify="right")
    for rule in rules:
        name = f"{rule.by}{' (used)' if rule.by == chosen else ''}"
        for part, rates in rule.metrics.items():
            ends = (_number(rule.yes_from), _number(rule.no_below))
            table.add_row(name, part, *ends, *rate_cells(rates))
            name, ends = "", ("", "")
    return [f"{policy.legal_age} or older: {policy.promise()}. {OF_SUBJECTS}", drawn(table)]


def rate_cells(rates: Mapping[str, Any]) -> list[str]:
    """Return the shares of wrong yes and no near a legal age, and of right yes near it and of all adults."""
    shown = (("minors", "yes"), ("adults", "no"), ("adults", "yes"), ("all_adults", "yes"))
    pairs = [(rates[group][decision], rates[group]["subjects"]) for group, decision in shown]
    return ["-" if share is None else f"{percent(share)} of {subjects:,}" for share, subjects in pairs]


def by_who(table: pd.DataFrame, keys: Sequence[str], who: Sequence[str], count: str) -> list[tuple[str, ...]]:
    """Return a row of texts for each value of the columns ``keys``: these, and the rate of each ``who``.

    ``count`` names the column with the numbers of faces that the rates count.
    """
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for row in table.to_dict("records"):
        cells = found.setdefault(tuple(str(row[key]) for key in keys), {})
        cells[row["who"]] = rate_cell(row, count)
    return [(*key, *(cells.get(each, "-") for each in who)) for key, cells in found.items()]


def rate_cell(row: Mapping[Any, Any], count: str) -> str:
    """Return a rate with its interval and number of faces, such as ``3.1 % (1.2 to 7.0; 160)``.

    Without a rate (:func:`.thresholds.hide_few`) a dash and the counts, such as ``- (2 of 7)``.
    """
    if math.isnan(row["rate"]):
        return f"- ({int(row[count]):,} of {int(row['faces']):,})"
    low, high = 100 * row["low"], 100 * row["high"]
    return f"{100 * row['rate']:.1f} % ({low:.1f} to {high:.1f}; {int(row['faces']):,})"


def percent(share: float) -> str:
    """Return a share in percent with three digits, such as ``0.714 %``."""
    return f"{100 * share:.3g} %"


def too_few_text(policy: AgePolicy, minors: int, all_minors: int, part: str) -> str:
    """Return why a part has too few minors for a policy and what to do; empty if it has enough.

    Args:
        policy: The policy.
        minors: Number of subjects of ``minor_ages`` in the part.
        all_minors: Number of all subjects below the legal age.
        part: Name of the part.
    """
    fewest = fewest_units(policy.max_fpr, policy.confidence)
    if minors >= fewest:
        return ""
    first, last = policy.minor_ages
    sure = "on average" if policy.confidence is None else f"with {100 * policy.confidence:g} % confidence"
    ways = ["hold out more faces in training (--data.calibration_fraction)"]
    if minors:
        rate = -(-smallest_rate(minors, policy.confidence) * 1000 // 1) / 1000  # rounded up
        ways.insert(0, f"--max_fpr {min(0.999, rate):g}, the smallest rate that {minors} can show")
    if all_minors >= fewest:
        everyone = f"all {all_minors:,} people below {policy.legal_age}"
        ways.insert(0, f"--near_years {policy.legal_age}, which counts {everyone}")
    if policy.confidence is not None and minors >= fewest_units(policy.max_fpr, None):
        ways.insert(0, "--on_average true, for the mean over calibration sets")
    return (
        f"--legal_age {policy.legal_age}: a rate of at most {policy.max_fpr:g} {sure} takes "
        f"{pluralize(fewest, 'subject')} aged {first} to {last} without a single error; the {part} part has "
        f"{minors:,}. Possible: {'; or '.join(ways)}"
    )


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:g}"
