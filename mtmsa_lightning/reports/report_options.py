"""What a user chooses for a report."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtmsa_lightning.settings.defaults import CELL_AGES, LEGAL_AGES, MIN_FACES


@dataclass(frozen=True)
class ReportOptions:
    """What a user chooses for a report.

    Attributes:
        min_faces: Least number of faces of a group for metrics of its own.
        paper: Write plots as PDF and the tables of the page as LaTeX too.
        legal_ages: Ages in completed years at which decisions are evaluated.
        cell_ages: First and last age of the mean over cells of sex and age.
    """

    min_faces: int = MIN_FACES
    paper: bool = False
    legal_ages: Sequence[int] = LEGAL_AGES
    cell_ages: tuple[int, int] = CELL_AGES


DEFAULT_OPTIONS = ReportOptions()
