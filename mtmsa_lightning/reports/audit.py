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
from mtmsa_lightning.data.audit.findings import KINDS, SHOWN, tally
from mtmsa_lightning.data.audit.images import SHARPNESS_SIDE
from mtmsa_lightning.data.audit.labels import describe_labels
from mtmsa_lightning.data.audit.near_duplicates import HASH_SIZE
from mtmsa_lightning.data.audit.published_counts import Comparison
from mtmsa_lightning.data.splits.split import PARTS
from mtmsa_lightning.reports import html
from mtmsa_lightning.reports.audit_plots import draw_counts, draw_groups

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
    table = audit.table
    return {
        "format_version": FORMAT_VERSION,
        "dataset": audit.source,
        "label_rule": table.label_rule,
        "cleaning": list(table.cleaning),
        "rows": {"read": table.report.read, "kept": len(table)},
        "protocol": audit.protocol,
        "folds": list(audit.splits),
        "split": _split_record(audit),
        "severities": tally(audit.findings),
        "findings": [finding.record() for finding in audit.findings],
        "counts": {
            name: counts.rename(index=str, columns=str).to_dict("index")
            for name, counts in audit.counted.items()
        },
        "baselines": audit.baselines,
        "published": [comparison._asdict() for comparison in audit.comparisons],
        "images": None if audit.scan is None else _images(audit),
        "thresholds": vars(audit.thresholds),
        "seconds": {name: round(seconds, 3) for name, seconds in audit.seconds.items()},
    }


def _split_record(audit: Audit) -> dict[str, Any] | None:
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
    table, numbers = audit.table, tally(audit.findings)
    labels, parts = describe_labels(table), part_names(audit.split, len(table))
    captions = [f"{label}, {part}" for label, part in zip(labels, parts, strict=True)]
    found = [(each.severity, each.kind, each.text, KINDS[each.kind].remedy) for each in audit.findings]
    quantiles = [] if audit.scan is None else [{"": name, **each} for name, each in _images(audit).items()]
    html.write_page(
        file,
        "audit.html",
        title=f"Audit of {audit.source}",
        lead=f"{pluralize(len(table), 'face')}, protocol {audit.protocol}",
        audit=audit,
        kinds=KINDS,
        verdict=_counted(numbers),
        mark="error" if numbers["error"] else "warning" if numbers["warning"] else "good",
        findings=pd.DataFrame(found, columns=["", "kind", "found", "remedy"]),
        baselines=baseline_table(audit.baselines),
        comparisons=comparison_table(audit.comparisons),
        counts=html.Picture(draw_counts(audit.counted), "Faces by age and class, coloured by part."),
        class_counts=[
            counts.map("{:,}".format).reset_index(names=name)
            for name, counts in audit.counted.items()
            if name != "age"
        ],
        details=[
            (each, draw_groups(table, each.groups[:SHOWN], captions) if pictures else None)
            for each in audit.findings
        ],
        hash_bits=HASH_SIZE**2,
        sharpness_side=SHARPNESS_SIDE,
        images=None if audit.scan is None else pd.DataFrame(quantiles),
        seconds=", ".join(f"{name} {seconds:.1f} s" for name, seconds in audit.seconds.items()),
        severities=pd.DataFrame(
            [(kind.severity, name, kind.meaning) for name, kind in KINDS.items()],
            columns=["severity", "kind", "meaning"],
        ),
    )


def summary(audit: Audit) -> str:
    """Return a summary of the audit for the terminal."""
    numbers = tally(audit.findings)
    lines = [f"{audit.source}: {pluralize(len(audit.table), 'face')}; {_counted(numbers)}"]
    lines += [f"  {finding.severity:<8}{finding.kind:<19}{finding.text}" for finding in audit.findings]
    return "\n".join(lines)


def baseline_table(baselines: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Return constant guesses as a table of texts: a row per metric, a column per part."""
    rows = [
        {"constant guess": title} | {part: _metric(name, each.get(name)) for part, each in baselines.items()}
        for name, title in BASELINES.items()
        if any(each.get(name) is not None for each in baselines.values())
    ]
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
    return ", ".join(pluralize(numbers[name], text) for name, text in texts.items())


def _images(audit: Audit) -> dict[str, dict[str, float]]:
    """Return quantiles of size and sharpness."""
    assert audit.scan is not None
    facts = audit.scan.facts[audit.scan.readable]
    values = {"shorter side (px)": facts[["width", "height"]].min(axis=1), "sharpness": facts["sharpness"]}
    quantiles = {"minimum": 0.0, "1 %": 0.01, "median": 0.5, "99 %": 0.99, "maximum": 1.0}
    found = pd.DataFrame(values).astype("float64").quantile([*quantiles.values()]).round(1)
    rounded: dict[str, dict[str, float]] = found.set_axis([*quantiles]).to_dict()  # type: ignore[assignment]
    return rounded if len(facts) else {}
