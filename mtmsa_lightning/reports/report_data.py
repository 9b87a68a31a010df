"""The data of a report's sections, and the page and folder that they fill."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mtmsa_lightning._utils.atomic_write import write_table
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.evaluation.predictions import Predictions
from mtmsa_lightning.evaluation.subgroups import Subgroups, subgroups
from mtmsa_lightning.metrics.suite import MetricSpec
from mtmsa_lightning.metrics.titles import format_interval, format_metric
from mtmsa_lightning.reports.html import Page, Picture
from mtmsa_lightning.reports.plots import style
from mtmsa_lightning.reports.report_context import ReportContext
from mtmsa_lightning.settings.defaults import MIN_FACES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Material:
    """Predictions with the result of ``compute_metrics``, and the page and folder that a report fills.

    Attributes:
        labelled: Number of faces by kind of label.
        scalars: Scalar metrics by name.
        curves: Curves by name.
        classes: Diagrams of the class heads by task.
        aged: Whether ages are predicted and labelled.
        subgroups: Every metric by group; None without labels of a predicted task.
        min_faces: Least number of faces of a group for metrics of its own.
        paper: Whether plots are written as PDF too.
        calibration: Calibration of the checkpoint, if any.
        units: Resampling units: subjects, or faces where no subject is known.
    """

    def __init__(
        self,
        predictions: Predictions,
        metrics: dict[str, Any],
        folder: Path,
        context: ReportContext,
        min_faces: int = MIN_FACES,
        paper: bool = False,
    ) -> None:
        self.predictions = predictions
        self.folder = folder
        self.context = context
        self.labelled: dict[str, int] = metrics["labelled"]
        self.scalars: dict[str, float] = metrics["scalars"]
        self.curves: dict[str, Any] = metrics["curves"]
        self.classes: dict[str, Any] = metrics["classes"]
        self.min_faces = min_faces
        self.paper = paper
        self.aged = predictions.age is not None and self.labelled["age"] > 0
        labelled = bool(self.aged or self.classes)
        self.subgroups: Subgroups | None = subgroups(predictions, min_faces) if labelled else None
        self.calibration = None if context.calibration is None else Calibration.from_dict(context.calibration)
        data = context.data
        where = f"{data['dataset']}, protocol {data['protocol']}, fold {data['fold']}, {data['label_rule']}"
        self.units = "subjects" if (predictions.subjects != "").any() else "faces"
        seen = context.partial or pluralize(len(predictions), "face")
        self.page = Page(f"{context.title}: evaluation", f"{where}: {seen}")

    def draw(self, name: str, plot: "Figure", caption: str) -> Picture:
        """Write a plot as ``plots/<name>`` (SVG, PNG and, for papers, PDF); return it as a picture."""
        more = ("pdf",) if self.paper else ()
        saved = style.save(plot, self.folder / "plots", name, caption, more)
        return Picture(saved.read_bytes(), caption)

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write ``tables/<name>.csv``, with all digits; ``partial`` marks a partial test."""
        if self.context.partial:
            table = table.assign(partial=self.context.partial)
        write_table(table, self.folder / "tables" / f"{name}.csv")

    def write_confusion(self, name: str, matrix: Any, classes: Iterable[str]) -> None:
        """Write a confusion matrix, labels in rows."""
        classes = list(classes)
        table = pd.DataFrame(np.asarray(matrix), columns=[f"predicted {each}" for each in classes])
        table.insert(0, "label", classes)
        self.write_table(f"confusion_{name}", table)

    def interval_of(self, name: str) -> tuple[float, float]:
        """Return the bootstrap interval of a metric over all faces; NaN where there is none."""
        if self.subgroups is None or f"{name}_low" not in self.subgroups.table:
            return np.nan, np.nan
        everyone = self.subgroups.table.iloc[0]
        return float(everyone[f"{name}_low"]), float(everyone[f"{name}_high"])

    def metric_table(self, shown: Iterable[MetricSpec]) -> pd.DataFrame:
        """Return metrics as a table of texts, each with its interval and number of faces."""
        rows = [
            (
                spec.title,
                format_metric(spec.name, self.scalars[spec.name]),
                format_interval(spec.name, *self.interval_of(spec.name)),
                f"{self.labelled[spec.needs]:,}",
            )
            for spec in shown
            if spec.name in self.scalars
        ]
        return pd.DataFrame(rows, columns=["metric", "value", "95 % interval", "faces"])
