"""The report of a set of predictions: one page, its figures and tables, and the predictions themselves."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mtmsa_lightning.evaluation.attention import Attention

Images = Callable[[str], NDArray[np.uint8]]
"""The face of an id as the network sees it, RGB, ``(height, width, 3)``."""


@dataclass(frozen=True)
class ReportContext:
    """What figures must be quoted with; plain values.

    Attributes:
        title: Title of the page, such as the name of the experiment.
        data: The test data as ``FaceDataModule.provenance()`` gives it. For predictions of several folds
            ``fold`` is a text that lists them, and ``fingerprints["test"]`` belongs to all of their faces.
        checkpoint: Which checkpoint predicted, or which ones.
        trained_on: The checkpoint's own provenance; None where it has none.
        seed: Seed of the run (``seed_everything``), or a text that lists several.
        versions: Versions of the packages.
        command: The command line that made the report.
        calibration: What the checkpoint holds of a calibration; None for one that is not calibrated.
        notes: Further sentences that a reader needs.
    """

    title: str
    data: dict[str, Any]
    checkpoint: str
    trained_on: dict[str, Any] | None = None
    seed: int | str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    calibration: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


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
        The content of figures.json.
    """
    raise NotImplementedError
