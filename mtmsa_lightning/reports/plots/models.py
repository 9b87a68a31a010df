"""A plot of several models."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtmsa_lightning.metrics.titles import METRIC_BY_NAME
from mtmsa_lightning.reports.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mtmsa_lightning.evaluation.models_by_group import ModelGroups


@style.styled
def several_models(models: "Sequence[ModelGroups]") -> "Figure":
    """Plot the cumulative scores of models and their metrics by group with 95 % intervals, in one figure.

    Of several models only what at least two of them have is plotted.
    """
    least = min(2, len(models))
    having = Counter(name for model in models for name in model.groups["metric"].unique())
    metrics = [name for name, count in having.items() if count >= least]
    curves = sum(model.cumulative_score is not None for model in models) >= least
    shown = [model.groups[model.groups["metric"].isin(metrics)] for model in models]
    names = list(dict.fromkeys(name for groups in shown for name in groups["group"]))
    panels = curves + len(metrics)
    height = max(2.4, 0.5 + (0.1 + 0.1 * len(models)) * len(names))
    figure = style.new_figure(0.6 + 2.2 * max(panels, 1), height)
    axes = figure.subplots(1, panels, squeeze=False)[0] if panels else []
    if curves:
        _cumulative_scores(axes[0], models)
    for number, metric in enumerate(metrics):
        _by_group(axes[curves + number], models, metric, names)
    if panels:
        style.legend(figure, *axes)
    return figure


def _cumulative_scores(axes: "Axes", models: "Sequence[ModelGroups]") -> None:
    for number, model in enumerate(models):
        if model.cumulative_score is not None:
            colour = style.SERIES[number % len(style.SERIES)]
            axes.plot(100 * model.cumulative_score, color=colour, label=model.name)
    axes.set(
        xlim=(0, None), ylim=(0, 100), xlabel="absolute error n (years)", ylabel="faces with error ≤ n (%)"
    )


def _by_group(axes: "Axes", models: "Sequence[ModelGroups]", metric: str, names: Sequence[str]) -> None:
    spec = METRIC_BY_NAME[metric]
    factor = 100 if spec.fraction else 1
    offsets = 0.18 * (np.arange(len(models)) - (len(models) - 1) / 2) / max(1, len(models) / 4)
    for number, model in enumerate(models):
        if metric not in set(model.groups["metric"]):
            continue
        rows = model.groups[model.groups["metric"] == metric].set_index("group").reindex(list(names))
        value, low, high = (factor * rows[name].to_numpy(float) for name in ("value", "low", "high"))
        bars = np.nan_to_num(np.stack([value - low, high - value]).clip(min=0))
        axes.errorbar(
            value, np.arange(len(names)) + offsets[number], xerr=bars, capsize=1.5, elinewidth=0.9,
            fmt=style.MARKERS[number % len(style.MARKERS)], markersize=3, label=model.name,
            color=style.SERIES[number % len(style.SERIES)],
        )  # fmt: skip
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=f"{spec.title} (%)" if spec.fraction else spec.title)
    axes.set_yticks(range(len(names)), names)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
