"""Texts of `mtmsa calibrate`: metrics before and after, coverage and its target, thresholds."""

from rich.table import Table

from mtmsa_lightning._utils.logs import drawn
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.calibration.conformal import coverage_deviation
from mtmsa_lightning.calibration.measures import LabelledPredictions, age_risk, risk_by_threshold
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.mixture.datamodule import sources_of
from mtmsa_lightning.labels import age_group_edges
from mtmsa_lightning.metrics.titles import format_metric, title
from mtmsa_lightning.settings.defaults import INTERVAL_LEVEL

SURPRISING = 3.0
"""Distance of coverage from its target, in standard deviations, that is reported as surprising."""

DRAWN_AT_RANDOM = ("random", "subject_exclusive", "setting_a", "whole", "train_all")
"""Protocols whose test part is drawn at random like the others."""

ROWS = ("age_nll", "age_interval_nll", "age_ence", "gender_nll", "gender_ece", "race_nll", "race_ece")
"""Metrics shown besides coverage and width."""


def metrics_table(calibration: Calibration) -> str:
    """Return a table of the metrics before and after calibration."""
    columns = [metrics[when] for metrics in calibration.metrics.values() for when in ("before", "after")]
    table = Table("metric")
    for part, metrics in calibration.metrics.items():
        size = f"\n{pluralize(metrics['before'].get('faces', 0), 'face')}"
        table.add_column(f"{part}{size}\nbefore", justify="right")
        table.add_column("\n\nafter", justify="right")
    for level in columns[0].get("coverage", {}):
        name = f"age_coverage{level}"
        covered = (format_metric(name, column["coverage"][level]) for column in columns)
        table.add_row(f"{level} % interval covers", *covered)
        if any(column.get("faces", 0) > column.get("subjects", 0) for column in columns):
            by_subject = (format_metric(name, column["coverage_by_subject"][level]) for column in columns)
            table.add_row("  by subject", *by_subject)
        widths = (format_metric(f"age_width{level}", each["width"][level], "inf") for each in columns)
        table.add_row("  its mean width (years)", *widths)
    for name in ROWS:
        values = [column.get(name) for column in columns]
        if any(value is not None for value in values):
            table.add_row(title(name), *(format_metric(name, value) for value in values))
    return drawn(table)


def coverage_lines(calibration: Calibration, data: FaceDataModule) -> list[str]:
    """Return the coverage of each level on the test part, and whether chance explains its gap."""
    on = calibration.fitted_on
    lines = [
        f"{100 * level:g} % interval: infinite, {on['subjects']} {on['unit']} are too few"
        for level, quantile in calibration.quantiles.items()
        if quantile == float("inf")
    ]
    test = calibration.metrics.get("test", {}).get("after", {})
    several = bool(test.get("subjects")) and test["faces"] > test["subjects"]
    bound, least = ("at most ", " or more") if several else ("", "")
    surprising = False
    for level, quantile in calibration.quantiles.items():
        if quantile == float("inf") or not test.get("subjects"):
            continue
        deviation = coverage_deviation(level, on["subjects"], test["subjects"])
        covered = test["coverage_by_subject"][f"{100 * level:g}"]
        gap = (covered - level) / deviation
        beyond = abs(gap) > SURPRISING
        surprising |= beyond
        remark = f": beyond {SURPRISING:g} sd, chance does not explain it" if beyond else ""
        lines.append(
            f"test: {100 * level:g} % interval covers {100 * covered:.1f} % by subject "
            f"(sd {bound}{100 * deviation:.1f} %, gap {gap:+z.1f} sd{least}){remark}"
        )
    reasons = why_not_exchangeable(data)
    if test and reasons:
        lines.append(f"the test part need not be exchangeable with the one fitted on: {'; '.join(reasons)}")
    elif surprising:
        lines.append("the parts are draws of one dataset: look for differences between them")
    return lines


def why_not_exchangeable(data: FaceDataModule) -> list[str]:
    """Return reasons why coverage on the test part of a split may differ from its target."""
    split = data.split
    protocols = sorted({source.split.protocol for source in sources_of(data)} - {*DRAWN_AT_RANDOM})
    reasons = [f"protocol {protocol} does not draw it at random" for protocol in protocols]
    if split.subjects_in_two_parts > 0:
        fraction = f"{100 * split.subjects_in_two_parts:.0f} %"
        reasons.append(f"{fraction} of its images show training subjects, unlike the part fitted on")
    return reasons


def thresholds_table(predictions: LabelledPredictions, groups: bool) -> str:
    """Return a table of thresholds: the fraction of the faces fitted on that each keeps, and their error.

    Thresholds of the group's probability are included if ``groups``.
    """
    assert predictions.age is not None
    title, risk = age_risk(predictions)
    low, high = predictions.age.interval(INTERVAL_LEVEL)
    scales = {"--max_width (years)": (high - low, 1)}
    if groups:
        probs = predictions.age.group_probs(age_group_edges(predictions.groups))
        scales["--min_group_prob"] = (-probs.amax(1), -1)
    note = ""
    if (high - low).isinf().all():  # too few subjects
        del scales["--max_width (years)"]
        note = f"no --max_width: every {100 * INTERVAL_LEVEL:g} % interval is infinite"
        if not scales:
            return note
        note = f"\n{note}"
    table = Table()
    for name in (*scales, "faces kept", title):
        table.add_column(name, justify="right")
    for name, (uncertainty, sign) in scales.items():
        for row in risk_by_threshold(uncertainty[predictions.labelled], risk):
            cells = {name: f"{sign * row.threshold:z.2f}"}
            table.add_row(
                *(cells.get(each, "") for each in scales), f"{100 * row.kept:.0f} %", f"{row.risk:z.2f}"
            )
    return f"thresholds beyond which a face is unsure, on the faces fitted on:\n{drawn(table)}{note}"
