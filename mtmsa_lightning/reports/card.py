"""The model card of a checkpoint, from what its run recorded; what is not recorded is said to be so.

Markdown with the front matter that the Hugging Face Hub reads: ``MODEL_CARD.md`` beside a report or an
exported file, ``README.md`` in a folder of ``save_pretrained``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mtmsa_lightning._utils.file_access import read_regular
from mtmsa_lightning._utils.strict_json import from_json
from mtmsa_lightning._utils.writing import write_text
from mtmsa_lightning.calibration.record import Calibration
from mtmsa_lightning.data.preprocessing import describe_crop
from mtmsa_lightning.data.splits.earlier import describe
from mtmsa_lightning.metrics.age import MIN_FACES
from mtmsa_lightning.metrics.suite import METRICS
from mtmsa_lightning.metrics.titles import METRIC_BY_NAME, format_interval, format_metric
from mtmsa_lightning.runs.checkpoints import read_checkpoint, weights_digest
from mtmsa_lightning.runs.directory import run_of
from mtmsa_lightning.runs.pretrained import README, WEIGHTS, licence_note
from mtmsa_lightning.runs.record import partial_note, read_record
from mtmsa_lightning.runs.settings import read_config
from mtmsa_lightning.runs.status import recorded_seed, unfinished
from mtmsa_lightning.settings.configs import PACKAGE

CARD = "MODEL_CARD.md"
"""Name of the card beside a report or an exported file."""

UNKNOWN = "not recorded"

_ANEW = "`mtmsa evaluate` measures them again"

_CHANGED = f"The calibration was changed after these metrics were measured: {_ANEW}."

_AGE_KINDS = ("exact", "group")

INTENDED = """\
Meant for research on facial age estimation, and for statistics over many faces that the people shown, or
the terms of a dataset, allow.

Out of scope:

- Any decision about a person on apparent age, gender or race alone: access, employment, insurance, credit,
  policing, migration, proof of age. The answers are guesses about a picture, with errors of years.
- Identification, and surveillance.
- Statements about who a person is. Labels are what a dataset recorded, by other people or by papers; gender
  has the two classes of the dataset, and race its own list, neither of which describes people.
- Pictures unlike those of the training data in camera, pose, age range or population, unless tested on such.

Legal limits: faces are personal data. Data that reveal racial or ethnic origin, and biometric data that serve
to identify people, are special categories of it (GDPR, Article 9(1)). In the European Union the AI Act
(Regulation (EU) 2024/1689) forbids biometric categorisation of individual people that deduces or infers their
race (Article 5(1)(g); labelling or filtering of lawfully acquired sets of images, and categorisation in law
enforcement, are not covered), lists other biometric categorisation by sensitive or protected attributes that
are inferred as high-risk (Annex III, point 1(b)), and has those who use biometric categorisation inform the
people exposed to it (Article 50(3), with an exception for the prosecution of crimes that the law permits).
Other laws hold elsewhere, and laws change. This is no legal advice."""


@dataclass(frozen=True)
class Sources:
    """Records that a card is made from; empty where there are none.

    Attributes:
        checkpoint: Settings, provenance and calibration of the checkpoint.
        name: Name of the checkpoint's file, or of its folder.
        training: ``run.json`` of the run that trained it, with the name that its settings have now.
        seed: Its seed.
        tested: ``run.json`` of the evaluation.
        metrics: ``metrics.json`` of the evaluation.
        tables: Its tables by name, each cell as its text: ``metrics``, ``subgroups``, ``subgroup_gaps``.
    """

    checkpoint: Mapping[str, Any]
    name: str
    training: Mapping[str, Any]
    seed: int | None
    tested: Mapping[str, Any]
    metrics: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What the checkpoint says that it was trained on."""
        return self.checkpoint.get("provenance") or {}

    @cached_property
    def state_note(self) -> str:
        """A warning where the metrics belong to other weights or another calibration; else empty."""
        measured = self.tested if self.metrics else self.training
        weights = self.checkpoint.get("state_dict")
        if weights and measured.get("weights") not in (None, weights_digest(weights)):
            return "These metrics were measured with other weights than the checkpoint has."
        then, now = (
            None if record is None else Calibration.from_dict(record)
            for record in (measured.get("calibration"), self.checkpoint.get("calibration"))
        )
        if then == now:
            return ""
        if then is None:
            return f"These metrics are from before the calibration: {_ANEW}."
        if now is None:
            return f"These metrics were measured with a calibration that has been removed: {_ANEW}."
        return f"These metrics were measured with another calibration than the checkpoint has now: {_ANEW}."

    @property
    def warning(self) -> list[str]:
        """What stands above metrics: that they belong to another state, or are of part of the test part."""
        partial = partial_note(self.tested if self.metrics else self.training, "test")
        notes = [self.state_note, f"These metrics are {partial}." if partial else ""]
        return [line for note in notes if note for line in (note, "")]

    @property
    def title(self) -> str:
        """Name of the experiment, or of the file."""
        return str(self.training.get("name", self.name))


def card_of_checkpoint(file: Path, evaluation: Path | None = None) -> str:
    """Write the model card of a checkpoint.

    Args:
        file: The checkpoint, a ``.ckpt`` or the ``model.safetensors`` of a folder.
        evaluation: Folder of the report to quote; by default the one of ``mtmsa evaluate`` in the
            checkpoint's run, if there is one.

    Returns:
        Markdown.
    """
    return card_of_network(
        read_checkpoint(file), file.parent.name if file.name == WEIGHTS else file.stem, file, evaluation
    )


def card_of_network(
    checkpoint: Mapping[str, Any], name: str, file: Path | None, evaluation: Path | None = None
) -> str:
    """Write the model card of a checkpoint that is in memory.

    Args:
        checkpoint: ``hyper_parameters`` and, where known, ``provenance`` and ``calibration``.
        name: What to call it where no run names it.
        file: Where it came from, if it was loaded; what its run recorded is told.
        evaluation: As for :func:`card_of_checkpoint`.

    Returns:
        Markdown.
    """
    run = run_of(file) if file else None
    if file and evaluation is None and run is not None:
        evaluation = run / evaluation_name(file)
    there = evaluation is not None and (evaluation / "metrics.json").is_file()
    report = evaluation if there else None
    return model_card(
        Sources(
            checkpoint=checkpoint,
            name=name,
            training=_training_record(run) if run else {},
            seed=recorded_seed(run) if run else (checkpoint.get("provenance") or {}).get("seed"),
            tested=read_record(report) if report else {},
            metrics=from_json(read_regular(report / "metrics.json")) if report else {},
            tables=_tables(report) if report else {},
        )
    )


def evaluation_name(file: Path) -> str:
    """Return the name of the folder in a run that holds the report on one of its checkpoints."""
    return "evaluation" if file.stem == "best" else f"evaluation-{file.stem}"


def update_cards(file: Path, calibration: Mapping[str, Any] | None) -> None:
    """Bring the cards of a checkpoint up to date after its calibration has been changed.

    These are ``MODEL_CARD.md`` beside the reports in its run, or ``README.md`` in its folder.

    Args:
        file: The checkpoint, a ``.ckpt`` or the ``model.safetensors`` of a folder.
        calibration: The calibration that it has now.
    """
    if file.name == WEIGHTS:
        readme = file.parent / README
        if readme.is_file():
            write_text(readme, _recalibrated(readme.read_text(encoding="utf-8"), calibration))
        return
    run = run_of(file)
    for card in sorted(run.glob(f"evaluation*/{CARD}")) if run else ():
        if Path(read_record(card.parent).get("checkpoint", "")).name == file.name:
            write_text(card, card_of_checkpoint(file, card.parent))


def _recalibrated(card: str, calibration: Mapping[str, Any] | None) -> str:
    """Return a card, whose records are not at hand, with another calibration and its metrics marked."""
    if not card.startswith("---\n"):
        return card  # a text of the user's own
    head, *sections = card.split("\n## ")
    for number, section in enumerate(sections):
        name, _, body = section.partition("\n")
        if name == "Calibration":
            body = _without_html("\n".join(["", *_calibration(calibration), ""]))
        elif name in ("Evaluation", "Subgroups") and "\n| " in body and _CHANGED not in body:
            body = f"\n{_CHANGED}\n{body}"
        sections[number] = f"{name}\n{body}"
    matter, _, rest = head.removeprefix("---\n").partition("---\n")
    values = {key: value for key, value in yaml.safe_load(matter).items() if key != "model-index"}
    head = f"---\n{yaml.safe_dump(values, sort_keys=False)}---\n{rest}"
    return "\n## ".join([head, *sections])


def _training_record(run: Path) -> dict[str, Any]:
    """Read ``run.json``; the name is that of the settings, which stay right where a run is put elsewhere."""
    record, name = read_record(run), read_config(run).get("name")
    record |= {"epochs": unfinished(run) or record.get("epochs")}
    return record | {"name": name} if name else record


def _tables(report: Path) -> dict[str, pd.DataFrame]:
    """Read the tables of a report, each cell as its text."""
    files = {name: report / "tables" / f"{name}.csv" for name in ("metrics", "subgroups", "subgroup_gaps")}
    return {
        name: pd.read_csv(file, dtype=str, keep_default_na=False)
        for name, file in files.items()
        if file.is_file()
    }


def model_card(sources: Sources) -> str:
    """Put a card together, section by section."""
    sections = {
        "Intended use": [INTENDED],
        "What goes in and comes out": _interface(sources),
        "Training data": _training_data(sources),
        "Training": _training(sources),
        "Evaluation": _evaluation(sources),
        "Subgroups": _subgroups(sources),
        "Calibration": _calibration(sources.checkpoint.get("calibration")),
        "Hardware and energy": _hardware(sources),
        "Licence": [licence_note(sources.provenance)],
        "How to cite": _citation(),
    }
    body = [line for name, lines in sections.items() for line in ("", f"## {name}", "", *lines)]
    lead = "From a face: apparent age with its uncertainty, and gender and race as a dataset labels them."
    text = "\n".join([f"# {' '.join(sources.title.split())}", "", lead, *body]) + "\n"
    return f"{_front_matter(sources)}\n{_without_html(text)}"


# ------------------------------------------------------------------------ sections


def _front_matter(sources: Sources) -> str:
    dataset = sources.provenance.get("dataset")
    values: dict[str, Any] = {
        "license": "other",
        "library_name": "mtmsa-lightning",
        "pipeline_tag": "image-classification",
        "tags": ["age-estimation", "face", "multi-task", "pytorch-lightning"],
    }
    before = [each.get("dataset") for each in sources.provenance.get("earlier") or ()]
    if datasets := [*dict.fromkeys(name for name in (dataset, *before) if name)]:
        values["datasets"] = datasets
    scalars = {
        name: value for name, value in _headline(sources) if value is not None and math.isfinite(value)
    }
    if scalars and not sources.warning:
        on = sources.metrics["quoted_with"]
        values["model-index"] = [
            {
                "name": sources.title,
                "results": [
                    {
                        "task": {"type": "image-classification", "name": "facial age estimation"},
                        "dataset": {"type": on["dataset"], "name": f"{on['dataset']} ({on['protocol']})"},
                        "metrics": [
                            {"type": name, "name": METRIC_BY_NAME[name].title, "value": value}
                            for name, value in scalars.items()
                        ],
                    }
                ],
            }
        ]
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---\n"


def _headline(sources: Sources) -> list[tuple[str, float | None]]:
    scalars = sources.metrics.get("scalars", {})
    return [(spec.name, scalars[spec.name]) for spec in METRICS if spec.headline and spec.name in scalars]


def _interface(sources: Sources) -> list[str]:
    settings, provenance = sources.checkpoint["hyper_parameters"], sources.provenance
    heads = {task: settings.get(task) for task in ("age", "gender", "race")}
    size, crop = settings["image_size"], describe_crop(settings["crop"], provenance.get("preparation"))
    return _rows(
        {
            "network": f"ResNet34, {_attention(settings)}",
            "input": f"RGB face, {size} x {size} px: the {crop}",
            "age": f"a distribution in years, of {_called(heads['age'])}" if heads["age"] else "none",
            "gender classes": _numbered(settings["gender_classes"]) if heads["gender"] else "none",
            "race classes": _numbered(settings["race_classes"]) if heads["race"] else "none",
            "age groups": ", ".join(f"{low}-{high}" for low, high in settings["age_groups"]) or "none",
        }
    )


def _attention(settings: Mapping[str, Any]) -> str:
    msa = settings.get("msa")
    if msa is None:
        return "no multi-scale attention"
    rates, stages, placement = _said(msa["rates"]), _said(msa["stages"]), msa["placement"].replace("_", " ")
    return f"multi-scale attention with rates {rates} at stages {stages} ({placement})"


def _training_data(sources: Sources) -> list[str]:
    data = sources.provenance
    if not data:
        return [f"The training data is {UNKNOWN} in the checkpoint."]
    rows = data.get("rows") or {}
    dropped = ", ".join(f"{count:,}: {reason}" for reason, count in (rows.get("dropped") or {}).items())
    shared = data.get("subjects_in_two_parts")
    known = {
        "dataset": data.get("dataset"),
        "protocol": (
            f"{data['protocol']}, fold {data.get('fold')}, split seed {data.get('split_seed')}"
            if "protocol" in data
            else None
        ),
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
    }
    before = data.get("earlier") or ()
    known |= {f"earlier training data, {number}": describe(each) for number, each in enumerate(before, 1)}
    overlap = sources.tested.get("overlap", sources.training.get("overlap")) or ()
    return [*_rows(known), *(f"\n{note}" for note in (*(data.get("notes") or ()), *overlap))]


def _labels(kinds: Sequence[str]) -> str:
    """Say which labels were there, and how ages were given."""
    ages = " and ".join({"exact": "years", "group": "groups"}[kind] for kind in kinds if kind in _AGE_KINDS)
    named = {"age": f"age in {ages}" if ages else "age"}
    return ", ".join(named.get(kind, kind) for kind in kinds if kind not in _AGE_KINDS) or "none"


def _training(sources: Sources) -> list[str]:
    settings, record = sources.checkpoint["hyper_parameters"], sources.training
    schedule = settings.get("scheduler") or {}
    best = record.get("best_epoch", sources.checkpoint.get("epoch"))
    start = settings.get("weights")
    weights = ", ".join(f"{task} {settings.get(f'{task}_weight')}" for task in ("age", "gender", "race"))
    versions = record.get("versions") or {}
    return _rows(
        {
            "initial weights": "random" if start is None else Path(start).name,
            "epochs": record.get("epochs"),
            "checkpoint chosen by": record.get("monitor"),
            "best epoch": None if best is None else best + 1,
            "batch size": (record.get("batch_size") or {}).get("global"),
            **_optimiser(settings.get("optimizer") or {}, record.get("learning_rate")),
            "schedule": _called(schedule),
            "weights of the losses": f"{weights} ({settings.get('weighting')})",
            "seed": sources.seed,
            "versions": ", ".join(f"{name} {version}" for name, version in versions.items()) or None,
            "commit": record.get("git_commit"),
        }
    )


def _optimiser(spec: Mapping[str, Any], used: float | None) -> dict[str, Any]:
    """Return the optimiser's settings by name; the learning rate is the one used, which may be scaled."""
    if not spec:
        return {"optimiser": None, "learning rate": None}
    given = {name: value for name, value in _given(spec).items() if value is not False}
    rate = used or given.pop("lr", None)
    return {
        "optimiser": _class_name(spec),
        "learning rate": None if rate is None else _said(rate),
        **{name.replace("_", " "): _said(value) for name, value in given.items() if name != "lr"},
    }


def _evaluation(sources: Sources) -> list[str]:
    warning = sources.warning
    if not sources.metrics:
        recorded = {
            name.removeprefix("test/"): value for name, value in (sources.training.get("test") or {}).items()
        }
        shown = [
            (METRIC_BY_NAME[name].title, format_metric(name, recorded[name]))
            for name in METRIC_BY_NAME
            if name in recorded
        ]
        if "age_mae" in recorded:
            shown.insert(1, _constant_guess(sources.training))
        if not shown:
            return [f"Metrics are {UNKNOWN}: `mtmsa evaluate --ckpt_path ...` measures them."]
        note = (
            "From the test at the end of training; intervals are not recorded: `mtmsa evaluate` gives them."
        )
        return [*warning, note, "", *_table(["metric", "value"], shown)]
    quoted = {
        name: text
        for name, text in sources.metrics["quoted_with"].items()
        if name not in ("command", "checkpoint")
    }
    table = sources.tables["metrics"].set_index("name")
    rows = [
        (
            METRIC_BY_NAME[name].title, format_metric(name, value),
            format_interval(name, *map(_number, table.loc[name, ["low95", "high95"]])) or "-",
            f"{int(table.loc[name, 'faces']):,}",
        )
        for name, value in sources.metrics["scalars"].items()
        if name in table.index
    ]  # fmt: skip
    if rows and rows[0][0] == METRIC_BY_NAME["age_mae"].title:
        rows.insert(1, (*_constant_guess(sources.tested), "-", rows[0][3]))
    intervals = (
        "Intervals: 95 %, bootstrap over subjects, or over faces where none are known; `-`: there is none. "
        f"{sources.metrics['faces']:,} test faces."
    )
    return [
        *warning,
        *_rows(quoted),
        "",
        *_table(["metric", "value", "95 % interval", "faces"], rows),
        "",
        intervals,
    ]


def _constant_guess(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return the metric that an error of age must be read beside."""
    guess = record.get("constant_age_mae")
    said = UNKNOWN if guess is None else format_metric("age_mae", guess)
    return "age MAE of guessing the mean training age (years)", said


def _subgroups(sources: Sources) -> list[str]:
    table = sources.tables.get("subgroups")
    if table is None:
        return [f"Metrics by group are {UNKNOWN}: `mtmsa evaluate --ckpt_path ...` measures them."]
    shown = "age_mae" if sources.metrics["labelled"]["exact"] else "group_acc"
    single = table[table["by"].isin(["all", "gender", "race", "age"])]
    rows = [
        (
            row["by"], next((row[name] for name in ("gender", "race", "age") if row[name]), "all"),
            f"{int(row['faces']):,}", format_metric(shown, _number(row[shown])),
            format_interval(shown, _number(row[f"{shown}_low"]), _number(row[f"{shown}_high"])) or "-",
        )
        for row in single.to_dict("records")
    ]  # fmt: skip
    columns = ["by", "group", "faces", METRIC_BY_NAME[shown].title, "95 % interval"]
    note = f"No metric stands for fewer than {MIN_FACES} faces. All: `tables/subgroups.csv` of the report."
    warning = sources.warning
    return [*warning, *_table(columns, rows), "", note, "", *_gaps(sources, shown)]


def _gaps(sources: Sources, shown: str) -> list[str]:
    gaps = sources.tables["subgroup_gaps"]
    rows = [
        (
            row["by"], format_metric(shown, _number(row["gap"])),
            format_interval(shown, _number(row["gap_low"]), _number(row["gap_high"])) or "-",
            f"{row['highest']}: {format_metric(shown, _number(row['highest_value']))}",
            f"{row['lowest']}: {format_metric(shown, _number(row['lowest_value']))}",
        )
        for row in gaps[gaps["metric"] == shown].to_dict("records")
    ]  # fmt: skip
    if not rows:
        return [f"No two groups of one kind have {MIN_FACES} faces or more: there is no gap to show."]
    return ["Largest gaps:", "", *_table(["groups by", "gap", "95 % interval", "highest", "lowest"], rows)]


def _calibration(recorded: Mapping[str, Any] | None) -> list[str]:
    if recorded is None:
        return ["Not calibrated: intervals are those that the network itself predicts."]
    calibration = Calibration.from_dict(recorded)
    said = calibration.describe()
    levels = ", ".join(f"{100 * level:.0f} %" for level in calibration.quantiles)
    promise = (
        f"Conformal intervals of age at {levels}: they cover a new subject's face with at least that "
        "probability if the subject is exchangeable with those fitted on, and promise nothing for other data "
        "or for single groups."
    )
    limit = ["", f"Calibration {calibration.describe_limit()}."] if calibration.at_limit else []
    return [f"{said[0].upper()}{said[1:]}.", *limit, *(["", promise] if levels else [])]


def _hardware(sources: Sources) -> list[str]:
    record = sources.training
    hardware = record.get("hardware") or {}
    seconds = record.get("fit_seconds")
    return _rows(
        {
            "device": record.get("device"),
            "processes": record.get("world_size"),
            "processor": hardware.get("processor"),
            "cores of a machine": hardware.get("cores"),
            "precision": record.get("precision"),
            "training time": None if seconds is None else f"{seconds / 3600:.2f} hours",
            "started": record.get("started"),
            "finished (with tests)": record.get("finished"),
            "energy": "not measured",
        }
    )


def _citation() -> list[str]:
    """Quote CITATION.cff, which lies in an installed wheel, or beside the package in a checkout."""
    files = (PACKAGE / "CITATION.cff", PACKAGE.parent / "CITATION.cff")
    cited: dict[str, Any] = yaml.safe_load(
        next(file for file in files if file.is_file()).read_text(encoding="utf-8")
    )
    lines = [f"{cited['message']}", "", f"- {cited['title']}, version {cited['version']}, {cited['license']}"]
    for paper in cited["references"]:
        authors = ", ".join(author["family-names"] for author in paper["authors"])
        where = f"{paper['journal']} {paper['volume']}({paper['issue']}), {paper['year']}, doi {paper['doi']}"
        lines.append(f'- {authors}, "{paper["title"]}", {where}')
    return lines


# ------------------------------------------------------------------------ Markdown


def _rows(values: Mapping[str, Any]) -> list[str]:
    """Return a table of what is known, and of what is not."""
    return _table(
        ["what", "value"],
        [(name, UNKNOWN if value is None else _said(value)) for name, value in values.items()],
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    cells = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |" for row in cells]


def _without_html(text: str) -> str:
    """Return Markdown in which quoted names, such as that of a run, are no HTML."""
    return text.replace("<", "&lt;").replace(">", "&gt;")


def _numbered(names: Iterable[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names)) or "none"


def _called(spec: Mapping[str, Any]) -> str | None:
    if not spec:
        return None
    given = ", ".join(f"{name.replace('_', ' ')} {_said(value)}" for name, value in _given(spec).items())
    return f"{_class_name(spec)} ({given})" if given else _class_name(spec)


def _class_name(spec: Mapping[str, Any]) -> str:
    return str(spec["class_path"].rpartition(".")[2])


def _given(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class that are set."""
    return {name: value for name, value in (spec.get("init_args") or {}).items() if value is not None}


def _said(value: Any) -> str:
    """Write a setting or a count as a reader does: lists without brackets, numbers without ballast."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(cell: str) -> float | None:
    """Return the number in a cell of a table; None where it is empty."""
    return float(cell) if cell else None
