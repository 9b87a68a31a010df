"""The contents of a model card's sections; None is shown as "not recorded"."""

from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from mtmsa_lightning._utils.yaml_text import load_yaml
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.data.preprocessing_check import describe_crop
from mtmsa_lightning.data.splits.earlier_training import describe
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_interval, format_metric, main_metric
from mtmsa_lightning.reports import fairness_text
from mtmsa_lightning.reports.card_sources import Sources
from mtmsa_lightning.reports.markdown import one_line, table
from mtmsa_lightning.reports.over_time_text import paragraphs as over_time_paragraphs
from mtmsa_lightning.reports.policy_text import ADULTS_AND_MINORS, by_who
from mtmsa_lightning.reports.report_context import numbered
from mtmsa_lightning.settings.configs import PACKAGE

UNKNOWN = "not recorded"

OVER_TIME = ("gaps", "variance", "averaging")
"""Names of the tables over time in ``metrics.json``."""

_AGE_KINDS = {"exact": "years", "group": "groups"}


def facts(values: Mapping[str, Any]) -> str:
    """Return a table of named values."""
    rows = [(name, UNKNOWN if value is None else _plain(value)) for name, value in values.items()]
    return table(["what", "value"], rows)


def interface(sources: Sources) -> dict[str, Any]:
    """Return the inputs and outputs."""
    settings, provenance = sources.checkpoint["hyper_parameters"], sources.provenance
    heads = {task: settings.get(task) for task in ("age", "gender", "race")}
    size, crop = settings["image_size"], describe_crop(settings["crop"], provenance.get("preparation"))
    return {
        "network": f"{_backbone(settings)}, {_attention(settings.get('msa'))}",
        "input": f"RGB face, {size} x {size} px: the {crop}",
        "age": f"a distribution in years, of {_class(heads['age'])}" if heads["age"] else "none",
        "gender classes": numbered(settings["gender_classes"]) if heads["gender"] else "none",
        "race classes": numbered(settings["race_classes"]) if heads["race"] else "none",
        "age groups": ", ".join(f"{low}-{high}" for low, high in settings["age_groups"]) or "none",
    }


def training_data(sources: Sources) -> dict[str, Any]:
    """Return the facts about the training data; empty where none are recorded."""
    data = sources.provenance
    if not data:
        return {}
    rows = data.get("rows") or {}
    dropped = ", ".join(f"{count:,}: {reason}" for reason, count in (rows.get("dropped") or {}).items())
    shared = data.get("subjects_in_two_parts")
    split = f"fold {data.get('fold')}, split seed {data.get('split_seed')}"
    return {
        "dataset": data.get("dataset"),
        "protocol": f"{data['protocol']}, {split}" if "protocol" in data else None,
        "label rule": data.get("label_rule"),
        "cleaning rules": ", ".join(data.get("cleaning") or ()) or "none",
        "rows read": rows.get("read"),
        "rows kept": rows.get("kept"),
        "rows dropped": dropped or "none",
        "labels learnt from": _labels(data.get("labels") or ()),
        **{f"faces, {part}": count for part, count in (data.get("faces") or {}).items()},
        "test images that show a subject of training": (
            "subjects unknown" if shared is None else f"{100 * shared:.1f} %"
        ),
        **{f"fingerprint, {part}": f"`{text}`" for part, text in (data.get("fingerprints") or {}).items()},
        **{
            f"earlier training data, {number}": describe(earlier)
            for number, earlier in enumerate(data.get("earlier") or (), start=1)
        },
    }


def notes(sources: Sources) -> list[str]:
    """Return the notes on the split, and on faces that training and test have in common."""
    overlap = sources.tested.get("overlap", sources.training.get("overlap")) or ()
    return [*map(one_line, (*(sources.provenance.get("notes") or ()), *overlap))]


def training(sources: Sources) -> dict[str, Any]:
    """Return how the network was trained."""
    settings, record = sources.checkpoint["hyper_parameters"], sources.training
    best = record.get("best_epoch", sources.checkpoint.get("epoch"))
    start = settings.get("weights")
    weights = ", ".join(f"{task} {settings.get(f'{task}_weight')}" for task in ("age", "gender", "race"))
    versions = record.get("versions") or {}
    return {
        "initial weights": "random" if start is None else Path(start).name,
        "epochs": record.get("epochs"),
        "checkpoint chosen by": record.get("monitor"),
        "best epoch": None if best is None else best + 1,
        "batch size": (record.get("batch_size") or {}).get("global"),
        **_optimiser(settings.get("optimizer") or {}, record.get("learning_rate")),
        "schedule": _class(settings.get("scheduler")),
        "weights of the losses": f"{weights} ({settings.get('weighting')})",
        "seed": sources.seed,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()) or None,
        "commit": record.get("git_commit"),
    }


def evaluation(sources: Sources) -> dict[str, Any]:
    """Return the metrics of a report with their intervals; empty without a report."""
    if not sources.metrics:
        return {}
    ends = sources.tables["metrics"].set_index("name")
    rows = [
        (
            METRIC_BY_NAME[name].title,
            format_metric(name, value),
            _interval(name, *ends.loc[name, ["low95", "high95"]]),
            f"{int(ends.loc[name, 'faces']):,}",
        )
        for name, value in sources.metrics["scalars"].items()
        if name in ends.index
    ]
    if rows and rows[0][0] == METRIC_BY_NAME["age_mae"].title:
        rows.insert(1, (*_constant_guess(sources.tested), "-", rows[0][3]))
    quoted = sources.metrics["quoted_with"]
    return {
        "rows": rows,
        "faces": sources.metrics["faces"],
        "quoted_with": {name: quoted[name] for name in quoted if name not in ("command", "checkpoint")},
    }


def over_time(sources: Sources) -> list[str]:
    """Return sentences on the same person over time; empty where the report has none."""
    found = sources.metrics.get("over_time")
    return [] if found is None else over_time_paragraphs(*(found[name] for name in OVER_TIME))


def test_rows(sources: Sources) -> list[tuple[str, str]]:
    """Return the metrics of the test at the end of training."""
    recorded = sources.training.get("test") or {}
    rows = [
        (spec.title, format_metric(name, recorded[f"test/{name}"]))
        for name, spec in METRIC_BY_NAME.items()
        if f"test/{name}" in recorded
    ]
    if "test/age_mae" in recorded:
        rows.insert(1, _constant_guess(sources.training))
    return rows


def datasets(sources: Sources) -> dict[str, Any]:
    """Return the headline metrics of every dataset of a mixture; empty without one.

    They are those of the report, or else of the test at the end of training.
    """
    found: dict[str, dict[str, float | None]] = dict(sources.metrics.get("sources") or {})
    if not sources.metrics:
        for key, value in (sources.training.get("test") or {}).items():
            _, *source, name = key.split("/")
            if source and name in METRIC_BY_NAME:
                found.setdefault("/".join(source), {})[name] = value
    rows = [
        (spec.title, *(format_metric(name, values.get(name)) for values in found.values()))
        for name, spec in METRIC_BY_NAME.items()
        if spec.headline and any(name in values for values in found.values())
    ]
    return {"heads": ["metric", *found], "rows": rows} if rows else {}


def _constant_guess(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return the MAE of a constant guess, which an MAE must be compared with."""
    guess = record.get("constant_age_mae")
    value = UNKNOWN if guess is None else format_metric("age_mae", guess)
    return "age MAE of guessing the mean training age (years)", value


def groups(sources: Sources) -> dict[str, Any]:
    """Return the metric of age by group and its largest gaps; empty without a report."""
    found = sources.tables.get("subgroups")
    if found is None:
        return {}
    shown = main_metric(found)
    if shown not in found:
        return {}
    rows = [
        (
            row["by"],
            next((row[name] for name in ("gender", "race", "age") if row[name]), "all"),
            f"{int(row['faces']):,}",
            _value(shown, row[shown]),
            _interval(shown, row[f"{shown}_low"], row[f"{shown}_high"]),
        )
        for row in found[found["by"].isin(["all", "gender", "race", "age"])].to_dict("records")
    ]
    gaps = sources.tables["subgroup_gaps"]
    gap_rows = [
        (
            row["by"],
            _value(shown, row["difference"]),
            _interval(shown, row["difference_low"], row["difference_high"]),
            *(f"{row[f'{end}_name']}: {_value(shown, row[end])}" for end in ("group_max", "group_min")),
        )
        for row in gaps[gaps["metric"] == shown].to_dict("records")
    ]
    return {"metric": METRIC_BY_NAME[shown].title, "rows": rows, "gaps": gap_rows}


def wrong_for(sources: Sources) -> dict[str, Any]:
    """Return a sentence and a table on the worst groups; empty without a report."""
    tables = [sources.tables.get(name) for name in ("subgroups", "subgroup_gaps")]
    read = [pd.read_csv(StringIO(table.to_csv(index=False))) for table in tables if table is not None]
    texts = ["by", "gender", "race", "age", "note"]
    if len(read) < 2 or "note" not in read[0]:
        return {}
    groups, gaps = read[0].fillna(dict.fromkeys(texts, "")), read[1]
    return {
        "opening": one_line(fairness_text.opening(groups, gaps)),
        "heads": fairness_text.HEADS,
        "rows": fairness_text.rows(groups, gaps, brief=True),
        "explained": fairness_text.EXPLAINED,
        "not_judged": [*map(one_line, fairness_text.not_judged(groups))],
    }


def decisions(sources: Sources) -> dict[str, Any]:
    """Return the rates at legal ages, the policies and the means of the error; empty without a report."""
    recorded = sources.checkpoint.get("calibration")
    policies = () if recorded is None else Calibration.from_dict(recorded).policies
    texts = [one_line(f"{each.describe()}. Fitted so that {each.promise()}.") for each in policies]
    found: dict[str, Any] = {"policies": texts, "rows": [], "errors": []}
    rates, errors = (sources.tables.get(name) for name in ("thresholds", "age_errors"))
    if rates is not None:
        shown = rates[(rates["by"] == "") & rates["rule"].isin(["estimate", "challenge", "policy"])]
        numbers = ["faces", "errors", "rate", "low", "high"]  # no text where there are too few faces
        shown = shown.assign(**shown[numbers].apply(pd.to_numeric))
        found["rows"] = by_who(shown, ["legal_age", "text"], ADULTS_AND_MINORS, "errors")
    if errors is not None:
        found["errors"] = [
            (row["name"], _value("age_mae", row["value"]), _interval("age_mae", row["low95"], row["high95"]))
            for row in errors.to_dict("records")
        ]
    return found


def _value(name: str, cell: str) -> str:
    """Format a cell of a report's table; "-" where it is empty."""
    return format_metric(name, float(cell) if cell else None)


def _interval(name: str, low: str, high: str) -> str:
    return format_interval(name, *(float(end) if end else None for end in (low, high))) or "-"


def calibration(recorded: Mapping[str, Any] | None) -> str:
    """Describe a calibration."""
    if recorded is None:
        return "Not calibrated: intervals are those that the network itself predicts."
    fitted = Calibration.from_dict(recorded)
    description = fitted.describe()
    paragraphs = [f"{description[0].upper()}{description[1:]}."]
    if fitted.at_limit:
        paragraphs.append(f"Calibration {fitted.describe_limit()}.")
    if levels := ", ".join(f"{100 * level:.0f} %" for level in fitted.quantiles):
        paragraphs.append(
            f"Conformal intervals of age at {levels}: they cover a new subject's face with at least that "
            "probability if the subject is exchangeable with those fitted on, and promise nothing for other "
            "data or for single groups."
        )
    return "\n\n".join(map(one_line, paragraphs))


def citation() -> dict[str, Any]:
    """Read CITATION.cff, which is in an installed wheel, or beside the package in a checkout."""
    files = (PACKAGE / "CITATION.cff", PACKAGE.parent / "CITATION.cff")
    text = next(file for file in files if file.is_file()).read_text(encoding="utf-8")
    cited: dict[str, Any] = load_yaml(text)
    return cited


def _backbone(settings: Mapping[str, Any]) -> str:
    """Name a backbone: torchvision's ResNets as in papers."""
    name = str(settings.get("backbone", "resnet34"))
    return (
        name.removeprefix("timm/") + " (timm)"
        if name.startswith("timm/")
        else name.replace("resnet", "ResNet")
    )


def _attention(msa: Mapping[str, Any] | None) -> str:
    if msa is None:
        return "no multi-scale attention"
    rates, stages, placement = _plain(msa["rates"]), _plain(msa["stages"]), msa["placement"].replace("_", " ")
    return f"multi-scale attention with rates {rates} at stages {stages} ({placement})"


def _labels(kinds: Sequence[str]) -> str:
    """List the labels that were learnt from, and how ages were given."""
    ages = " and ".join(_AGE_KINDS[kind] for kind in kinds if kind in _AGE_KINDS)
    named = {"age": f"age in {ages}" if ages else "age"}
    return ", ".join(named.get(kind, kind) for kind in kinds if kind not in _AGE_KINDS) or "none"


def _optimiser(spec: Mapping[str, Any], used: float | None) -> dict[str, Any]:
    """Return the optimiser's settings by name; the learning rate is the one used, which may be scaled."""
    if not spec:
        return {"optimiser": None, "learning rate": None}
    given = {name: value for name, value in _arguments(spec).items() if value is not False}
    rate = given.pop("lr", None)
    named = {name.replace("_", " "): value for name, value in given.items()}
    return {"optimiser": spec["class_path"].rpartition(".")[2], "learning rate": used or rate, **named}


def _class(spec: Mapping[str, Any] | None) -> str | None:
    """Return the name of a configured class with its arguments."""
    if not spec:
        return None
    given = ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in _arguments(spec).items())
    name = str(spec["class_path"].rpartition(".")[2])
    return f"{name} ({given})" if given else name


def _arguments(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class that are set."""
    return {name: value for name, value in (spec.get("init_args") or {}).items() if value is not None}


def _plain(value: Any) -> str:
    """Format a setting or a count: lists without brackets, numbers without trailing digits."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
