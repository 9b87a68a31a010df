"""Robustness to changed photos."""

from typing import Any

import pandas as pd

from mtmsa_lightning.evaluation.stress import StressedAges, stress_table
from mtmsa_lightning.reports.html import Picture
from mtmsa_lightning.reports.plots import stress as stress_plots
from mtmsa_lightning.reports.report_data import Material
from mtmsa_lightning.settings.defaults import LEGAL_AGES

SHOWN_AGE = 18
"""Legal age in the table of the page."""


def add_section(report: Material, ages: StressedAges) -> None:
    """Add the change of estimated ages and of decisions on changed photos of the same faces."""
    table = without_few_minors(stress_table(ages, min_faces=report.min_faces), report.min_faces)
    report.write_table("stress", table)
    page = report.page
    page.section("Robustness to changed photos")
    page.text(
        "The same test faces were changed and estimated again. A robust estimate moves little, and no small "
        "change of a photo makes a minor an adult. Random choices depend on the seed "
        f"({ages.seed}), the change and the face only."
    )
    if ages.left_out:
        page.text(
            f"Left out: {', '.join(ages.left_out)}: they are drawn at the landmarks of canonical crops, "
            "which only sets of `mtmsa prepare` have."
        )
    everyone = table[table["by"] == "all"]
    caption = (
        "Change of the estimated age, and fraction of faces whose estimate crosses a legal age in either "
        f"direction, by change and severity (n = {int(everyone['faces'].max()):,}). Intervals and groups: "
        "tables/stress.csv."
    )
    page.row([report.draw("stress", stress_plots.stress(everyone, LEGAL_AGES), caption)])
    page.table(
        summary(table),
        f"Strongest severity of every change; minors: faces below {SHOWN_AGE} that are estimated below "
        f"{SHOWN_AGE} on the unchanged photo, no rate of fewer than {report.min_faces}",
    )
    if ages.examples:
        with page.private():
            page.text("One face with every change:")
            page.tiles([Picture.from_pixels(image, text) for image, text in ages.examples])


def without_few_minors(table: pd.DataFrame, min_faces: int) -> pd.DataFrame:
    """Return a table of changes with rates of minors only where there are ``min_faces`` of them."""
    hidden: dict[str, Any] = {}
    for name in (name for name in map(str, table) if name.startswith("up_faces_")):
        rate, few = name.replace("faces_", ""), table[name] < min_faces
        hidden |= {each: table[each].mask(few) for each in (rate, f"{rate}_low", f"{rate}_high")}
    return table.assign(**hidden)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row of texts per change, at its strongest severity, with the group that it moves most."""
    rows = []
    for name, of in table.groupby("stress", sort=False):
        strongest = of[of["severity"] == of["severity"].max()]
        row = strongest[strongest["by"] == "all"].iloc[0]
        groups = strongest[strongest["by"] != "all"]
        moved = groups.loc[groups["change"].abs().idxmax()] if len(groups) else None
        rows.append({
            "change": f"{str(name).replace('_', ' ')}: {row['amount']}",
            "mean change (years)": _signed(row, "change"),
            "MAE": "-" if pd.isna(row["mae"]) else f"{row['mae']:.2f} ({row['mae_change']:+z.2f})",
            f"cross {SHOWN_AGE}": _percent(row, f"flip_{SHOWN_AGE}"),
            f"minors taken for {SHOWN_AGE}+": _percent(row, f"up_{SHOWN_AGE}", row[f"up_faces_{SHOWN_AGE}"]),
            "most moved group": "-" if moved is None else f"{moved['group']}: {moved['change']:+z.1f}",
        })  # fmt: skip
    return pd.DataFrame(rows)


def _signed(row: "pd.Series[float]", name: str) -> str:
    ends = (
        "" if pd.isna(row[f"{name}_low"]) else f" [{row[f'{name}_low']:+z.2f}, {row[f'{name}_high']:+z.2f}]"
    )
    return f"{row[name]:+z.2f}{ends}"


def _percent(row: "pd.Series[float]", name: str, faces: float = 0) -> str:
    if pd.isna(row[name]):
        return f"- (of {faces:.0f})" if faces else "-"
    value, low, high = (100 * row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"
