"""The common style of plots, and saving."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from mtmsa_lightning._utils.atomic_write import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.5  # width of one printed column in inches; two columns are twice as wide

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#767676",
)  # fmt: skip
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # markers of series, which differ in prints without colour too

STYLE: Any = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8, "figure.titlesize": 8, "font.family": "DejaVu Sans", "axes.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5, "axes.axisbelow": True, "lines.linewidth": 1.3, "lines.markersize": 4,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "legend.framealpha": 0.85, "legend.edgecolor": "none",
    "svg.hashsalt": "mtmsa", "pdf.fonttype": 42,
}  # fmt: skip

P = ParamSpec("P")


def styled(draw: "Callable[P, Figure]") -> "Callable[P, Figure]":
    """Make a function draw in ``STYLE`` without changing matplotlib's global settings."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def new_axes(width: float, height: float) -> "tuple[Figure, Axes]":
    """Return an empty figure of a size in inches with its only axes."""
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def legend(figure: "Figure", *axes: "Axes") -> None:
    """Put the legend of some axes below all axes, each name once; the figure grows by its height."""
    found: dict[Any, Any] = {}
    for each in axes:
        for handle, name in zip(*each.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    handles, names = [*found.values()], [*found]
    letters = 5 + max(map(len, names))  # including the handle
    columns = min(len(names), max(1, int(15 * figure.get_figwidth() // letters)))
    figure.set_figheight(figure.get_figheight() + 0.16 * -(-len(names) // columns))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, borderaxespad=0.1)


def save(figure: "Figure", folder: Path, name: str, title: str = "", more: Sequence[str] = ()) -> Path:
    """Write a figure as ``<name>.svg``, ``<name>.png`` and the formats in ``more``; return the SVG's path.

    Equal figures give the same SVG, byte for byte; ``title`` goes into the metadata of all files.
    """
    for kind in ("svg", "png", *more):
        save_as(figure, folder / f"{name}.{kind}", title)
    return folder / f"{name}.svg"


FORMATS = (".pdf", ".svg", ".png")
"""Suffixes of files that a figure may be written to."""


def save_as(figure: "Figure", file: Path, title: str = "") -> None:
    """Write a figure in the format of the file's suffix, PNG at 200 dpi, PDF and SVG with texts as texts."""
    import matplotlib

    kind = file.suffix.removeprefix(".")
    undated: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with matplotlib.rc_context(STYLE), replacing(file) as partial:
        figure.savefig(partial, format=kind, dpi=200, metadata={"Title": title, **undated})
        figure.set_layout_engine("none")  # keeps the layout, whose computation takes the most time


def name_columns(axes: "Axes", names: Sequence[str], turned: bool = False) -> None:
    """Label the positions 0, 1, ... of the horizontal axis."""
    style: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    axes.set_xticks(range(len(names)), names, **style)


def write_count(axes: "Axes", faces: int) -> None:
    """Write the number of faces above the figure's upper right corner."""
    axes.set_title(f"n = {faces:,}", loc="right", color=GREY)
