"""The files that ``mtmsa compare`` writes: tables, a page, and a plot of all models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pandas as pd

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.strict_json import csv_cell, to_json
from mtmsa_lightning.evaluation.comparison import Contender, plain_rows, short_names
from mtmsa_lightning.evaluation.models_by_group import models_by_group
from mtmsa_lightning.reports import comparison_text as text
from mtmsa_lightning.reports.html import Page, Picture
from mtmsa_lightning.reports.plots import style
from mtmsa_lightning.reports.plots.models import several_models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTION = (
    "Cumulative score, and metrics of all faces and of groups of one label with 95 % intervals, of every "
    "model on the same test faces. The intervals are those of each model alone: paired differences are more "
    "precise."
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A baseline, other models, the table of :func:`.evaluation.comparison.compare`, and how it was made."""

    baseline: Contender
    others: Sequence[Contender]
    table: pd.DataFrame
    draws: int
    seed: int

    @property
    def sides(self) -> list[Contender]:
        """The baseline and the others."""
        return [self.baseline, *self.others]

    def markdown(self) -> str:
        """Return the comparison as Markdown."""
        return text.markdown(self.baseline, self.others, self.table, self.draws)

    def write(self, file: Path) -> None:
        """Write one file in the format of its suffix, one of ``ENDINGS`` of the command."""
        texts: dict[str, Callable[[], str]] = {
            ".json": self._json, ".csv": self._csv, ".md": self.markdown,
            ".tex": lambda: text.latex(self.baseline, self.others, self.table, self.draws),
        }  # fmt: skip
        if file.suffix in texts:
            write_text(file, texts[file.suffix]())
        elif file.suffix == ".html":
            self._page().write(file)
        else:
            style.save_as(self._plot(), file, CAPTION)

    def _plot(self) -> "Figure":
        models = zip(models_by_group(self.sides), short_names(self.sides), strict=True)
        return several_models([model._replace(name=name) for model, name in models])

    def _json(self) -> str:
        sides = [text.provenance(side) for side in self.sides]
        record = {
            "baseline": sides[0], "others": sides[1:], "draws": self.draws, "seed": self.seed,
            "comparisons": plain_rows(self.table),
        }  # fmt: skip
        return to_json(record, indent=2) + "\n"

    def _csv(self) -> str:
        fingerprint = text.provenance(self.baseline)["test_fingerprint"]
        quoted = self.table.assign(baseline_run=self.baseline.name, test_fingerprint=fingerprint)
        csv: str = quoted.assign(recorded=to_json(self.baseline.record)).map(csv_cell).to_csv(index=False)
        return csv

    def _page(self) -> Page:
        page = Page(f"Compared with {self.baseline.name}")
        for side in self.sides:
            page.text(text.quoted(text.provenance(side)))
        page.section("All models")
        with TemporaryDirectory() as folder:
            page.row([Picture(style.save(self._plot(), Path(folder), "models").read_bytes(), CAPTION)])
        for name, rows in self.table.groupby("run", sort=False):
            page.section(str(name))
            cells = [text.cells(row) for row in rows.to_dict("records")]
            page.table(pd.DataFrame(cells, columns=text.HEADS))
        page.text(text.method(self.table, self.draws))
        return page
