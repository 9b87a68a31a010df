"""What a paper quotes, what it must be quoted with, and all metrics."""

import pandas as pd

from mtmsa_lightning._utils.strict_json import csv_cell
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.metrics.suite import METRICS
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_metric
from mtmsa_lightning.reports.report_data import Material


def add_headline(report: Material) -> None:
    """Add the metrics that a paper quotes."""
    report.page.section("Headline")
    if report.context.partial:
        report.page.text(f"These metrics are {report.context.partial}.", "warning")
    report.page.table(report.metric_table(spec for spec in METRICS if spec.headline))
    for task, found in report.classes.items():
        if found["masked"]:
            masked = ", ".join(
                f"{name} ({pluralize(faces, 'face')})" for name, faces in found["masked"].items()
            )
            what = "the predictions lack" if report.context.predictions else "the checkpoint lacks"
            report.page.text(f"Not counted for {task}, as {what} them: {masked}.", "warning")
    if left_out := report.predictions.left_out():
        report.page.text(
            "Left out, because the predictions have no distribution of age, no interval of the level or no "
            f"probabilities of classes: {', '.join(spec.title for spec in left_out)}."
        )


def add_sources(report: Material) -> None:
    """Add the headline metrics of every source of a mixture, beside those of all faces."""
    sources = report.context.sources
    if not sources:
        return
    columns = {"all": report.scalars} | sources
    shown = [spec for spec in METRICS if any(spec.name in values for values in sources.values())]
    rows = [
        (spec.title, *(format_metric(spec.name, values.get(spec.name)) for values in columns.values()))
        for spec in shown
        if spec.headline
    ]
    report.page.section("Sources")
    report.page.table(pd.DataFrame(rows, columns=["metric", *columns]))
    every = [(spec.name, *(csv_cell(values.get(spec.name)) for values in columns.values())) for spec in shown]
    report.write_table("sources", pd.DataFrame(every, columns=["name", *columns]))
    report.page.text("Classes that a source lacks are not predicted for its faces in its own metrics.")


def add_quotes(report: Material) -> None:
    """Add what the metrics must be quoted with."""
    page, data = report.page, report.context.data
    page.section("To be quoted with these metrics")
    rows = pd.DataFrame(report.context.quotes().items(), columns=["what", "value"])
    page.table(rows)
    report.write_table("quoted_with", rows)
    if fraction := data.get("subjects_in_two_parts"):
        page.text(f"{100 * fraction:.1f} % of the test images show a subject that was trained on.", "warning")
    missing = (data.get("faces") or {}).get("test", 0) - len(report.predictions)
    if missing > 0 and not report.context.partial:
        page.text(f"Unreadable or skipped: {pluralize(missing, 'face')} of the test part.", "warning")
    for note in report.context.notes:
        page.text(note)


def add_all_metrics(report: Material) -> None:
    """Add every scalar metric, and where to find the rest."""
    report.page.section("All metrics")
    report.page.table(report.metric_table(METRICS))
    rows = [
        (name, csv_cell(value), *report.interval_of(name), report.labelled[METRIC_BY_NAME[name].needs])
        for name, value in report.scalars.items()
    ]
    report.write_table("metrics", pd.DataFrame(rows, columns=["name", "value", "low95", "high95", "faces"]))
    report.page.text(
        "Beside this page: plots/ (SVG and PNG), tables/ (CSV), metrics.json, and predictions.parquet and "
        "predictions.csv with one row per face, from which every metric can be recomputed."
    )
