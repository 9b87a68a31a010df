"""Where the attention modules look, and which dilation rates matter."""

from typing import TYPE_CHECKING

import pandas as pd

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.reports.html import Picture
from mtmsa_lightning.reports.plots import attention as attention_plots
from mtmsa_lightning.reports.report_data import Material

if TYPE_CHECKING:
    from mtmsa_lightning.evaluation.attention import Attention


def add_section(report: Material, attention: "Attention", photos: bool) -> None:
    """Add the gates of the attention modules over faces, if ``photos``, and the weights of dilation rates."""
    report.page.section("Multi-scale attention")
    if photos:
        plot = attention_plots.attention_maps(
            attention.faces,
            {f"stage {stage}": gates for stage, gates in attention.maps.items()},
            [pluralize(age, "year") for age in attention.ages],
        )
        caption = (
            "Where the attention modules amplify (orange, above 0) and damp (blue, below 0) the features: "
            "the gate, averaged over channels, over faces of different ages. A gate of 1 doubles a feature, "
            "-1 removes it; all maps share one scale, on which a gate far below 0.1 is invisible."
        )
        with report.page.private():
            report.page.row([report.draw("attention_maps", plot, caption)])
    report.write_table("scale_weights", attention.weights)
    if (weights := attention.weights.dropna()).empty:
        report.page.text(f"No age decade has {report.min_faces} faces: mean weights of scales are not shown.")
        return
    report.page.row([scale_weights(report, weights)])


def scale_weights(report: Material, weights: pd.DataFrame) -> Picture:
    """Plot the mean weights of the scales by decade."""
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
        f"true age, none below {report.min_faces} faces (n = {int(scales.iloc[0]):,}). Dashed: equal weights."
    )
    plot = attention_plots.scale_weights(names, modules, int(scales.iloc[0]))
    return report.draw("scale_weights", plot, caption)
