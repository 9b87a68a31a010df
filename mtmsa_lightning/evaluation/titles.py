"""What figures are called, and how they are written."""

from mtmsa_lightning.metrics.suite import FIGURES

FIGURE = {figure.name: figure for figure in FIGURES}
"""The figures of the suite by name."""


def title(name: str) -> str:
    """Return what a figure is called in tables; its name if the suite does not know it."""
    return FIGURE[name].title if name in FIGURE else name


def format_figure(name: str, value: float) -> str:
    """Format a figure: shares in percent, everything else with two decimals."""
    return f"{100 * value:.1f} %" if _is_share(name) else f"{value:.2f}"


def format_difference(name: str, value: float) -> str:
    """Format the difference of two figures with its sign; shares in percentage points."""
    return f"{100 * value:+.1f}" if _is_share(name) else f"{value:+.2f}"


def _is_share(name: str) -> bool:
    return name in FIGURE and FIGURE[name].share
