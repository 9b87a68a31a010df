"""Heat map of a cross-data matrix."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mtmsa_lightning.reports.plots import style
from mtmsa_lightning.reports.plots.classes import cell_text, cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style.styled
def matrix(table: pd.DataFrame) -> "Figure":
    """Plot the MAE of every network (rows) on every test part (columns).

    ``table`` is that of :func:`.evaluation.cross_data.matrix_table` with a column ``mark`` of texts.
    """
    models, data = (list(dict.fromkeys(table[name])) for name in ("model", "data"))
    at = {(row["model"], row["data"]): row for row in table.to_dict("records")}
    values = np.array([[at[model, name]["age_mae"] for name in data] for model in models], float)
    figure, axes = style.new_axes(2.2 + 1.1 * len(data), 0.9 + 0.5 * len(models))
    least, most = float(np.nanmin(values)), float(np.nanmax(values))
    span = most - least or 1.0
    image = cells(axes, values, least, least + span, "cividis_r")
    for (row, column), value in np.ndenumerate(values):
        cell = at[models[row], data[column]]
        if np.isnan(value):
            text = "refused" if cell["refused"] else "no exact age"
            axes.text(column, row, text, ha="center", va="center", color=style.GREY)
            continue
        ends = (
            "" if np.isnan(cell["age_mae_low"]) else f"\n{cell['age_mae_low']:.2f}-{cell['age_mae_high']:.2f}"
        )
        text = f"{value:.2f} {cell['mark']}".rstrip() + f"{ends}\nn = {cell['faces']:,.0f}"
        cell_text(axes, row, column, text, (value - least) / span)
    if most > least:
        figure.colorbar(image, ax=axes, label="age MAE (years)", pad=0.02)
    style.name_columns(axes, data, turned=max(map(len, data)) > 14)
    axes.set_yticks(range(len(models)), models)
    axes.set(xlabel="tested on", ylabel="network")
    return figure
