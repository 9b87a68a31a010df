"""Decisions at legal ages: who is wrongly taken for an adult or a minor, by age and group.

Ages are labels in completed years: 17 means [17, 18). A face is a minor at a legal age L if its label is
below L as a whole, and an adult if it is L or more; a labelled age group that contains L is neither. Taking a
minor for an adult is a false positive, not taking an adult for one a false negative, as in NIST's evaluation
(Hanaoka et al., "Face Analysis Technology Evaluation: Age Estimation and Verification", NIST IR 8525, 2024).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.calibration.policy import DECISIONS, AgePolicy, adult_probability
from mtmsa_lightning.calibration.policy_fitting import WIDEST_BUFFER
from mtmsa_lightning.evaluation.predictions import Predictions
from mtmsa_lightning.evaluation.proportions import fractions, wilson
from mtmsa_lightning.evaluation.resampling import cluster_numbers, sampling_units
from mtmsa_lightning.models.distributions import AgeDistribution
from mtmsa_lightning.settings.defaults import INTERVAL_LEVEL, LEGAL_AGES, NEAR_YEARS

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

CHALLENGE = 7
"""Years from a legal age to the usual challenge age: 25 for 18 ("Challenge 25")."""

SURE = 0.95
"""Probability of the rule by probability."""

BAND = (13, 16)
"""First and last age of the band of teenagers that NIST evaluates."""

OLDEST = 1000
"""An age above every label."""

RATE_COLUMNS = ["faces", "subjects", "errors", "rate", "low", "high"]


class DecisionRule(NamedTuple):
    """A rule that takes faces for adults."""

    name: str
    text: str  # the rule in words
    passes: Callable[[AgeDistribution], Tensor]  # bool (N,)
    near_years: int = NEAR_YEARS  # years below and above the legal age of its minors and adults near it


def decision_rules(
    predicted: AgeDistribution, legal_age: int, policies: Sequence[AgePolicy] = ()
) -> list[DecisionRule]:
    """Return the rules that are compared at a legal age, the checkpoint's own policy last, if any.

    Single predicted ages have no rule by interval or probability.
    """
    later = legal_age + CHALLENGE
    low, sure = f"{100 * INTERVAL_LEVEL:.0f} % interval begins at {legal_age} or later", f"{SURE:g}"
    rules = [
        DecisionRule("estimate", f"estimate >= {legal_age}", lambda age: age.mean >= legal_age),
        DecisionRule("challenge", f"estimate >= {later}", lambda age: age.mean >= later),
    ]
    if predicted.gives(INTERVAL_LEVEL):
        rules.append(DecisionRule("interval", low, lambda age: age.interval(INTERVAL_LEVEL)[0] >= legal_age))
    if predicted.gives():
        text = f"P(age >= {legal_age}) >= {sure}"
        rules.append(DecisionRule("probability", text, lambda age: adult_probability(age, legal_age) >= SURE))
    return rules + [
        DecisionRule(
            "policy", _policy_text(policy), partial(_says_yes, policy), policy.near_years,
        )
        for policy in policies
        if policy.legal_age == legal_age
    ]  # fmt: skip


def _policy_text(policy: AgePolicy) -> str:
    """Return when a policy says yes, with its ranges of ages if they are not those of the other rules."""
    text = policy.describe().partition(": ")[2].partition(",")[0]
    if policy.near_years == NEAR_YEARS:
        return text
    minors, adults = ("{} to {}".format(*ages) for ages in (policy.minor_ages, policy.adult_ages))
    return f"{text} (minors of {minors}, young adults of {adults})"


def _says_yes(policy: AgePolicy, age: AgeDistribution) -> Tensor:
    return policy.decide(age) == DECISIONS.index("yes")


def near_ages(legal_age: int, years: int = NEAR_YEARS) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return first and last age of the minors and of the adults near a legal age."""
    return (max(0, legal_age - years), legal_age - 1), (legal_age, legal_age + years - 1)


class _Cell(NamedTuple):
    who: str
    ages: str
    by: str
    group: str
    faces: Mask
    subjects: int


class Labels(NamedTuple):
    """Age labels, groups and subjects of N faces."""

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    columns: Mapping[str, npt.NDArray[np.str_]]
    clusters: Numbers

    @classmethod
    def of(
        cls, predictions: Predictions, columns: Mapping[str, npt.NDArray[np.str_]] | None = None
    ) -> "Labels":
        """Return those of predictions; groups are made by gender, race and further ``columns`` of texts."""
        named = {"gender": predictions.gender_labels, "race": predictions.race_labels, **(columns or {})}
        known = {name: values for name, values in named.items() if (values != "").any()}
        units = sampling_units(predictions.ids, predictions.subjects)
        low, high = predictions.age_low.numpy(), predictions.age_high.numpy()
        return cls(low, high, known, cluster_numbers(units, len(predictions)))

    def within(self, first: float, last: float) -> Mask:
        """Return which labels lie within some completed years, both included."""
        return (self.low >= first) & (self.high <= last)

    def cells(self, ranges: Mapping[str, tuple[int, int]]) -> Iterator[_Cell]:
        """Yield the faces of ranges of ages by group, where there are any."""
        for by, group, members in self.by_group():
            for who, (first, last) in ranges.items():
                faces = members & self.within(first, last)
                if faces.any():
                    ages = f"{first}-{last}" if last < OLDEST else f"{first} or older"
                    yield _Cell(who, ages, by, group, faces, self.subjects(faces))

    def subjects(self, faces: Mask) -> int:
        """Return the number of subjects of some faces."""
        return len(np.unique(self.clusters[faces]))

    def by_group(self) -> Iterator[tuple[str, str, Mask]]:
        """Yield all faces (with empty names), and those of each value of each column."""
        yield "", "", np.ones(len(self.low), bool)
        for name, values in self.columns.items():
            for value in sorted(set(values.tolist()) - {""}):
                yield name, value, values == value


def _ranges(legal_age: int, years: int = NEAR_YEARS) -> dict[str, tuple[int, int]]:
    """Return the ranges of ages that are evaluated at a legal age, by name."""
    minors, adults = near_ages(legal_age, years)
    everyone = {"all minors": (0, legal_age - 1), "all adults": (legal_age, OLDEST)}
    return {"minors": minors, "adults": adults} | everyone


def threshold_table(
    predictions: Predictions,
    legal_ages: Sequence[int] = LEGAL_AGES,
    policies: Sequence[AgePolicy] = (),
    columns: Mapping[str, npt.NDArray[np.str_]] | None = None,
) -> pd.DataFrame:
    """Return the error rates of every rule at every legal age with minors and adults among the labels.

    A row has ``legal_age``, ``rule``, ``text``; ``who``: ``minors`` or ``adults`` near the legal age (see
    :func:`near_ages`; a policy has its own range), ``all minors``, ``all adults``, or ``age`` for a single
    year, which needs exact labels; ``ages`` such as ``13-17``; the group ``by`` and ``group``, both
    empty for all faces; ``faces``, ``subjects``, ``errors`` (faces), their ``rate`` and its interval, see
    :func:`.proportions.fractions`.
    """
    assert predictions.age is not None
    labels, missing = Labels.of(predictions, columns), without_faces(predictions, legal_ages)
    rows: list[dict[str, object]] = []
    for legal_age in legal_ages:
        if legal_age in missing:
            continue
        minor = labels.high < legal_age
        for rule in decision_rules(predictions.age, legal_age, policies):
            cells = list(_cells(labels, legal_age, rule.near_years))
            error = rule.passes(predictions.age).numpy() == minor  # a minor passes, or an adult does not
            found = _rates(error, cells, labels.clusters)
            rows += [
                {"legal_age": legal_age, "rule": rule.name, "text": rule.text}
                | {"who": cell.who, "ages": cell.ages, "by": cell.by, "group": cell.group}
                | rates
                for cell, rates in zip(cells, found, strict=True)
            ]
    names = ["legal_age", "rule", "text", "who", "ages", "by", "group", *RATE_COLUMNS]
    return pd.DataFrame(rows, columns=names)


def without_faces(predictions: Predictions, legal_ages: Sequence[int]) -> dict[int, str]:
    """Return the legal ages without ``minors`` or without ``adults`` among the labels, and which."""
    labels = Labels.of(predictions)
    found = {}
    for legal_age in legal_ages:
        there = {cell.who for cell in labels.cells(_ranges(legal_age))}
        if missing := [who for who in ("minors", "adults") if f"all {who}" not in there]:
            found[legal_age] = " or ".join(missing)
    return found


def _cells(labels: Labels, legal_age: int, near_years: int) -> Iterator[_Cell]:
    """Yield the groups of faces at a legal age that have any face, and those of single years."""
    yield from labels.cells(_ranges(legal_age, near_years))
    exact = labels.low == labels.high
    for age in np.unique(labels.low[exact]).tolist():
        faces = exact & (labels.low == age)
        yield _Cell("age", f"{age:g}", "", "", faces, labels.subjects(faces))


def _rates(error: Mask, cells: Sequence[_Cell], clusters: Numbers) -> list[dict[str, float]]:
    """Return the numbers of a table's row for every cell."""
    groups = np.stack([cell.faces for cell in cells], axis=1)
    found = fractions(np.where(groups, error[:, None], np.nan), clusters)
    names = ("faces", "errors", "rate", "low", "high", "subjects")
    subjects = [cell.subjects for cell in cells]
    counts = groups.sum(0).tolist(), (groups & error[:, None]).sum(0).tolist()
    columns = zip(*counts, found.value, found.low, found.high, subjects, strict=True)
    return [dict(zip(names, row, strict=True)) for row in columns]


def hide_few(table: pd.DataFrame, min_faces: int) -> pd.DataFrame:
    """Return a table of rates with only the counts of fewer than ``min_faces`` faces.

    Their rates and intervals are NaN, and a column ``note`` says why.
    """
    few = table["faces"] < min_faces
    hidden = {name: table[name].mask(few) for name in ("rate", "low", "high")}
    return table.assign(**hidden, note=np.where(few, f"fewer than {pluralize(min_faces, 'face')}", ""))


def policy_table(predictions: Predictions, policy: AgePolicy) -> pd.DataFrame:
    """Return the shares of the decisions of a policy: a row per decision and ``who``.

    These are the ``minors`` and ``adults`` that its bound refers to, ``all minors`` and ``all adults``; with
    ``faces``, ``subjects``, the number and ``rate`` of faces with the decision and its interval.
    """
    assert predictions.age is not None
    labels = Labels.of(predictions)
    ranges = _ranges(policy.legal_age, policy.near_years)
    cells = [cell for cell in labels.cells(ranges) if not cell.by]
    decided = policy.decide(predictions.age).numpy()
    rows = (
        [
            {"decision": name, "who": cell.who, "ages": cell.ages} | rates
            for code, name in enumerate(DECISIONS)
            for cell, rates in zip(cells, _rates(decided == code, cells, labels.clusters), strict=True)
        ]
        if cells
        else []
    )
    frame = pd.DataFrame(rows, columns=["decision", "who", "ages", *RATE_COLUMNS])
    return frame.rename(columns={"errors": "decided"})


def challenge_table(
    predictions: Predictions, legal_ages: Sequence[int] = LEGAL_AGES, min_faces: int = 1
) -> pd.DataFrame:
    """Return both error rates over the challenge age, and over the probability, at every legal age.

    A row has ``legal_age``, ``rule`` (``estimate`` or ``probability``), ``threshold``, the
    ``false_positive_rate`` of the minors near the legal age with Wilson's interval (``fpr_low``,
    ``fpr_high``), the ``true_positive_rate`` of all adults and of those near it
    (``true_positive_rate_near``), and the numbers of faces. Legal ages with fewer than ``min_faces`` minors
    near them or adults are left out; with fewer adults near them, that rate is NaN.
    """
    assert predictions.age is not None
    labels = Labels.of(predictions)
    rows = []
    for legal_age in legal_ages:
        near_minors, near_adults = (labels.within(*ages) for ages in near_ages(legal_age))
        adults = labels.low >= legal_age
        if min(near_minors.sum(), adults.sum()) < max(1, min_faces):
            continue
        estimates = np.arange(legal_age - 10, legal_age + WIDEST_BUFFER + 0.01, 0.5)
        scores = {"estimate": (predictions.age.mean.numpy(), estimates)}
        if predictions.age.gives():
            probability = adult_probability(predictions.age, legal_age).numpy()
            scores["probability"] = (probability, _PROBABILITIES)
        for rule, (score, thresholds) in scores.items():
            passed = [_at_least(score[faces], thresholds) for faces in (near_minors, adults, near_adults)]
            near = near_adults.sum() if near_adults.sum() >= max(1, min_faces) else np.nan
            low, high = wilson(passed[0], np.full(len(thresholds), near_minors.sum()))
            rows.append(
                pd.DataFrame(
                    {
                        "legal_age": legal_age, "rule": rule, "threshold": thresholds,
                        "false_positive_rate": passed[0] / near_minors.sum(),
                        "fpr_low": low, "fpr_high": high,
                        "true_positive_rate": passed[1] / adults.sum(),
                        "true_positive_rate_near": passed[2] / near,
                        "minors": near_minors.sum(), "adults": adults.sum(), "adults_near": near_adults.sum(),
                    }
                )
            )  # fmt: skip
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


_PROBABILITIES = np.array([*np.arange(1, 100) / 100, *np.arange(991, 1000) / 1000, 0.9995, 0.9999])


def _at_least(scores: npt.NDArray[np.float64], thresholds: npt.NDArray[np.float64]) -> Numbers:
    """Return the number of scores at or above each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


def band_table(predictions: Predictions, band: tuple[int, int] = BAND) -> pd.DataFrame:
    """Return how often faces are taken to be of an age band, by the estimate and by probability.

    An estimate of 13 to below 17 is in the band 13 to 16; the probability of these years must be one half or
    more. A row has ``rule``, ``who`` (``in the band``, ``younger``, ``older``), ``ages``, the group ``by``
    and ``group``, and the number and ``rate`` of faces ``taken`` to be in it: a true positive rate inside,
    false positive rates outside. Empty without faces in the band.
    """
    assert predictions.age is not None
    (first, last), labels = band, Labels.of(predictions)
    mean = predictions.age.mean.numpy()
    taken = {"estimate": (mean >= first) & (mean < last + 1)}
    if predictions.age.gives():
        taken["probability"] = predictions.age.interval_prob(first - 0.5, last + 0.5).numpy() >= 0.5
    ranges = {"in the band": (first, last), "younger": (0, first - 1), "older": (last + 1, OLDEST)}
    cells = list(labels.cells(ranges))
    names = ["rule", "who", "ages", "by", "group", *RATE_COLUMNS]
    if not labels.within(first, last).any():
        return pd.DataFrame(columns=names)
    rows = [
        {"rule": rule, "who": cell.who, "ages": cell.ages, "by": cell.by, "group": cell.group} | rates
        for rule, inside in taken.items()
        for cell, rates in zip(cells, _rates(inside, cells, labels.clusters), strict=True)
    ]
    return pd.DataFrame(rows, columns=names).rename(columns={"errors": "taken"})
