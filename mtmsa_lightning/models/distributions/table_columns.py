"""Reading and writing of distributions of age as columns of a table."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mtmsa_lightning.models.distributions.base import AgeDistribution, printed_age
from mtmsa_lightning.models.distributions.calibrated import CalibratedAge
from mtmsa_lightning.models.distributions.categorical import CategoricalAge
from mtmsa_lightning.models.distributions.gaussian import GaussianAge
from mtmsa_lightning.models.distributions.laplace import LaplaceAge
from mtmsa_lightning.models.distributions.mixture import MixtureAge
from mtmsa_lightning.models.distributions.point import PointAge

UNCLIPPED = "_unclipped"
"""Suffix of the columns of ages that are not clipped at 0."""

_YEAR = "age_p_"
_PRINTED = re.compile(r"age_(mean|(low|high)\d+)")
_PART = re.compile(r"age(\d+)_(.+)")
_COLUMN = re.compile(
    rf"age_(std|std_within|std_between|mixture_scale)|age\d*_(std|point|laplace_scale|p_\d+)"
    rf"|age\d+_mean|{_PRINTED.pattern}({UNCLIPPED})?"
)


def distribution_columns(names: Iterable[str]) -> list[str]:
    """Return the column names that :func:`distribution_from_columns` reads, in their order."""
    return [name for name in names if _COLUMN.fullmatch(name)]


def printed_columns(columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the columns of a distribution with ages clipped at 0, see :func:`.printed_age`.

    The column ``<name>_unclipped`` is added for each of them, which :func:`distribution_from_columns` reads.
    """
    ages = [name for name in columns if _PRINTED.fullmatch(name)]
    printed = {name: printed_age(columns[name]) for name in ages}
    return {**columns, **printed, **{f"{name}{UNCLIPPED}": columns[name] for name in ages}}


def distribution_from_columns(columns: Mapping[str, Tensor]) -> AgeDistribution:
    """Build a distribution from the columns of :meth:`AgeDistribution.columns`.

    Columns ``age_p_<year>`` give a :class:`CategoricalAge`, ``age_laplace_scale`` gives a
    :class:`LaplaceAge`, ``age_point`` gives a :class:`PointAge`, otherwise it is a :class:`GaussianAge`.
    Columns ``age1_...``, ``age2_...`` are the parts of a :class:`MixtureAge`, ``age_low<percent>`` and
    ``age_high<percent>`` the intervals. An ``_unclipped`` column replaces the clipped one.

    Args:
        columns: Column names to values, ``(N,)`` each; other columns are ignored.

    Raises:
        ValueError: If columns are missing or invalid.
    """
    whole = {n.removesuffix(UNCLIPPED): values for n, values in columns.items() if n.endswith(UNCLIPPED)}
    for name in whole.keys() & columns.keys():
        values, clipped = whole[name], columns[name].to(whole[name])
        if not printed_age(values).isclose(clipped, equal_nan=True).all():
            raise ValueError(
                f"{name} is not {name}{UNCLIPPED} clipped at 0: change both, or remove {name}{UNCLIPPED}"
            )
    columns = {**columns, **whole}
    spread = "age_point" if "age_point" in columns else "age_std"
    if missing := [name for name in ("age_mean", spread) if name not in columns]:
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
    if parts := _parts(columns):
        scale = float(columns["age_mixture_scale"][0]) if "age_mixture_scale" in columns else 1.0
        return MixtureAge([distribution_from_columns(part) for part in parts], scale)
    if "age_point" in columns:
        return PointAge(columns["age_point"])
    spread = "age_laplace_scale" if "age_laplace_scale" in columns else "age_std"
    if not (columns[spread] > 0).all():
        raise ValueError(f"{spread} must be positive in every row")
    family = GaussianAge if spread == "age_std" else LaplaceAge
    return family(columns["age_mean"], columns[spread])


def _parts(columns: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the columns of the parts of a mixture by their own names."""
    parts: dict[int, dict[str, Tensor]] = {}
    for name, values in columns.items():
        if match := _PART.fullmatch(name):
            parts.setdefault(int(match[1]), {})[f"age_{match[2]}"] = values
    return [parts[number] for number in sorted(parts)]


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
