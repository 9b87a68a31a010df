"""Studies: files that name configs to compare under one protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.strict_json import from_json
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.settings.configs import SHIPPED, find_config, read_mapping

KEYS = ("title", "configs", "variants", "baseline", "folds", "seeds")
"""Keys of a study; ``folds`` is optional."""

UNCHANGED = "unchanged"
"""Name of the experiment without overrides."""


@dataclass(frozen=True)
class Study:
    """Variants of one experiment: further configs by name, compared with the baseline."""

    name: str  # of the file, without the suffix
    file: Path
    title: str
    configs: tuple[str, ...]  # of all variants
    variants: Mapping[str, tuple[str, ...]]
    baseline: str
    folds: tuple[int, ...] | None  # None for all of the protocol
    seeds: tuple[int, ...]

    def base(self) -> str:
        """Return the name of the experiment in the configs of all variants."""
        names = [read_mapping(find_config(config), "a config").get("name") for config in self.configs]
        return str(next((name for name in reversed(names) if name), "run"))

    def experiment(self, variant: str) -> str:
        """Return the name of a variant's runs, made of its configs, so that studies share equal runs."""
        return f"{self.base()}/{'+'.join(Path(name).stem for name in self.variants[variant]) or UNCHANGED}"

    def recorded(self) -> Path:
        """Return the file of the recorded table, which may not exist."""
        return self.file.parent / "recorded" / f"{self.name}-{self.base()}.json"


def shipped_studies() -> dict[str, Path]:
    """Return the studies that come with the package."""
    folder = next((each for each in SHIPPED if each.is_dir()), SHIPPED[0])
    return {file.stem: file for file in sorted((folder / "studies").glob("*.yaml"))}


def read_study(name: str, configs: Sequence[str] | None = None) -> Study:
    """Read a shipped study, or a file, and check that its configs exist; ``configs`` replace its own.

    Raises:
        ConfigError: There is no such study, or a key is wrong; the message names file and key.
    """
    file = Path(name) if name.endswith((".yaml", ".yml")) else shipped_studies().get(name)
    if file is None or not file.is_file():
        near = get_close_matches(name, shipped_studies(), n=1)
        known = f"did you mean {near[0]}?" if near else f"shipped are {', '.join(shipped_studies())}"
        raise ConfigError(f"{name}: no such study; {known} (or give a file, my_study.yaml)")
    content = _content(file)
    items = content["variants"].items()
    variants = {str(variant): _names(file, f"variants.{variant}", names) for variant, names in items}
    if str(content["baseline"]) not in variants:
        raise ConfigError(f"{file}: baseline {content['baseline']} is not one of {', '.join(variants)}")
    study = Study(
        file.stem, file, str(content["title"]), tuple(configs or _names(file, "configs", content["configs"])),
        variants, str(content["baseline"]),
        _numbers(file, "folds", content["folds"]) if "folds" in content else None,
        _numbers(file, "seeds", content["seeds"]),
    )  # fmt: skip
    _check_experiments(study)
    return study


def read_recorded(study: Study) -> dict[str, Any] | None:
    """Return the recorded table of a study; None if there is none."""
    file = study.recorded()
    if not file.is_file():
        return None
    try:
        table = from_json(read_regular(file))
        {name: variant["metrics"] for name, variant in table["variants"].items()}
        return dict(table)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"not a table of `mtmsa reproduce` ({error})"
        raise ConfigError(f"{file}: {what}: replace or remove it") from None


def _content(file: Path) -> dict[str, Any]:
    content = read_mapping(file, "a study")
    unknown = [key for key in content if key not in KEYS]
    missing = [key for key in KEYS if key not in content and key != "folds"]
    if unknown or missing:
        wrong = f"unknown key {unknown[0]!r}" if unknown else f"no {missing[0]!r}"
        raise ConfigError(f"{file}: {wrong}; a study has {', '.join(KEYS)}")
    if not isinstance(content["variants"], dict) or not content["variants"]:
        raise ConfigError(f"{file}: variants: give names with lists of configs, e.g. `plain: [no_msa.yaml]`")
    return content


def _names(file: Path, key: str, value: Any) -> tuple[str, ...]:
    """Return a list of configs as a tuple."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{file}: {key}: give a list of configs, not {value!r}")
    return tuple(value)


def _numbers(file: Path, key: str, value: Any) -> tuple[int, ...]:
    """Return a list of whole numbers as a tuple."""
    if not isinstance(value, list) or not value or not all(type(number) is int for number in value):
        raise ConfigError(f"{file}: {key}: give a list of whole numbers, not {value!r}")
    return tuple(value)


def _check_experiments(study: Study) -> None:
    """Check that every config exists and that variants do not share a name."""
    for config in (*study.configs, *(name for names in study.variants.values() for name in names)):
        try:
            find_config(config)
        except ConfigError as error:
            raise ConfigError(f"{study.file}: {error}") from None
    named: dict[str, str] = {}
    for variant in study.variants:
        other = named.setdefault(study.experiment(variant), variant)
        if other != variant:
            both = f"{other} and {variant} would share the runs {study.experiment(variant)}"
            raise ConfigError(f"{study.file}: {both}")
