"""The columns of a table of predictions of another program, by given, own or usual names."""

import logging
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.data.release_files import nearest
from mtmsa_lightning.data.tables.classes import GENDERS
from mtmsa_lightning.data.tables.columns import USUAL as USUAL_OF_FACES
from mtmsa_lightning.errors import DataError

log = logging.getLogger(__name__)

K = TypeVar("K")

_MADE = ("{}", "predicted_{}", "pred_{}", "{}_predicted", "{}_pred", "{}_prediction", "estimated_{}")

USUAL: dict[str, tuple[str, ...]] = {
    "id": ("face_id", "key"),
    "path": USUAL_OF_FACES["path"],
    "age": (
        *(made.format("age") for made in _MADE), "age_mean", "years", "prediction", "age_estimate",
        "age_median", "apparent_age",
    ),
    "std": ("age_std", "std_age", "sigma", "age_sigma", "stddev", "age_stddev", "age_sd"),
    "gender": (*(made.format("gender") for made in _MADE), "dominant_gender", "sex", "predicted_sex"),
    "race": (*(made.format("race") for made in _MADE), "dominant_race", "ethnicity", "predicted_ethnicity"),
}  # fmt: skip
"""Our names of columns and their usual names in the outputs of other programs."""

_QUANTILE = re.compile(r"(?:age_)?q(?:uantile)?_?(\d{1,2}(?:\.\d+)?|0?\.\d+)")
_INTERVAL_END = re.compile(r"age_(low|high)(\d{1,2})")
_YEAR = re.compile(r"(?:age_)?(?:p|prob|probability)_?(\d{1,3})")
_CLASS = re.compile(r"(gender|race)_(.+)")


class Columns(NamedTuple):
    """The table's own names of its columns.

    Attributes:
        single: By our names ``id``, ``path``, ``age``, ``std``, ``gender`` and ``race``.
        usual: Those of ``single`` that were found by a usual name.
        quantiles: By probability; the ends of a central interval are two of them.
        years: Probabilities by completed year of age.
        classes: Probabilities by task and class.
    """

    single: dict[str, str]
    usual: dict[str, str]
    quantiles: dict[float, str]
    years: dict[int, str]
    classes: dict[str, dict[str, str]]

    @property
    def used(self) -> list[str]:
        """Names of all used columns."""
        classes = [theirs for each in self.classes.values() for theirs in each.values()]
        return [
            *dict.fromkeys([*self.single.values(), *self.quantiles.values(), *self.years.values(), *classes])
        ]

    @property
    def predictions(self) -> list[str]:
        """Names of the used columns but those that name the face."""
        faces = {self.single.get("id"), self.single.get("path")}
        return [name for name in self.used if name not in faces]

    @property
    def predicts_age(self) -> bool:
        """Whether an age is predicted."""
        return "age" in self.single or bool(self.years) or 0.5 in self.quantiles

    @property
    def predicts_any(self) -> bool:
        """Whether anything is predicted."""
        return self.predicts_age or bool(self.classes) or bool({"gender", "race"} & self.single.keys())

    def without(self, names: Collection[str]) -> "Columns":
        """Return the columns but those of these names."""
        classes = {task: _kept(each, names) for task, each in self.classes.items()}
        return Columns(
            _kept(self.single, names), _kept(self.usual, names), _kept(self.quantiles, names),
            _kept(self.years, names), {task: each for task, each in classes.items() if each},
        )  # fmt: skip


def _kept(columns: Mapping[K, str], names: Collection[str]) -> dict[K, str]:
    return {ours: theirs for ours, theirs in columns.items() if theirs not in names}


def choose_columns(header: Sequence[str], given: Mapping[str, str | None], path: Path) -> Columns:
    """Choose the columns of a table of predictions.

    A column is found by its given name, else by its one usual name (without case, with blanks and ``-`` as
    ``_``). Besides the names of ``USUAL`` these are read: quantiles such as ``q05`` or ``age_q0.95``, ends of
    central intervals such as ``age_low90`` and ``age_high90``, probabilities of years such as ``age_p_30``,
    and of classes such as ``gender_male`` and ``race_white``.

    Args:
        header: Names of the table's columns.
        given: Our names to the table's own; None for a column that is not to be used.
        path: Path of the table, for messages.

    Raises:
        DataError: A given name is not ours or not in the header, several columns may hold one thing, or there
            is no column of ids and paths, or no prediction.
    """
    keys: dict[str, str] = {}
    for name in header:
        keys.setdefault(_key(name), name)
    for ours, theirs in given.items():
        if ours not in USUAL:
            raise DataError(
                f"--columns: unknown name {ours!r}{nearest(ours, USUAL)}; known: {', '.join(USUAL)}"
            )
        if theirs and _key(theirs) not in keys:
            raise DataError(
                f"{path}: no column {theirs!r}{nearest(theirs, header)}, named by --columns {ours}={theirs}; "
                f"the header has [{shown(header)}]"
            )
    stated = {ours: keys[_key(theirs)] for ours, theirs in given.items() if theirs}
    free = {key: name for key, name in keys.items() if name not in stated.values()}
    usual = {
        ours: found
        for ours in USUAL
        if ours not in given and (found := _only(ours, _usual(free, ours), path))
    }
    columns = Columns(stated | usual, usual, _quantiles(free), _years(free), _class_columns(free))
    if not {"id", "path"} & columns.single.keys():
        raise DataError(
            f"{path}: no column of ids or paths of faces: name it with --columns path=NAME; the header has "
            f"[{shown(header)}]"
        )
    if not columns.predicts_any:
        raise DataError(
            f"{path}: no prediction: neither an age nor a gender nor a race: name its columns, such as "
            f"--columns age=NAME; the header has [{shown(header)}]"
        )
    if not columns.predicts_age and given.get("age", "") is not None:
        unused = [name for name in header if name not in columns.used]
        log.warning(
            "%s: no age was found, so that --legal_ages has no effect; columns not used: [%s]. Name that of "
            "the age with --columns age=NAME (age= if there is none)", path, shown(unused, len(unused)),
        )  # fmt: skip
    return columns


def _key(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _usual(free: Mapping[str, str], ours: str) -> list[str]:
    return [name for key, name in free.items() if key in (ours, *USUAL[ours])]


def _only(ours: str, theirs: Sequence[str], path: Path) -> str:
    if len(theirs) > 1:
        options = " or ".join(f"--columns {shlex.quote(f'{ours}={name}')}" for name in theirs[:2])
        raise DataError(
            f"{path}: both {shown(theirs[:1])} and {shown(theirs[1:2])} may hold the predicted {ours} "
            f"(labels are read from the dataset): choose one: {options}"
        )
    return theirs[0] if theirs else ""


def _quantiles(free: Mapping[str, str]) -> dict[float, str]:
    found = {}
    for key, name in free.items():
        if match := _QUANTILE.fullmatch(key):
            number = float(match[1])
            found[number if "." in match[1] and number < 1 else round(number / 100, 6)] = name
        elif match := _INTERVAL_END.fullmatch(key):
            tail = (100 - int(match[2])) / 200
            found[round(tail if match[1] == "low" else 1 - tail, 6)] = name
    return {p: found[p] for p in sorted(found) if 0 < p < 1}


def _years(free: Mapping[str, str]) -> dict[int, str]:
    found = {int(match[1]): name for key, name in free.items() if (match := _YEAR.fullmatch(key))}
    return {year: found[year] for year in sorted(found)} if len(found) > 1 else {}


def _class_columns(free: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    taken = {name for ours in USUAL for name in _usual(free, ours)}
    for key, name in free.items():
        match = _CLASS.fullmatch(key)
        known = match and (match[1] == "race" or match[2] in GENDERS) and not match[2].startswith("prob")
        if match and known and name not in taken:
            found.setdefault(match[1], {})[match[2]] = name
    return {task: names for task, names in found.items() if len(names) > 1}


def describe(columns: Columns) -> str:
    """Return the columns that are used, for a message."""
    parts = [f"{ours} = {theirs!r}" for ours, theirs in columns.single.items()]
    parts += [f"{len(columns.years)} years"] if columns.years else []
    parts += [f"quantiles {_listed(columns.quantiles)}"] if columns.quantiles else []
    return ", ".join([*parts, *(f"{task}: {_listed(names)}" for task, names in columns.classes.items())])


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))
