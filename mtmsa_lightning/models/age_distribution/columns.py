"""Reading distributions of age back from a table of predictions."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mtmsa_lightning.models.age_distribution.base import AgeDistribution
from mtmsa_lightning.models.age_distribution.calibrated import CalibratedAge
from mtmsa_lightning.models.age_distribution.categorical import CategoricalAge
from mtmsa_lightning.models.age_distribution.gaussian import GaussianAge
from mtmsa_lightning.models.age_distribution.laplace import LaplaceAge

_YEAR = "age_p_"


def distribution_columns(names: Iterable[str]) -> list[str]:
    """Return those names of columns that :func:`distribution_from_columns` reads, in their order."""
    return [name for name in names if re.fullmatch(r"age_(mean|std|laplace_scale|p_\d+|(low|high)\d+)", name)]


def distribution_from_columns(columns: Mapping[str, Tensor]) -> AgeDistribution:
    """Read a distribution back from a table that holds its :meth:`AgeDistribution.columns`.

    With ``age_p_<year>`` they make a :class:`CategoricalAge`, with ``age_laplace_scale`` a
    :class:`LaplaceAge`, else a :class:`GaussianAge`. Columns ``age_low<percent>`` and ``age_high<percent>``,
    where there are any, are its intervals.

    Args:
        columns: Column names to values, ``(N,)`` each; others are left alone.

    Raises:
        ValueError: If no distribution can be made of them.
    """
    missing = [name for name in ("age_mean", "age_std") if name not in columns]
    if missing:
        raise ValueError(f"no column {' and no column '.join(missing)}: no distribution of age can be read")
    age = _family(columns)
    percents = [match[1] for match in map(re.compile(r"age_low(\d+)").fullmatch, columns) if match]
    intervals = {
        int(percent) / 100: (columns[f"age_low{percent}"].double(), columns[f"age_high{percent}"].double())
        for percent in percents
    }
    return CalibratedAge(age, intervals) if intervals else age


def _family(columns: Mapping[str, Tensor]) -> AgeDistribution:
    if any(name.startswith(_YEAR) for name in columns):
        return _categorical(columns)
    spread = "age_laplace_scale" if "age_laplace_scale" in columns else "age_std"
    if not (columns[spread] > 0).all():
        raise ValueError(f"{spread} must be positive in every row")
    family = GaussianAge if spread == "age_std" else LaplaceAge
    return family(columns["age_mean"], columns[spread])


def _categorical(columns: Mapping[str, Tensor]) -> CategoricalAge:
    names = [name.removeprefix(_YEAR) for name in columns if name.startswith(_YEAR)]
    years = sorted(int(name) for name in names if name.isdecimal())
    if len(years) < len(names) or years != list(range(years[0], years[-1] + 1)):
        raise ValueError(f"columns {_YEAR}<year> must name each year of a range once, got {', '.join(names)}")
    pmf = torch.stack([columns[f"{_YEAR}{year}"] for year in years], dim=-1).double()
    total = pmf.sum(-1, keepdim=True)
    if not (pmf >= 0).all() or not ((total - 1).abs() < 1e-3).all():
        raise ValueError(f"the columns {_YEAR}<year> must hold probabilities that sum to 1 in every row")
    return CategoricalAge((pmf / total).log(), years[0])
