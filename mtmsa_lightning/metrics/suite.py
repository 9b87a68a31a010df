"""The list of the metrics of a run: names, titles, labels and directions.

To add a metric add it here. It is then logged in validation and test, written to every table of metrics, and
named in reports.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from torchmetrics import Metric

from mtmsa_lightning.labels import AGE_GROUP_EDGES, age_group_edges
from mtmsa_lightning.metrics import age
from mtmsa_lightning.metrics import probabilistic as prob
from mtmsa_lightning.metrics.age_by_group import AgeBalancedMAE, WorstDecadeMAE
from mtmsa_lightning.metrics.age_groups import GroupAccuracy
from mtmsa_lightning.metrics.classes import BalancedAccuracy, ClassAccuracy, ClassCalibrationError
from mtmsa_lightning.metrics.uncertainty import AURC, ENCE
from mtmsa_lightning.metrics.votes import EpsilonError, VotesCoverage, VotesCRPS
from mtmsa_lightning.settings.defaults import MIN_FACES

LabelKind = Literal["exact", "group", "age", "votes", "gender", "race"]
"""Exact ages, age groups, ages of either kind, guesses of apparent age, and the two classes."""

AgeGroups = Sequence[tuple[int, int]]
"""Inclusive (low, high) age groups in years."""

LEVELS = (50, 80, 90, 95)
"""Nominal levels of the prediction intervals that are reported, in percent."""


class MetricSpec(NamedTuple):
    """One scalar metric of the suite.

    Attributes:
        name: Stable name in logs, records and tables, after ``val/`` or ``test/``.
        title: Title in reports, with the unit.
        needs: Kind of label that it needs.
        better: ``lower``, ``higher``, or the best value.
        build: Builds the metric from the number of classes of its task (0 for ages).
        fraction: Whether it is a fraction, shown in percent.
        training: Whether it is logged in training too.
        headline: Whether it is in the table at the end of a run.
        uses: What it needs beside the predicted age or class: nothing (``point``), the whole ``distribution``
            or class probabilities, or the interval of a level.
        decimals: Decimals in tables, unless it is a fraction.
    """

    name: str
    title: str
    needs: LabelKind
    better: Literal["lower", "higher"] | float
    build: Callable[[int], Metric]
    fraction: bool = False
    training: bool = False
    headline: bool = False
    uses: Literal["point", "distribution"] | float = "point"
    decimals: int = 2

    @property
    def task(self) -> str:
        """The task: ``age``, ``votes``, ``gender`` or ``race``."""
        return self.needs if self.needs in ("votes", "gender", "race") else "age"


def _intervals(level: int) -> tuple[MetricSpec, MetricSpec]:
    """Return the metrics of the central interval of a level in percent."""
    share, headline = level / 100, level == 90
    return (
        MetricSpec(
            f"age_coverage{level}", f"age {level} % interval, coverage", "age", share,
            lambda _: prob.IntervalCoverage(share), fraction=True, headline=headline, uses=share,
        ),
        MetricSpec(
            f"age_width{level}", f"age {level} % interval, width (years)", "age", "lower",
            lambda _: prob.IntervalWidth(share), headline=headline, uses=share,
        ),
    )  # fmt: skip


def _classes(task: Literal["gender", "race"]) -> tuple[MetricSpec, ...]:
    """Return the metrics of a class head."""
    return (
        MetricSpec(
            f"{task}_acc", f"{task} accuracy", task, "higher",
            ClassAccuracy, fraction=True, training=True, headline=True,
        ),
        MetricSpec(
            f"{task}_balanced_acc", f"{task} balanced accuracy", task, "higher", BalancedAccuracy,
            fraction=True, headline=True,
        ),
        MetricSpec(
            f"{task}_ece", f"{task} calibration error (ECE)", task, "lower",
            lambda _: ClassCalibrationError(), fraction=True, uses="distribution",
        ),
    )  # fmt: skip


METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "age_mae", "age MAE (years)", "exact", "lower", lambda _: age.AgeMAE(), training=True, headline=True
    ),
    MetricSpec(
        "age_balanced_mae", "age MAE, mean of the decades (years)", "exact", "lower",
        lambda _: AgeBalancedMAE(), headline=True,
    ),
    MetricSpec("age_rmse", "age RMSE (years)", "exact", "lower", lambda _: age.AgeRMSE()),
    MetricSpec("age_bias", "age bias (years)", "exact", 0.0, lambda _: age.AgeBias(), headline=True),
    MetricSpec(
        "age_cs5", "age CS@5", "exact", "higher", lambda _: age.CumulativeScore(5.0),
        fraction=True, training=True, headline=True,
    ),
    MetricSpec(
        "age_cs_area", "age area under CS@0-30", "exact", "higher", lambda _: age.CumulativeScoreArea(30.0),
        fraction=True,
    ),
    MetricSpec(
        "age_worst_decade_mae", f"age MAE of the worst decade of {MIN_FACES} faces or more (years)",
        "exact", "lower", lambda _: WorstDecadeMAE(),
    ),
    MetricSpec(
        "age_nll", "age NLL (nats)", "exact", "lower", lambda _: prob.AgeNLL(),
        training=True, headline=True, uses="distribution",
    ),
    MetricSpec(
        "age_interval_nll", "age group NLL (nats)", "group", "lower", lambda _: prob.AgeIntervalNLL(),
        training=True, headline=True, uses="distribution",
    ),
    MetricSpec(
        "age_crps", "age CRPS (years)", "exact", "lower", lambda _: prob.AgeCRPS(),
        headline=True, uses="distribution",
    ),
    *(spec for level in LEVELS for spec in _intervals(level)),
    MetricSpec(
        "age_ence", "age normalised calibration error (ENCE)", "exact", "lower", lambda _: ENCE(),
        uses="distribution",
    ),
    MetricSpec(
        "age_aurc", "age area under risk-coverage (years)", "exact", "lower", lambda _: AURC(),
        uses="distribution",
    ),
    MetricSpec(
        "group_acc", "age group accuracy", "age", "higher", lambda _: GroupAccuracy(),
        fraction=True, training=True, headline=True,
    ),
    MetricSpec(
        "group_acc_1off", "age group 1-off accuracy", "age", "higher",
        lambda _: GroupAccuracy(offset=1), fraction=True, training=True, headline=True,
    ),
    *_classes("gender"),
    *_classes("race"),
)  # fmt: skip
"""All metrics of a run, in the order of tables."""


def _votes_coverage(level: int) -> MetricSpec:
    """Return the coverage of guesses by the central interval of a level in percent."""
    share, title = level / 100, f"apparent age, guesses within the {level} % interval"
    return MetricSpec(
        f"apparent_coverage{level}", title, "votes", share, lambda _: VotesCoverage(share), fraction=True,
        uses=share,
    )  # fmt: skip


VOTE_METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "apparent_epsilon", "apparent age, epsilon error", "votes", "lower", lambda _: EpsilonError(),
        headline=True, decimals=3,
    ),
    MetricSpec(
        "apparent_crps", "apparent age, distance from the guesses (years)", "votes", "lower",
        lambda _: VotesCRPS(), headline=True, uses="distribution",
    ),
    *map(_votes_coverage, LEVELS),
)  # fmt: skip
"""Metrics of apparent age, computed from tables of predictions."""


def metric_specs(classes: Mapping[str, int], groups: bool | AgeGroups) -> tuple[MetricSpec, ...]:
    """Return the metrics of a model; arguments as for :class:`.StageMetrics`, and the task ``votes``."""
    found = tuple(
        spec
        for spec in (*METRICS, *VOTE_METRICS)
        if spec.task in classes and (groups or not spec.name.startswith("group_"))
    )
    if isinstance(groups, bool) or age_group_edges(groups) == AGE_GROUP_EDGES:
        return found
    return tuple(_with_groups(spec, age_group_edges(groups)) for spec in found)


def _with_groups(spec: MetricSpec, edges: tuple[float, ...]) -> MetricSpec:
    """Return the metric with the cells of other age groups, if it is of groups."""
    offset = {"group_acc": 0, "group_acc_1off": 1}.get(spec.name)
    return spec if offset is None else spec._replace(build=lambda _: GroupAccuracy(edges, offset))
