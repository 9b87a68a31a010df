"""Gender and race."""

import numpy as np
import pandas as pd

from mtmsa_lightning.evaluation.proportions import wilson
from mtmsa_lightning.reports.html import Picture
from mtmsa_lightning.reports.plots import classes as class_plots
from mtmsa_lightning.reports.report_data import Material


def add_section(report: Material) -> None:
    """Add confusion matrices and reliability of the class heads."""
    if not report.classes:
        return
    report.page.section(" and ".join(report.classes).capitalize())
    for task in report.classes:
        known = report.classes[task]["reliability"] is not None
        reliability = [class_reliability(report, task)] if known else []
        report.page.row([class_confusion(report, task), *reliability])


def class_confusion(report: Material, task: str) -> Picture:
    """Plot the confusion matrix of a class head."""
    found = report.classes[task]
    report.write_confusion(task, found["confusion"], found["names"])
    caption = (
        f"{task.capitalize()}: prediction against label, in percent of the label's faces, with counts "
        f"(n = {report.labelled[task]:,}); labels of fewer than {report.min_faces} faces show counts only."
    )
    plot = class_plots.confusion(found["confusion"], found["names"], task, report.min_faces)
    return report.draw(f"confusion_{task}", plot, caption)


def class_reliability(report: Material, task: str) -> Picture:
    """Plot the reliability of a class head."""
    bins, error = report.classes[task]["reliability"], report.scalars[f"{task}_ece"]
    accuracy, faces = (np.array(bins[name], float) for name in ("accuracy", "faces"))
    low, high = wilson(np.nan_to_num(accuracy) * faces, faces)
    report.write_table(f"reliability_{task}", pd.DataFrame(bins).assign(accuracy_low=low, accuracy_high=high))
    plot = class_plots.class_reliability(
        np.array(bins["confidence"], float), np.array(bins["accuracy"], float), bins["faces"],
        np.nan if error is None else error, task,
    )  # fmt: skip
    caption = (
        f"Reliability of {task}: accuracy over the confidence of the predicted class, and how many faces "
        f"have that confidence (n = {report.labelled[task]:,})."
    )
    return report.draw(f"reliability_{task}", plot, caption)
