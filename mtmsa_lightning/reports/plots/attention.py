"""Plots of the attention modules."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtmsa_lightning.reports.plots import style

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

AMPLIFIED, DAMPED = "#E69F00", "#0072B2"
"""Colours of attention gates above and below 0, here and on the page of `mtmsa app`."""

FAINTEST_SCALE = 0.1
"""Smallest absolute gate with the deepest colour: changes of features below 10 % look faint."""


@style.styled
def attention_maps(
    faces: Sequence[NDArray[np.uint8]], maps: Mapping[str, NDArray[np.floating[Any]]], titles: Sequence[str]
) -> "Figure":
    """Plot the gates of the attention modules over faces: above 0 amplifies a place, below 0 damps it.

    The F faces are RGB, ``(height, width, 3)``; maps are gates averaged over channels, ``(F, h, w)``, by the
    name of the module, such as ``stage 2``. All maps share one scale (:func:`gate_scale`).
    """
    side = (2 * style.COLUMN - 0.9) / max(len(faces), 4)
    figure = style.new_figure(2 * style.COLUMN, side * (1 + len(maps)) + 0.35)
    scale, colours = gate_scale(maps.values()), _gate_colours()
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)  # type: ignore[union-attr, call-arg]
    grid = figure.subplots(1 + len(maps), len(faces), squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    for axes, face, title in zip(grid[0], faces, titles, strict=True):
        axes.imshow(face)
        axes.set_title(title)
    for row, (name, gates) in zip(grid[1:], maps.items(), strict=True):
        for axes, face, gate in zip(row, faces, gates, strict=True):
            height, width = face.shape[:2]
            axes.imshow(face.mean(axis=2), cmap="gray", vmin=0, vmax=255)
            image = axes.imshow(
                gate, cmap=colours, vmin=-scale, vmax=scale, interpolation="bilinear",
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            )  # fmt: skip
        row[0].set_ylabel(f"{name}\nlargest {largest_gate(gates)}")
    if maps:
        figure.colorbar(image, ax=grid, label="gate", shrink=0.6, pad=0.01)
    return figure


def gate_scale(maps: Iterable[NDArray[np.floating[Any]]]) -> float:
    """Return the absolute gate with the deepest colour: the largest of all maps, at least 0.1."""
    return max([FAINTEST_SCALE, *(float(np.abs(gates).max()) for gates in maps)])


def largest_gate(gates: NDArray[np.floating[Any]]) -> str:
    """Return the gate with the largest absolute value, with its sign and two digits."""
    flat = np.ravel(gates)
    return f"{flat[np.abs(flat).argmax()]:+.2g}"


def _gate_colours() -> "Colormap":
    """Return the colours of gates, transparent at 0 so that the face stays visible."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    ends = [to_rgba(DAMPED, 0.75), to_rgba(DAMPED, 0), to_rgba(AMPLIFIED, 0), to_rgba(AMPLIFIED, 0.75)]
    return LinearSegmentedColormap.from_list("gates", [*zip((0, 0.5, 0.5, 1), ends, strict=True)])


@style.styled
def scale_weights(
    decades: Sequence[str], weights: Mapping[str, Mapping[str, ArrayLike]], faces: int
) -> "Figure":
    """Plot the mean weight (0 to 1, one per decade) of every dilation rate, by module and by rate."""
    figure = style.new_figure(2 * style.COLUMN if len(weights) > 1 else style.COLUMN, 2.6)
    panels = figure.subplots(1, max(len(weights), 1), sharey=True, squeeze=False)[0]
    at = np.arange(len(decades))
    for axes, (module, by_rate) in zip(panels, weights.items(), strict=False):
        axes.axhline(100 / len(by_rate), color=style.GREY, linewidth=0.8, linestyle="--")
        for (rate, values), colour, marker in zip(by_rate.items(), style.SERIES, style.MARKERS, strict=False):
            axes.plot(at, 100 * np.asarray(values, float), color=colour, marker=marker, label=rate)
        style.name_columns(axes, decades, turned=True)
        axes.set(xlabel="true age (years)", title=module)
    panels[0].set_ylabel("mean weight (%)")
    style.legend(figure, panels[-1])
    style.write_count(panels[0], faces)
    return figure
