"""The report of a set of predictions: one page, its figures and tables, and the predictions themselves."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtmsa_lightning.callbacks.predictions import SUFFIXES, write_table
from mtmsa_lightning.evaluation import plots
from mtmsa_lightning.evaluation.context import ReportContext
from mtmsa_lightning.evaluation.faces import faces_to_look_at
from mtmsa_lightning.evaluation.figures import figures
from mtmsa_lightning.evaluation.groups import group_confusion, group_names
from mtmsa_lightning.evaluation.predictions import Predictions, read_predictions
from mtmsa_lightning.evaluation.subgroups import Subgroups, subgroups
from mtmsa_lightning.labels import GENDERS, RACES
from mtmsa_lightning.metrics.age import MIN_FACES
from mtmsa_lightning.metrics.suite import FIGURES, LEVELS, Figure
from mtmsa_lightning.pages import Page, Picture
from mtmsa_lightning.runs import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from mtmsa_lightning.evaluation.attention import Attention

Images = Callable[[str], NDArray[np.uint8]]
"""The face of an id as the network sees it, RGB, ``(height, width, 3)``."""


def write_report(
    predictions: pd.DataFrame,
    folder: Path,
    context: ReportContext,
    images: Images | None = None,
    attention: "Attention | None" = None,
) -> dict[str, Any]:
    """Write report.html, figures/, tables/, figures.json, predictions.parquet and predictions.csv.

    Args:
        predictions: One row per face, as ``PredictionWriter`` writes them.
        folder: Where to; files of the same names are replaced.
        context: What the figures must be quoted with.
        images: Gives faces for the tiles; None leaves photos out.
        attention: What the attention modules do; None leaves the section out.

    Returns:
        The content of figures.json: ``quoted_with``, and what ``figures`` returns.

    Raises:
        DataError: If the table has no predictions or no labels.
    """
    typed = read_predictions(predictions)
    for suffix in SUFFIXES:
        write_table(predictions, folder / f"predictions{suffix}")
    found = {"quoted_with": context.quotes()} | figures(typed)
    write_text(folder / "figures.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
    _Report(typed, found, folder, context).write(images, attention)
    return found


class _Report:
    """A report in the making; its methods are the sections of the page.

    A section draws its figures, writes its tables and adds both to the page; without labels behind it, it
    adds nothing.
    """

    def __init__(
        self, predictions: Predictions, found: dict[str, Any], folder: Path, context: ReportContext
    ) -> None:
        self.predictions = predictions
        self.folder = folder
        self.context = context
        self.labelled: dict[str, int] = found["labelled"]
        self.scalars: dict[str, float | None] = found["scalars"]
        self.curves: dict[str, Any] = found["curves"]
        self.classes: dict[str, Any] = found["classes"]
        aged = predictions.age is not None and self.labelled["age"]
        self.subgroups = subgroups(predictions) if aged else None
        data = context.data
        where = f"{data['dataset']}, protocol {data['protocol']}, fold {data['fold']}, {data['label_rule']}"
        self.page = Page(f"{context.title}: evaluation", f"{where}: {len(predictions):,} faces")

    def write(self, images: Images | None, attention: "Attention | None") -> None:
        """Write the page with all sections."""
        self._headline()
        self._quotes()
        self._age()
        self._uncertainty()
        self._classes()
        self._subgroups()
        self._faces(images)
        if attention is not None:
            self._attention(attention, photos=images is not None)
        self._all_figures()
        self.page.write(self.folder / "report.html")

    # -------------------------------------------------------------------- sections

    def _headline(self) -> None:
        self.page.section("Headline")
        self.page.table(self._figures(figure for figure in FIGURES if figure.headline))
        for task, found in self.classes.items():
            if found["masked"]:
                masked = ", ".join(f"{name} ({faces:,} faces)" for name, faces in found["masked"].items())
                self.page.text(f"Not counted for {task}, as the checkpoint lacks them: {masked}.", "warning")

    def _quotes(self) -> None:
        self.page.section("To be quoted with these figures")
        quotes = pd.DataFrame(self.context.quotes().items(), columns=["what", "value"])
        self.page.table(quotes)
        self._write_table("quoted_with", quotes)
        data = self.context.data
        if share := data.get("subjects_in_two_parts"):
            self.page.text(f"{share:.1%} of the test images show a subject that was trained on.", "warning")
        missing = (data.get("faces") or {}).get("test", 0) - len(self.predictions)
        if missing > 0:
            self.page.text(
                f"{missing:,} faces of the test part could not be read or were left out.", "warning"
            )
        for note in self.context.notes:
            self.page.text(note, "warning")

    def _age(self) -> None:
        if self.predictions.age is None or self.subgroups is None:
            return
        self.page.section("Age")
        faces = self.labelled["exact"]
        pictures = []
        if faces:
            curve = self.curves["cumulative_score"]
            pictures.append(
                self._draw(
                    "cumulative_score", plots.cumulative_score(curve["years"], curve["share"], faces),
                    f"Cumulative score: share of faces whose error is at most n years (n = {faces:,}).",
                )
            )  # fmt: skip
            self._write_table("cumulative_score", pd.DataFrame(curve))
            exact = (self.predictions.age_low == self.predictions.age_high).numpy()
            drawing = plots.predicted_against_true(
                self.predictions.age_low.numpy()[exact], self.predictions.age.mean.numpy()[exact]
            )
            caption = (
                f"Predicted against true age: counts in hexagons, on a logarithmic scale (n = {faces:,})."
            )
            pictures.append(self._draw("predicted_against_true", drawing, caption))
            pictures.append(self._error_by_age(self.subgroups.table))
        pictures.append(self._group_confusion())
        self.page.row(pictures)

    def _error_by_age(self, groups: pd.DataFrame) -> Picture:
        rows = groups[groups["by"] == "age"]
        names = {"names": "age", "counts": "faces", "mae": "age_mae", "bias": "age_bias"}
        names |= {"low": "age_mae_low", "high": "age_mae_high"}
        self._write_table("error_by_age", rows[list(names.values())])
        errors = plots.ErrorByAge(**{name: rows[column].tolist() for name, column in names.items()})
        caption = (
            "Mean absolute error by decade of the true age, with 95 % bootstrap intervals over subjects, and "
            f"bias (prediction minus age); none below {MIN_FACES} faces (n = {int(rows['faces'].sum()):,})."
        )
        return self._draw("error_by_age", plots.error_by_age(errors), caption)

    def _group_confusion(self) -> Picture:
        matrix, names = group_confusion(self.predictions).numpy(), group_names(self.predictions)
        self._write_confusion("age_groups", matrix, names)
        return self._draw(
            "confusion_age_groups", plots.confusion(matrix, names, "age group (years)"),
            "Age groups: the likeliest group against that of the label, in percent of the label's faces, "
            f"with counts (n = {int(matrix.sum()):,}). Groups are decided in gapless cells.",
        )  # fmt: skip

    def _uncertainty(self) -> None:
        if self.predictions.age is None or not self.labelled["age"]:
            return
        self.page.section("Uncertainty of age")
        faces = self.labelled["age"]
        coverage = self.curves["interval_coverage"]
        self._write_table("interval_coverage", pd.DataFrame(coverage))
        pictures = [
            self._draw(
                "interval_coverage",
                plots.interval_coverage({"predictions": (coverage["level"], coverage["coverage"])}, faces),
                "Reliability of age: how often the label lies in central prediction intervals, over their "
                f"nominal coverage (n = {faces:,}). Below the diagonal, intervals are too narrow.",
            )
        ]
        if risk := self.curves.get("risk_coverage"):
            drawing = plots.risk_coverage(
                risk["coverage"], risk["risk"], self.labelled["exact"], "MAE of the faces kept (years)"
            )
            caption = (
                "Risk and coverage: the error of the faces that are kept when those with the largest "
                f"predicted standard deviation are left undecided (n = {self.labelled['exact']:,})."
            )
            pictures.append(self._draw("risk_coverage", drawing, caption))
            self._write_table("risk_coverage", pd.DataFrame(risk))
        self.page.row(pictures)
        levels = [
            {
                "interval": f"{level} %",
                "coverage": _percent(self.scalars[f"age_coverage{level}"]),
                "mean width (years)": _decimals(self.scalars[f"age_width{level}"]),
            }
            for level in LEVELS
        ]
        self.page.table(
            pd.DataFrame(levels), f"Central intervals of the predicted distributions (n = {faces:,})"
        )

    def _classes(self) -> None:
        if not self.classes:
            return
        self.page.section(" and ".join(self.classes).capitalize())
        pictures = []
        for task, found in self.classes.items():
            faces = self.labelled[task]
            matrix = np.array(found["confusion"])
            self._write_confusion(task, matrix, found["names"])
            drawing = plots.confusion(matrix, found["names"], task)
            caption = (
                f"{task.capitalize()}: prediction against label, in percent of the label's faces, with counts"
            )
            pictures.append(self._draw(f"confusion_{task}", drawing, f"{caption} (n = {faces:,})."))
            bins = found["reliability"]
            self._write_table(f"reliability_{task}", pd.DataFrame(bins))
            confidence, accuracy = (np.array(bins[name], dtype=float) for name in ("confidence", "accuracy"))
            error = self.scalars[f"{task}_ece"]
            drawing = plots.class_reliability(
                confidence, accuracy, bins["faces"], np.nan if error is None else error, task
            )
            caption = f"Reliability of {task}: accuracy over the confidence of the predicted class"
            pictures.append(self._draw(f"reliability_{task}", drawing, f"{caption} (n = {faces:,})."))
        self.page.row(pictures)

    def _subgroups(self) -> None:
        if self.subgroups is None:
            return
        self.page.section("Subgroups")
        table, gaps = self.subgroups
        self._write_table("subgroups", table)
        self._write_table("subgroup_gaps", gaps)
        name = "age_mae" if self.labelled["exact"] else "group_acc"
        shown = next(figure for figure in FIGURES if figure.name == name)
        self.page.picture(self._subgroup_map(table, shown))
        gaps = gaps[gaps["figure"] == name]
        if gaps.empty:
            self.page.text(f"No two groups have {MIN_FACES} faces or more: there is no gap to show.")
            return
        rows = [
            {
                "groups by": gap.by,
                "gap": f"{_value(shown, gap.gap)}",
                "95 % interval": _interval(shown, gap.gap_low, gap.gap_high),
                "highest": f"{gap.highest}: {_value(shown, gap.highest_value)} ({gap.highest_faces:,} faces)",
                "lowest": f"{gap.lowest}: {_value(shown, gap.lowest_value)} ({gap.lowest_faces:,} faces)",
            }
            for gap in gaps.itertuples()
        ]
        caption = f"{shown.title}: largest gaps between groups of at least {MIN_FACES} faces"
        self.page.table(pd.DataFrame(rows), caption)

    def _subgroup_map(self, table: pd.DataFrame, shown: Figure) -> Picture:
        finest = table[table["by"] == table["by"].iloc[-1]]
        ages = sorted(finest["age"].unique(), key=lambda name: int(name.partition("-")[0]))
        people = [
            (gender, race)
            for gender in (*GENDERS, "")
            for race in (*RACES, "")
            if ((finest["gender"] == gender) & (finest["race"] == race)).any()
        ]
        cells = finest.set_index(["gender", "race", "age"])
        places = [[(*who, age) for age in ages] for who in people]
        scale = 100 if shown.share else 1
        values, counts = (
            [[cells[column].get(place, missing) for place in row] for row in places]
            for column, missing in ((shown.name, np.nan), ("faces", 0))
        )
        names = [", ".join(filter(None, who)) or "all" for who in people]
        title = f"{shown.title} (%)" if shown.share else shown.title
        drawing = plots.subgroup_map(scale * np.array(values, float), counts, names, ages, title)
        caption = (
            f"{title} by labelled gender, race and age, with the number of faces in brackets (n = "
            f"{int(finest['faces'].sum()):,}); groups of fewer than {MIN_FACES} faces show their number only."
        )
        return self._draw("subgroups", drawing, caption)

    def _faces(self, images: Images | None) -> None:
        chosen = faces_to_look_at(self.predictions)
        if not chosen:
            return
        self._write_table("faces", pd.concat(chosen, names=["kind"]).reset_index("kind"))
        self.page.section("Faces to look at")
        if images is not None:
            self.page.text(
                "This page shows photos of people. The terms of their dataset may forbid to pass them on: "
                "`mtmsa evaluate --faces false` writes a page without photos.",
                "warning",
            )
        for kind, faces in chosen.items():
            if faces.empty:
                continue
            self.page.text(f"{kind.capitalize()}: true age, prediction and its central 90 % in years")
            says = [
                f"true {face.label}, predicted {face.prediction:.1f} ({face.low90:.0f} to {face.high90:.0f})"
                for face in faces.itertuples()
            ]
            if images is None:
                self.page.table(pd.DataFrame({"id": faces["id"], "age": says}))
            else:
                pairs = zip(faces["id"], says, strict=True)
                self.page.tiles([Picture(_jpeg(images(name)), f"{text}; {name}") for name, text in pairs])

    def _attention(self, attention: "Attention", photos: bool) -> None:
        self.page.section("Multi-scale attention")
        weights = attention.weights
        self._write_table("scale_weights", weights)
        if photos:
            drawing = plots.attention_maps(
                attention.faces,
                {f"stage {stage}": gates for stage, gates in attention.maps.items()},
                [f"{age:g} years" for age in attention.ages],
            )
            caption = (
                "Where the attention modules amplify (orange, above 0) and damp (purple, below 0) the "
                "features: the gate, averaged over channels, over faces of different ages."
            )
            self.page.picture(self._draw("attention_maps", drawing, caption))
        decades = sorted(weights["decade"].unique())
        modules = {
            f"stage {stage}": {
                f"rate {rate}": rows.set_index("decade")["weight"].reindex(decades).to_numpy()
                for rate, rows in of_stage.groupby("rate")
            }
            for stage, of_stage in weights.groupby("stage")
        }
        one = weights[
            (weights["stage"] == weights["stage"].min()) & (weights["rate"] == weights["rate"].min())
        ]
        faces = int(one["faces"].sum())
        drawing = plots.scale_weights([decade_text(decade) for decade in decades], modules, faces)
        caption = (
            "Mean weight of each scale, named by the dilation rate of its last convolution, by decade of "
            f"the true age (n = {faces:,}). Dashed: equal weights."
        )
        self.page.picture(self._draw("scale_weights", drawing, caption))

    def _all_figures(self) -> None:
        self.page.section("All figures")
        self.page.table(self._figures(FIGURES))
        rows = [
            (figure.name, self.scalars[figure.name], *self._interval_of(figure.name), self.labelled[figure.needs])
            for figure in FIGURES
            if figure.name in self.scalars
        ]
        self._write_table("figures", pd.DataFrame(rows, columns=["name", "value", "low95", "high95", "faces"]))
        self.page.text(
            "Beside this page: figures/ (SVG and PNG), tables/ (CSV), figures.json, and predictions.parquet "
            "and predictions.csv with one row per face, from which every figure can be computed again."
        )

    # -------------------------------------------------------------------- parts

    def _figures(self, shown: Iterable[Figure]) -> pd.DataFrame:
        there = [figure for figure in shown if figure.name in self.scalars]
        rows = [
            {
                "figure": figure.title,
                "value": _value(figure, self.scalars[figure.name]),
                "95 % interval": _interval(figure, *self._interval_of(figure.name)),
                "faces": f"{self.labelled[figure.needs]:,}",
            }
            for figure in there
        ]
        return pd.DataFrame(rows)

    def _interval_of(self, name: str) -> tuple[float, float]:
        """Return the bootstrap interval of a figure over all faces; NaN where there is none."""
        if self.subgroups is None or f"{name}_low" not in self.subgroups.table:
            return np.nan, np.nan
        everyone = self.subgroups.table.iloc[0]
        return float(everyone[f"{name}_low"]), float(everyone[f"{name}_high"])

    def _draw(self, name: str, drawing: "Drawing", caption: str) -> Picture:
        return Picture(plots.save(drawing, self.folder / "figures", name, caption).read_bytes(), caption)

    def _write_table(self, name: str, table: pd.DataFrame) -> None:
        write_table(table, self.folder / "tables" / f"{name}.csv")

    def _write_confusion(self, name: str, matrix: NDArray[Any], classes: Iterable[str]) -> None:
        classes = list(classes)
        table = pd.DataFrame(matrix, columns=[f"predicted {each}" for each in classes])
        table.insert(0, "label", classes)
        self._write_table(f"confusion_{name}", table)


def decade_text(decade: int) -> str:
    """Name the decade that begins with an age.

    >>> decade_text(20)
    '20-29'
    """
    return f"{decade}-{decade + 9}"


def _value(figure: Figure, value: float | None) -> str:
    return _percent(value) if figure.share else _decimals(value)


def _interval(figure: Figure, low: float, high: float) -> str:
    return "" if np.isnan(low) else f"{_value(figure, low)} to {_value(figure, high)}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _jpeg(face: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(face, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return encoded.tobytes()
