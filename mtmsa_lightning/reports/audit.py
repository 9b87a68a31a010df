"""An audit as one HTML page and as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.data.audit.audit import Audit
from mtmsa_lightning.data.audit.counts import part_names
from mtmsa_lightning.data.audit.findings import KINDS, SHOWN, Finding, tally
from mtmsa_lightning.data.audit.images import SHARPNESS_SIDE
from mtmsa_lightning.data.audit.labels import describe_labels
from mtmsa_lightning.data.audit.near_duplicates import HASH_SIZE
from mtmsa_lightning.data.audit.published_counts import Comparison
from mtmsa_lightning.data.splits.protocols import PARTS
from mtmsa_lightning.reports.audit_plots import draw_counts, draw_groups
from mtmsa_lightning.reports.html import Page, Picture

FORMAT_VERSION = 1
BASELINES = {
    "age_mae_of_mean": "MAE of the mean age (years)",
    "age_mae_of_median": "MAE of the median age (years)",
    "age_cs5_of_mean": "CS@5 of the mean age",
    "age_cs5_of_median": "CS@5 of the median age",
    "gender_acc": "most frequent gender",
    "race_acc": "most frequent race",
    "group_acc": "most frequent age group, exact",
    "group_acc_1off": "most frequent age group, 1-off",
}
"""Titles of the constant guesses of ``baselines.baselines``."""


def write_json(audit: Audit, file: Path) -> None:
    """Write an audit as strict JSON: no NaN, all counts, and the first examples of every finding."""
    write_text(file, to_json(record(audit), indent=2) + "\n")


def record(audit: Audit) -> dict[str, Any]:
    """Return an audit as plain values."""
    table, split = audit.table, audit.split
    return {
        "format_version": FORMAT_VERSION,
        "dataset": audit.source,
        "label_rule": table.label_rule,
        "cleaning": list(table.cleaning),
        "rows": {"read": table.report.read, "kept": len(table)},
        "protocol": audit.protocol,
        "folds": list(audit.splits),
        "split": None if split is None else split_record(audit),
        "severities": tally(audit.findings),
        "findings": [finding.record() for finding in audit.findings],
        "counts": {name: _nested(counts) for name, counts in audit.counted.items()},
        "baselines": audit.baselines,
        "published": [comparison._asdict() for comparison in audit.comparisons],
        "images": None if audit.scan is None else _images(audit),
        "thresholds": vars(audit.thresholds),
        "seconds": {name: round(seconds, 3) for name, seconds in audit.seconds.items()},
    }


def split_record(audit: Audit) -> dict[str, Any] | None:
    """Return the audited fold: sizes, fingerprints and notes."""
    split = audit.split
    if split is None:
        return None
    shared = split.subjects_in_two_parts
    return {
        "fold": split.fold,
        "seed": split.seed,
        "faces": {part: len(getattr(split, part)) for part in PARTS},
        "fingerprints": split.fingerprints,
        "subjects_in_two_parts": None if pd.isna(shared) else shared,
        "notes": list(split.notes),
    }


def write_page(audit: Audit, file: Path, pictures: bool = True) -> None:
    """Write an audit as one self-contained HTML page.

    Without ``pictures`` the page holds ids, labels and counts only, and no faces.
    """
    page = Page(
        f"Audit of {audit.source}", f"{pluralize(len(audit.table), 'face')}, protocol {audit.protocol}"
    )
    _verdict(page, audit.findings)
    _split(page, audit)
    page.section("Faces")
    page.picture(Picture(draw_counts(audit.counted), "Faces by age and class, coloured by part."))
    for name, numbers in audit.counted.items():
        if name != "age":
            page.table(_texts(numbers, name))
    _details(page, audit, pictures)
    _method(page, audit)
    page.write(file)


def summary(audit: Audit) -> str:
    """Return a summary of the audit for the terminal."""
    numbers = tally(audit.findings)
    lines = [f"{audit.source}: {pluralize(len(audit.table), 'face')}; {_counted(numbers)}"]
    lines += [f"  {finding.severity:<8}{finding.kind:<19}{finding.text}" for finding in audit.findings]
    return "\n".join(lines)


# ---------------------------------------------------------------------------- sections


def _verdict(page: Page, findings: list[Finding]) -> None:
    numbers = tally(findings)
    kind = "error" if numbers["error"] else "warning" if numbers["warning"] else "good"
    page.text(_counted(numbers), kind)
    rows = [
        {
            "": finding.severity,
            "kind": finding.kind,
            "found": finding.text,
            "remedy": KINDS[finding.kind].remedy,
        }
        for finding in findings
    ]
    if rows:
        page.table(pd.DataFrame(rows))


def _split(page: Page, audit: Audit) -> None:
    page.section("Split")
    if audit.split is None:
        page.text("The protocol cannot be applied to these faces.", "error")
    else:
        page.code(audit.split.summary())
        page.table(baseline_table(audit.baselines), "Metrics of constant guesses fitted on the training part")
    page.text(f"Labels: {audit.table.label_rule}")
    if audit.comparisons:
        page.table(comparison_table(audit.comparisons), "Compared with the published release")


def _details(page: Page, audit: Audit, pictures: bool) -> None:
    labels, parts = describe_labels(audit.table), part_names(audit.split, len(audit.table))
    captions = [f"{label}, {part}" for label, part in zip(labels, parts, strict=True)]
    for finding in audit.findings:
        page.section(f"{finding.severity}: {KINDS[finding.kind].meaning}")
        page.text(finding.text, finding.severity)
        page.items(finding.examples, numbered=True)
        if pictures:
            page.tiles(draw_groups(audit.table, finding.groups[:SHOWN], captions))


def _method(page: Page, audit: Audit) -> None:
    page.section("Methods")
    limits = audit.thresholds
    page.items(
        [
            "Exact copies: equal bytes (64-bit blake2b).",
            f"Near-duplicates: pHash (Zauner 2010, by ImageHash), at most {limits.near} of {HASH_SIZE**2} "
            "bits apart. Crops and mirror images are not found.",
            f"Blurred: variance of the Laplacian of the grey central square, at {SHARPNESS_SIDE} px, below "
            f"{limits.min_sharpness:g}. Tiny: a side below {limits.min_side} px.",
            "Leaks are searched in all folds of the protocol; all other numbers are of the fold above.",
        ]
    )
    if audit.scan is not None:
        page.table(
            pd.DataFrame([{"": name, **quantiles} for name, quantiles in _images(audit).items()]), "Images"
        )
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in audit.seconds.items())
    page.text(f"Time: {times}.")
    kinds = [
        {"severity": kind.severity, "kind": name, "meaning": kind.meaning} for name, kind in KINDS.items()
    ]
    page.table(pd.DataFrame(kinds), "Severity of each kind; an error makes the exit status 1")


# ---------------------------------------------------------------------------- parts


def baseline_table(baselines: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Return constant guesses as a table of texts: a row per metric, a column per part."""
    rows = []
    for name, title in BASELINES.items():
        metrics = {part: values.get(name) for part, values in baselines.items()}
        if any(value is not None for value in metrics.values()):
            rows.append(
                {"constant guess": title} | {part: _metric(name, value) for part, value in metrics.items()}
            )
    return pd.DataFrame(rows)


def comparison_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return counts beside the published ones as a table of texts."""
    rows = [
        (what, f"{here:,}", f"{published:,}", "" if agrees else "differs")
        for what, here, published, agrees in comparisons
    ]
    return pd.DataFrame(rows, columns=["count", "here", "published", ""])


def _metric(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:z.2f}" if "mae" in name else f"{100 * value:z.1f} %"


def _counted(numbers: Mapping[Any, int]) -> str:
    texts = {"error": "error", "warning": "warning", "info": "note"}
    return ", ".join(f"{numbers[name]} {text}{'s' * (numbers[name] != 1)}" for name, text in texts.items())


def _texts(counts: pd.DataFrame, name: str) -> pd.DataFrame:
    return counts.map("{:,}".format).reset_index(names=name)


def _nested(counts: pd.DataFrame) -> dict[str, dict[str, int]]:
    return {
        str(entry): {str(column): int(number) for column, number in row.items()}
        for entry, row in counts.to_dict("index").items()
    }


def _images(audit: Audit) -> dict[str, dict[str, float]]:
    """Return quantiles of size and sharpness."""
    assert audit.scan is not None
    facts = audit.scan.facts[audit.scan.readable]
    values = {"shorter side (px)": facts[["width", "height"]].min(axis=1), "sharpness": facts["sharpness"]}
    quantiles = {"minimum": 0.0, "1 %": 0.01, "median": 0.5, "99 %": 0.99, "maximum": 1.0}
    return {
        name: {title: round(float(value.quantile(at)), 1) for title, at in quantiles.items()}
        for name, value in values.items()
        if len(value)
    }
