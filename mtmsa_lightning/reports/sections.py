"""The sections of a report: each draws plots, writes tables, and adds both to the page.

Without labels behind it a section adds nothing. The one on uncertainty is in :mod:`.uncertainty`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning._utils.strict_json import csv_cell
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.evaluation.faces import faces_to_look_at
from mtmsa_lightning.evaluation.groups import group_confusion, group_names
from mtmsa_lightning.labels import GENDERS, RACES
from mtmsa_lightning.metrics.age import MIN_FACES
from mtmsa_lightning.metrics.suite import METRICS, MetricSpec
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_interval, format_metric
from mtmsa_lightning.models.distributions import printed_age
from mtmsa_lightning.reports import plots
from mtmsa_lightning.reports.html import Page, Picture
from mtmsa_lightning.reports.material import Material

if TYPE_CHECKING:
    from mtmsa_lightning.evaluation.attention import Attention

Images = Callable[[str], NDArray[np.uint8]]
"""The face of an id as the network sees it, RGB, ``(height, width, 3)``."""


def headline(report: Material) -> None:
    """The metrics that a paper quotes."""
    report.page.section("Headline")
    if report.context.partial:
        report.page.text(f"These metrics are {report.context.partial}.", "warning")
    report.page.table(report.metric_table(spec for spec in METRICS if spec.headline))
    for task, found in report.classes.items():
        if found["masked"]:
            masked = ", ".join(
                f"{name} ({pluralize(faces, 'face')})" for name, faces in found["masked"].items()
            )
            report.page.text(f"Not counted for {task}, as the checkpoint lacks them: {masked}.", "warning")


def quotes(report: Material) -> None:
    """What the metrics must be quoted with."""
    page, data = report.page, report.context.data
    page.section("To be quoted with these metrics")
    said = pd.DataFrame(report.context.quotes().items(), columns=["what", "value"])
    page.table(said)
    report.write_table("quoted_with", said)
    if share := data.get("subjects_in_two_parts"):
        page.text(f"{100 * share:.1f} % of the test images show a subject that was trained on.", "warning")
    missing = (data.get("faces") or {}).get("test", 0) - len(report.predictions)
    if missing > 0 and not report.context.partial:
        page.text(f"Unreadable or left out: {pluralize(missing, 'face')} of the test part.", "warning")
    for note in report.context.notes:
        page.text(note)


def all_metrics(report: Material) -> None:
    """Every scalar metric, and where to find the rest."""
    report.page.section("All metrics")
    report.page.table(report.metric_table(METRICS))
    rows = [
        (name, csv_cell(value), *report.interval_of(name), report.labelled[METRIC_BY_NAME[name].needs])
        for name, value in report.scalars.items()
    ]
    report.write_table("metrics", pd.DataFrame(rows, columns=["name", "value", "low95", "high95", "faces"]))
    report.page.text(
        "Beside this page: plots/ (SVG and PNG), tables/ (CSV), metrics.json, and predictions.parquet and "
        "predictions.csv with one row per face, from which every metric can be computed again."
    )


# ------------------------------------------------------------------------ age


def age(report: Material) -> None:
    """Cumulative score, predicted against true age, error by age, age groups."""
    if report.subgroups is None:
        return
    report.page.section("Age")
    exact = [cumulative_score(report), predicted_against_true(report), error_by_age(report)]
    report.page.row([*(picture for picture in exact if picture is not None), age_groups(report)])


def cumulative_score(report: Material) -> Picture | None:
    """Draw the curve CS@n."""
    if "cumulative_score" not in report.curves:
        return None
    curve, faces = report.curves["cumulative_score"], report.labelled["exact"]
    report.write_table("cumulative_score", pd.DataFrame(curve))
    caption = f"Cumulative score: share of faces whose error is at most n years (n = {faces:,})."
    return report.draw(
        "cumulative_score", plots.cumulative_score(curve["years"], curve["share"], faces), caption
    )


def predicted_against_true(report: Material) -> Picture | None:
    """Draw the density of predictions over the exact ages."""
    predictions, faces = report.predictions, report.labelled["exact"]
    if predictions.age is None or not faces:
        return None
    exact = predictions.age_low == predictions.age_high
    drawing = plots.predicted_against_true(
        predictions.age_low[exact].numpy(), printed_age(predictions.age.mean[exact]).numpy()
    )
    caption = f"Predicted against true age: counts in hexagons, on a logarithmic scale (n = {faces:,})."
    return report.draw("predicted_against_true", drawing, caption)


def error_by_age(report: Material) -> Picture | None:
    """Draw mean absolute error and bias by decade."""
    if report.subgroups is None or not report.labelled["exact"]:
        return None
    rows = report.subgroups.table
    rows = rows[rows["by"] == "age"]
    columns = {
        "names": "age", "counts": "faces", "mae": "age_mae", "low": "age_mae_low", "high": "age_mae_high",
        "bias": "age_bias",
    }  # fmt: skip
    report.write_table("error_by_age", rows[[*columns.values()]])
    if rows["age_mae"].isna().all():
        report.page.text(f"No age decade has {MIN_FACES} faces: there is no error by decade to show.")
        return None
    errors = plots.ErrorByAge(**{name: rows[column].tolist() for name, column in columns.items()})
    caption = (
        f"Mean absolute error by decade of the true age, with 95 % bootstrap intervals over {report.units}, "
        f"and bias (prediction minus age); none below {MIN_FACES} faces (n = {int(rows['faces'].sum()):,})."
    )
    return report.draw("error_by_age", plots.error_by_age(errors), caption)


def age_groups(report: Material) -> Picture:
    """Draw the confusion of age groups."""
    matrix, names = group_confusion(report.predictions).numpy(), group_names(report.predictions)
    report.write_confusion("age_groups", matrix, names)
    caption = (
        "Age groups: the likeliest group against that of the label, in percent of the label's faces, with "
        f"counts (n = {int(matrix.sum()):,}). Groups are decided in gapless cells."
    )
    drawing = plots.confusion(matrix, names, "age group (years)")
    return report.draw("confusion_age_groups", drawing, caption)


# ------------------------------------------------------------------------ gender and race


def classes(report: Material) -> None:
    """Confusion and reliability of the class heads."""
    if not report.classes:
        return
    report.page.section(" and ".join(report.classes).capitalize())
    for task in report.classes:
        report.page.row([class_confusion(report, task), class_reliability(report, task)])


def class_confusion(report: Material, task: str) -> Picture:
    """Draw the confusion of a class head."""
    found = report.classes[task]
    report.write_confusion(task, found["confusion"], found["names"])
    caption = (
        f"{task.capitalize()}: prediction against label, in percent of the label's faces, with counts "
        f"(n = {report.labelled[task]:,})."
    )
    return report.draw(
        f"confusion_{task}", plots.confusion(found["confusion"], found["names"], task), caption
    )


def class_reliability(report: Material, task: str) -> Picture:
    """Draw the reliability of a class head."""
    bins, error = report.classes[task]["reliability"], report.scalars[f"{task}_ece"]
    report.write_table(f"reliability_{task}", pd.DataFrame(bins))
    drawing = plots.class_reliability(
        np.array(bins["confidence"], float), np.array(bins["accuracy"], float), bins["faces"],
        np.nan if error is None else error, task,
    )  # fmt: skip
    caption = (
        f"Reliability of {task}: accuracy over the confidence of the predicted class, and how many faces "
        f"have that confidence (n = {report.labelled[task]:,})."
    )
    return report.draw(f"reliability_{task}", drawing, caption)


# ------------------------------------------------------------------------ subgroups


def subgroups(report: Material) -> None:
    """Error by gender, race and age, and the largest gaps."""
    if report.subgroups is None:
        return
    report.page.section("Subgroups")
    table, gaps = report.subgroups
    report.write_table("subgroups", table)
    report.write_table("subgroup_gaps", gaps)
    shown = METRIC_BY_NAME["age_mae" if report.labelled["exact"] else "group_acc"]
    report.page.picture(subgroup_map(report, table, shown))
    gaps = gaps[gaps["metric"] == shown.name]
    if gaps.empty:
        report.page.text(
            f"No two groups of one kind have {MIN_FACES} faces or more: there is no gap to show."
        )
        return
    caption = f"{shown.title}: largest gaps between groups of at least {MIN_FACES} faces"
    report.page.table(gap_table(gaps, shown), caption)


def subgroup_map(report: Material, table: pd.DataFrame, shown: MetricSpec) -> Picture:
    """Draw a metric for every group: who in rows, from all to the finest, and age in columns."""
    cells = table.set_index(["gender", "race", "age"])
    ages = sorted(set(table["age"]) - {""}, key=lambda name: [int(year) for year in name.split("-")])
    genders, races = ([name for name in names if name in set(table[column])]
                      for column, names in (("gender", GENDERS), ("race", RACES)))  # fmt: skip
    pairs = [(gender, race) for gender in genders for race in races]
    who = [("", ""), *((gender, "") for gender in genders), *(("", race) for race in races), *pairs]

    def matrix(column: str, missing: float) -> NDArray[np.float64]:
        rows = [[cells[column].get((*row, age), missing) for age in ("", *ages)] for row in who]
        return np.array(rows, dtype=float)

    faces = int(table["faces"].iloc[0])
    title = f"{shown.title} (%)" if shown.fraction else shown.title
    values = matrix(shown.name, np.nan) * (100 if shown.fraction else 1)
    names = [", ".join(filter(None, row)) or "all" for row in who]
    drawing = plots.subgroup_map(values, matrix("faces", 0), names, ["all", *ages], title, faces)
    caption = (
        f"{title} by labelled gender, race and age, with the number of faces in brackets, k for thousands "
        f"(n = {faces:,}); groups of fewer than {MIN_FACES} faces show their number only."
    )
    return report.draw("subgroups", drawing, caption)


def gap_table(gaps: pd.DataFrame, shown: MetricSpec) -> pd.DataFrame:
    """Return the largest gaps of a metric as texts."""

    def end(name: str, value: float, faces: int) -> str:
        return f"{name}: {format_metric(shown.name, value)} ({pluralize(faces, 'face')})"

    rows = [
        {
            "groups by": gap["by"],
            "gap": format_metric(shown.name, gap["gap"]),
            "95 % interval": format_interval(shown.name, gap["gap_low"], gap["gap_high"]),
            "highest": end(gap["highest"], gap["highest_value"], gap["highest_faces"]),
            "lowest": end(gap["lowest"], gap["lowest_value"], gap["lowest_faces"]),
        }
        for gap in gaps.to_dict("records")
    ]
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------ faces and attention


def faces(report: Material, images: Images | None) -> None:
    """The best, the worst and the most uncertain faces; as a list where photos are not wanted."""
    chosen = {kind: rows for kind, rows in faces_to_look_at(report.predictions).items() if len(rows)}
    if not chosen:
        return
    report.write_table("faces", pd.concat(chosen, names=["kind"]).reset_index("kind"))
    with report.page.private():
        _show_faces(report.page, chosen, images)


def _show_faces(page: Page, chosen: dict[str, pd.DataFrame], images: Images | None) -> None:
    page.section("Faces to look at")
    if images is not None:
        page.text(
            "This page shows photos of people. The terms of their dataset may forbid to pass them on: "
            "`mtmsa evaluate --faces false` writes a page without photos.",
            "warning",
        )
    for kind, rows in chosen.items():
        page.text(f"{kind.capitalize()}: true age, prediction, and its 90 % interval, in years")
        said = [
            f"true {face['label']}, predicted {face['prediction']:z.1f} ({face['low90']:z.0f} to "
            f"{face['high90']:z.0f})"
            for face in rows.to_dict("records")
        ]
        if images is None:
            page.table(pd.DataFrame({"id": rows["id"], "age": said}))
        else:
            named = zip(rows["id"], said, strict=True)
            page.tiles([Picture(_jpeg(images(name)), f"{text}; {name}") for name, text in named])


def _jpeg(face: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(face, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return encoded.tobytes()


def attention(report: Material, seen: "Attention", photos: bool) -> None:
    """Where the attention modules look, and which dilation rates matter at which age."""
    report.page.section("Multi-scale attention")
    if photos:
        drawing = plots.attention_maps(
            seen.faces,
            {f"stage {stage}": gates for stage, gates in seen.maps.items()},
            [pluralize(age, "year") for age in seen.ages],
        )
        caption = (
            "Where the attention modules amplify (orange, above 0) and damp (blue, below 0) the features: "
            "the gate, averaged over channels, over faces of different ages. A gate of 1 doubles a feature, "
            "-1 removes it; all maps have one scale, on which a gate far below 0.1 is not seen."
        )
        with report.page.private():
            report.page.picture(report.draw("attention_maps", drawing, caption))
    report.write_table("scale_weights", seen.weights)
    if (weights := seen.weights.dropna()).empty:
        report.page.text(f"No age decade has {MIN_FACES} faces: there are no mean weights of scales to show.")
        return
    report.page.picture(scale_weights(report, weights))


def scale_weights(report: Material, weights: pd.DataFrame) -> Picture:
    """Draw the mean weights of the scales by decade."""
    decades = sorted(weights["decade"].unique())
    modules = {
        f"stage {stage}": {
            f"rate {rate}": rows.set_index("decade")["weight"].reindex(decades).to_numpy()
            for rate, rows in of_stage.groupby("rate")
        }
        for stage, of_stage in weights.groupby("stage")
    }
    scales = weights.groupby(["stage", "rate"])["faces"].sum()
    names = [f"{decade}-{decade + 9}" for decade in decades]
    caption = (
        "Mean weight of each scale, named by the dilation rate of its last convolution, by decade of the "
        f"true age, none below {MIN_FACES} faces (n = {int(scales.iloc[0]):,}). Dashed: equal weights."
    )
    drawing = plots.scale_weights(names, modules, int(scales.iloc[0]))
    return report.draw("scale_weights", drawing, caption)
