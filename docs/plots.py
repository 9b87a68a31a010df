"""Draw the plots of the README: the architecture, and predictions on synthetic faces.

Usage: python docs/plots.py [RUN]    RUN: a run directory of `make demo`; the newest by default.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.transforms import Bbox

from mtmsa_lightning._utils.images import read_image
from mtmsa_lightning.data.datamodule import default_root

DOCS = Path(__file__).parent
BLUE, ORANGE, GREEN, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#555555",
)  # Okabe-Ito: safe for colour-blind eyes


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    shape = "round,pad=0.02,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, fc=colour + "22", ec=colour, lw=1.4))
    style = {"ha": "center", "va": "center", "fontsize": 8.5, "linespacing": 1.35}
    needs = axes.text(x + width / 2, y + height / 2, text, **style).get_window_extent()
    has = axes.transData.transform_bbox(Bbox.from_bounds(x, y, width, height))
    if needs.width > has.width - 4 or needs.height > has.height - 4:
        raise ValueError(f"{text!r} does not fit its box: make the box larger")


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = GREY) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, lw=1.2, color=colour))


def architecture(file: Path) -> None:
    """Draw the backbone with attention after stages 2 and 3, three heads, and the attention module."""
    figure, axes = plt.subplots(figsize=(14.2, 5.2))
    axes.set(xlim=(0, 14.2), ylim=(0, 5.2))
    axes.axis("off")
    parts = [("image\n224 x 224", GREY), ("stem\n56 x 56, 64", BLUE),
             ("stage 1\n56 x 56, 64", BLUE),
             ("stage 2\n28 x 28, 128", BLUE), ("MSA", ORANGE), ("stage 3\n14 x 14, 256", BLUE),
             ("MSA", ORANGE), ("stage 4\n7 x 7, 512", BLUE), ("mean", BLUE)]  # fmt: skip
    x = 0.15
    for text, colour in parts:
        width = 0.62 if text in ("MSA", "mean") else 1.22
        box(axes, x, 4.05, width, 0.75, text, colour)
        x += width + 0.2
        if text != "mean":
            arrow(axes, (x - 0.19, 4.42), (x - 0.01, 4.42))
    heads = [("age: N(mean, std²), years\nKL(Dirac || Gaussian)", 4.55),
             ("gender: logits\ncross-entropy", 3.75), ("race: logits\ncross-entropy", 2.95)]  # fmt: skip
    for text, y in heads:
        box(axes, 11.75, y - 0.25, 2.3, 0.58, text, GREEN)
        arrow(axes, (x - 0.19, 4.42), (11.73, y + 0.03))
    attention_inside(axes)
    axes.text(0.15, 5.0, "MSA-ResNet34: one backbone, three heads", fontsize=11, weight="bold")
    plt.rcParams["svg.hashsalt"] = "mtmsa"  # equal drawings give equal files
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def attention_inside(axes: Axes) -> None:
    frame = FancyBboxPatch((0.15, 0.2), 9.0, 2.75, boxstyle="round,pad=0.02", fc="none", ec=ORANGE, ls="--")
    axes.add_patch(frame)
    axes.text(0.3, 2.7, "multi-scale attention (MSA)", color=ORANGE, fontsize=10, weight="bold")
    box(axes, 0.35, 1.35, 0.45, 0.5, "x", GREY)
    box(axes, 1.1, 1.25, 0.95, 0.7, "1x1\nC to C/4", ORANGE)
    arrow(axes, (0.83, 1.6), (1.07, 1.6))
    previous = (2.08, 1.6)
    for number, rate in enumerate((1, 2, 5)):
        left = 2.4 + 1.2 * number
        box(axes, left, 1.25, 0.85, 0.7, f"3x3\nrate {rate}", ORANGE)
        arrow(axes, previous, (left - 0.03, 1.6))
        previous = (left + 0.88, 1.6)
        arrow(axes, (left + 0.42, 1.22), (5.95, 0.78), BLUE)
    box(axes, 6.0, 0.35, 1.3, 0.8, "softmax over\nscales, per\nchannel; sum", BLUE)
    box(axes, 6.0, 1.45, 1.3, 0.6, "1x1\nstarts at 0", ORANGE)
    arrow(axes, (6.65, 1.18), (6.65, 1.42))
    box(axes, 7.55, 1.45, 1.4, 0.6, "x (1 + tanh u)", GREEN)
    arrow(axes, (7.33, 1.75), (7.52, 1.75))
    axes.plot([0.57, 0.57, 8.25], [1.88, 2.4, 2.4], color=GREY, lw=1.2)
    arrow(axes, (8.25, 2.4), (8.25, 2.08))
    axes.text(
        3.9, 0.62, "receptive field 17 x 17,\nall positions covered", ha="center", fontsize=8, color=GREY
    )


def predictions(run: Path, file: Path, count: int = 12) -> None:
    """Draw test faces of the demo with true age, predicted age and 90 % interval."""
    faces = pd.read_parquet(run / "predictions" / "test.parquet").sort_values("label_age_low")
    shown = faces.iloc[np.linspace(0, len(faces) - 1, count).round().astype(int)]
    figure, grid = plt.subplots(2, count // 2, figsize=(11, 5))
    for axes, (_, face) in zip(grid.flat, shown.iterrows(), strict=True):
        axes.imshow(read_image(default_root("synthetic") / face["file"]))
        axes.axis("off")
        text = f"{face['age_mean']:.0f} ({face['age_low90']:.0f} to {face['age_high90']:.0f})"
        axes.set_title(f"true {face['label_age_low']:.0f}, predicted\n{text}", fontsize=9.5)
    figure.suptitle(
        "Synthetic test faces: predicted age with the central 90 % of the prediction", fontsize=11
    )
    figure.tight_layout()
    figure.savefig(file, dpi=75)
    plt.close(figure)


def main() -> None:
    architecture(DOCS / "architecture.svg")
    runs = [Path(name) for name in sys.argv[1:]] or sorted(
        file.parent.parent for file in Path("runs/demo").glob("*/predictions/test.parquet")
    )
    if not runs:
        raise SystemExit("no finished demo run under runs/demo: run `make demo` first")
    predictions(runs[-1], DOCS / "predictions.png")


if __name__ == "__main__":
    main()
