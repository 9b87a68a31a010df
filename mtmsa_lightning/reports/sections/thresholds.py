"""Decisions at legal ages: who is wrongly taken for an adult or for a minor, and the policies."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.calibration.policy import AgePolicy
from mtmsa_lightning.calibration.risk_control import fewest_units
from mtmsa_lightning.evaluation.cell_mae import CellMAE, cell_mae
from mtmsa_lightning.evaluation.thresholds import (
    BAND,
    CHALLENGE,
    SURE,
    band_table,
    challenge_table,
    hide_few,
    policy_table,
    threshold_table,
    without_faces,
)
from mtmsa_lightning.metrics.titles import format_interval, format_metric
from mtmsa_lightning.reports.plots import thresholds as plots
from mtmsa_lightning.reports.policy_text import ADULTS_AND_MINORS, ERRORS, by_who, rate_cell
from mtmsa_lightning.reports.report_data import Material
from mtmsa_lightning.settings.defaults import CELL_AGES, INTERVAL_LEVEL

INTRODUCTION = (
    "How often a face would be taken for old enough, or not, at each legal age. A false positive is a minor "
    "who is taken for an adult; a false negative is an adult who is not. Ages are completed years: somebody "
    "of 17 is 17 until the day before turning 18."
)

EVERYONE = ["minors", "adults", "all minors", "all adults"]
"""Ranges of ages of the decisions of a policy."""

NIST_CELLS = 26
"""Number of cells of NIST's mean: two sexes, 18 to 30 years."""

RULES = {
    "estimate": "estimated age of the legal age or more",
    "challenge": f"estimated age of {CHALLENGE} years more (as Challenge 25)",
    "interval": f"whole {100 * INTERVAL_LEVEL:.0f} % interval at the legal age or more",
    "probability": f"P(of legal age) of {SURE:g} or more",
    "policy": "policy of the checkpoint",
}
"""Names of the rules in legends."""


def add_section(
    report: Material, table: pd.DataFrame, legal_ages: Sequence[int], cell_ages: tuple[int, int]
) -> None:
    """Add rates and curves at the legal ages, the policies, the band of teenagers, and NIST's MAE.

    Args:
        report: The report.
        table: The table of predictions, of which a column ``dataset`` makes groups too.
        legal_ages: Legal ages; those of the checkpoint's policies are added.
        cell_ages: First and last age of the cells of NIST's MAE.
    """
    if report.predictions.age is None or not report.labelled["age"]:
        return
    policies = report.calibration.policies if report.calibration is not None else ()
    every = sorted({*legal_ages, *(policy.legal_age for policy in policies)})
    more = {"dataset": table["dataset"].to_numpy(np.str_)} if "dataset" in table else None
    rates = threshold_table(report.predictions, every, policies, more)
    missing = missing_text(without_faces(report.predictions, every))
    if missing or not rates.empty:
        report.page.section("Decisions at legal ages")
        report.page.text(INTRODUCTION)
    if missing:
        report.page.text(missing)
    if not rates.empty:
        shown = hide_few(rates, report.min_faces)
        report.write_table("thresholds", shown)
        report.page.table(rate_table(shown), f"{RATE_CAPTION} {few_text(report)}")
        add_plots(report, rates, challenge_table(report.predictions, every, report.min_faces))
        add_policies(report, policies, rates)
        add_band(report)
    cells = cell_mae(report.predictions, cell_ages)
    if cells.cells["faces"].any():
        add_cells(report, cells)


RATE_CAPTION = (
    "Each row is one way to decide. To pass is to be taken for an adult; by a policy that is a yes, and who "
    "gets a no or unsure does not pass. Minors are those of up to five years below the legal age, young "
    "adults those of less than five years above it, unless a row gives other ages. In brackets the 95 % "
    "interval and the number of faces."
)


def few_text(report: Material) -> str:
    """Return from how many faces on a rate is shown."""
    return f"Of fewer than {pluralize(report.min_faces, 'face')} only the counts are shown."


def missing_text(missing: Mapping[int, str]) -> str:
    """Return which legal ages cannot be evaluated and why; empty for none."""
    ages: dict[str, list[str]] = {}
    for legal_age, who in missing.items():
        ages.setdefault(who, []).append(str(legal_age))
    parts = [f"at {', '.join(each)} there are no {who}" for who, each in ages.items()]
    return f"Not evaluated: among the test faces, {'; '.join(parts)}." if parts else ""


def rate_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rates of all faces by legal age and rule as texts."""
    rows = by_who(table[table["by"] == ""], ["legal_age", "text"], ADULTS_AND_MINORS, "errors")
    return pd.DataFrame(rows, columns=["legal age", "passes with", *ERRORS])


def add_plots(report: Material, rates: pd.DataFrame, challenges: pd.DataFrame) -> None:
    """Plot who passes by true age, and the curves over the challenge age."""
    by_age = rates[rates["who"] == "age"]
    if not by_age.empty:
        there = {rule: name for rule, name in RULES.items() if rule in set(by_age["rule"])}
        caption = (
            "Share of the faces of each true age that each rule takes for adults. Left of the red line these "
            "are minors who wrongly pass, right of it adults who rightly do; a perfect rule steps from 0 to "
            "100 % at the line. The shaded band is the 95 % interval of the first rule. Ages of fewer than "
            f"{pluralize(report.min_faces, 'face')} are faint."
        )
        plot = plots.passed_by_age(by_age, there, report.min_faces)
        report.page.row([report.draw("passed_by_age", plot, caption)])
    if challenges.empty:
        least = pluralize(report.min_faces, "face")
        report.page.text(f"No legal age has {least} of minors near it and of adults: no curves are shown.")
        return
    report.write_table("challenge_ages", challenges)
    curves = challenges[challenges["rule"] == "estimate"]
    caption = (
        "What a stricter challenge age gains and costs: each curve goes from a low challenge age (right) to "
        "a high one (left), the mark is the legal age itself. Minors are those of up to five years below it, "
        "adults are all. DET shows both errors on normal scales: nearer to the lower left is better. Legal "
        f"ages with fewer than {pluralize(report.min_faces, 'face')} on one side are left out."
    )
    report.page.row([report.draw("challenge_ages", plots.challenge_curves(curves), caption)])


def add_policies(report: Material, policies: Sequence[AgePolicy], rates: pd.DataFrame) -> None:
    """Describe the policies of the checkpoint, and check them on the test faces, also for each group."""
    if not policies and not report.context.predictions:
        report.page.text(
            "The checkpoint has no policy: `mtmsa calibrate --legal_age 18 --max_fpr 0.01` finds the "
            "challenge age that keeps the share of minors who pass below 1 %; predictions then say "
            "yes, no or unsure."
        )
    for policy in policies:
        decided = policy_table(report.predictions, policy)
        shown = hide_few(decided, report.min_faces)
        report.write_table(f"policy_{policy.legal_age}", shown)
        rows = rates[(rates["legal_age"] == policy.legal_age) & (rates["rule"] == "policy")]
        for text, mark in policy_texts(policy, decided, rows, report.min_faces):
            report.page.text(text, mark)
        texts = by_who(shown, ["decision"], EVERYONE, "decided")
        shares = pd.DataFrame(texts, columns=["decision", *EVERYONE])
        (first, last), (low, high) = policy.minor_ages, policy.adult_ages
        heads = {"minors": f"aged {first} to {last}", "adults": f"aged {low} to {high}"}
        report.page.table(shares.rename(columns=heads), f"{policy.legal_age} or older: decisions")
        grouped = group_rows(hide_few(rows, report.min_faces), policy)
        if not grouped.empty:
            caption = f"{policy.legal_age} or older: errors by group. {GROUP_CAPTION}. {few_text(report)}"
            report.page.table(grouped, caption)


def policy_texts(
    policy: AgePolicy, decided: pd.DataFrame, rows: pd.DataFrame, min_faces: int
) -> list[tuple[str, str]]:
    """Return sentences on a policy and its rates on the test faces, each with the mark of its paragraph.

    Args:
        policy: The policy.
        decided: Result of :func:`.policy_table`.
        rows: Its rows of :func:`.threshold_table`.
        min_faces: Least number of faces of a rate, and of the worst groups.
    """
    texts = [(f"{policy.describe()}. It was fitted so that {policy.promise()}.", "")]
    for row in decided.to_dict("records"):
        if (row["who"], row["decision"]) in (("minors", "yes"), ("adults", "no")):
            ages = row["ages"].replace("-", " to ")
            counts, enough = f"{row['decided']} of {row['faces']}", row["faces"] >= min_faces
            share = rate_cell(row, "decided") if enough else counts
            text = f"On the test faces {share} of those aged {ages} get a {row['decision']}"
            verdict, mark = kept_promise(policy, row)
            texts.append((f"{text}, {verdict}", mark))
    return [*texts, *((text, "") for text in worst_groups(rows, min_faces))]


def kept_promise(policy: AgePolicy, row: Mapping[Any, Any]) -> tuple[str, str]:
    """Return whether an error rate keeps the promise of a policy, and the mark of the paragraph.

    It does if its interval lies below, or if it lies below itself on as many subjects as a fit takes.
    """
    rate, most = float(row["rate"]), policy.max_fpr
    if float(row["low"]) > most:
        return (
            "more than promised and than chance explains: these faces differ from those fitted on.",
            "warning",
        )
    enough = row["subjects"] >= fewest_units(most, policy.confidence)
    if float(row["high"]) <= most or (rate <= most and enough):
        return "as promised.", "good"
    beside = "no more than promised" if rate <= most else "more than promised, which chance may explain"
    return f"{beside}: too few to tell whether the promise holds.", ""


def worst_groups(rows: pd.DataFrame, min_faces: int) -> Iterator[str]:
    """Yield sentences on the groups that a rule is wrong for most often."""
    groups = rows[(rows["by"] != "") & (rows["faces"] >= min_faces)]
    for who, verb in (("minors", "pass"), ("all adults", "do not pass")):
        found = groups[groups["who"] == who].to_dict("records")
        if len(found) > 1:
            worst = max(found, key=lambda row: float(row["rate"]))
            yield (
                f"Worst group aged {worst['ages']} with {min_faces} faces or more: {worst['group']} "
                f"({worst['by']}), {rate_cell(worst, 'errors')} {verb}."
            )


GROUP_CAPTION = "Who does not pass gets a no or unsure"


def group_rows(rows: pd.DataFrame, policy: AgePolicy) -> pd.DataFrame:
    """Return the rates of a policy by group as texts."""
    texts = by_who(rows[rows["by"] != ""], ["by", "group"], ADULTS_AND_MINORS, "errors")
    (first, last), (low, high) = policy.minor_ages, policy.adult_ages
    ages = f"{first} to {last}", f"{low} to {high}", f"{low} or older"
    heads = [f"{head} ({each})" for head, each in zip(ERRORS, ages, strict=True)]
    return pd.DataFrame(texts, columns=["by", "group", *heads])


def add_band(report: Material) -> None:
    """Add how often faces are taken to be in the band of teenagers."""
    band, (first, last) = band_table(report.predictions), BAND
    if band.empty:
        return
    band = hide_few(band, report.min_faces)
    report.write_table("age_band", band)
    caption = (
        f"Share taken to be {first} to {last} years old: of those who are, a high one is good, of the "
        f"younger and the older a low one. {few_text(report)}"
    )
    report.page.table(band_rows(band), caption)


def band_rows(band: pd.DataFrame) -> pd.DataFrame:
    """Return the rates of the band as texts: a row per rule and group, a column per range of ages."""
    ranges = ["in the band", "younger", "older"]
    texts = by_who(band, ["rule", "by", "group"], ranges, "taken")
    return pd.DataFrame(texts, columns=["rule", "by", "group", *ranges]).replace({"by": {"": "all"}})


def add_cells(report: Material, found: CellMAE) -> None:
    """Add NIST's MAE beside the plain, the balanced and the worst group's."""
    page = report.page
    page.section("Error by sex and age")
    report.write_table("age_cells", found.cells)
    rows = mean_errors(report, found)
    report.write_table("age_errors", pd.DataFrame(rows, columns=["name", "value", "low95", "high95"]))
    cells = [
        (title, format_metric("age_mae", value), format_interval("age_mae", *ends))
        for title, value, *ends in rows
    ]
    page.table(pd.DataFrame(cells, columns=["age MAE (years)", "value", "95 % interval"]))
    text = f"The worst group is one of gender, race and decade with {report.min_faces} faces or more."
    few = int(found.cells["faces"].between(1, report.min_faces - 1).sum())
    if few:
        text += f" {few} of the {len(found.cells)} cells have fewer than {report.min_faces} faces each."
    if found.empty:
        text += f" Cells without a face, which are left out: {', '.join(found.empty)}."
    page.text(text)


def mean_errors(report: Material, found: CellMAE) -> list[tuple[str, float, float, float]]:
    """Return the means of the absolute error, each with its name and interval."""
    assert report.subgroups is not None
    first, last = found.cells["age"].iloc[0], found.cells["age"].iloc[-1]
    filled, every = int((found.cells["faces"] > 0).sum()), len(found.cells)
    kind = "sex and single age" if (found.cells["gender"] != "").any() else "single age"
    number = str(every) if filled == every else f"{filled} of {every}"
    nist = ", as NIST's headline" if ((first, last), every) == (CELL_AGES, NIST_CELLS) else ""
    rows = [(f"mean of {number} cells of {kind}, {first} to {last}{nist}", found.mae, found.low, found.high)]
    for name, title in (("age_mae", "mean of faces"), ("age_balanced_mae", "mean of decades of age")):
        if name in report.scalars:
            rows.append((title, report.scalars[name], *report.interval_of(name)))
    worst = worst_group(report.subgroups.table)
    return rows if worst is None else [*rows, worst]


def worst_group(table: pd.DataFrame) -> tuple[str, float, float, float] | None:
    """Return name, MAE and interval of the group of subgroups with the largest MAE, if any has one."""
    groups = table[(table["by"] != "all") & table.get("age_mae", pd.Series(dtype=float)).notna()]
    if groups.empty:
        return None
    row = max(groups.to_dict("records"), key=lambda row: float(row["age_mae"]))
    names = ", ".join(filter(None, (row["gender"], row["race"], row["age"])))
    name = f"worst group: {names} ({pluralize(int(row['faces']), 'face')})"
    return name, float(row["age_mae"]), float(row["age_mae_low"]), float(row["age_mae_high"])
