"""Model cards: Markdown with the front matter that the Hugging Face Hub reads.

A card is ``MODEL_CARD.md`` beside a report or an exported file, and ``README.md`` in a pretrained folder.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.yaml_text import load_yaml
from mtmsa_lightning.metrics.suite import METRICS
from mtmsa_lightning.reports import card_sections as sections
from mtmsa_lightning.reports.card_sources import AGAIN, Sources, evaluation_name, read_sources
from mtmsa_lightning.reports.card_worse_groups import LEAST_BIAS, worse_groups
from mtmsa_lightning.reports.markdown import one_line, render
from mtmsa_lightning.reports.policy_text import ERRORS
from mtmsa_lightning.runs.checkpoints import read_checkpoint
from mtmsa_lightning.runs.directory import run_of
from mtmsa_lightning.runs.pretrained import README, WEIGHTS, licence_note
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.settings.defaults import MIN_FACES

__all__ = ["CARD", "card_of_checkpoint", "card_of_network", "evaluation_name", "model_card", "update_cards"]

CARD = "MODEL_CARD.md"  # name of the card beside a report or an exported file

MEASURED = ("Evaluation", "Who it is wrong for", "Subgroups", "Decisions at legal ages")
"""Sections of a card that quote metrics."""

_CHANGED = f"The calibration was changed after these metrics were measured: {AGAIN}."


def card_of_checkpoint(file: Path, evaluation: Path | None = None) -> str:
    """Return the model card of a checkpoint as Markdown.

    Args:
        file: The checkpoint, a ``.ckpt`` or the ``model.safetensors`` of a folder.
        evaluation: Folder of the report to quote; by default that of ``mtmsa evaluate`` in the run, if any.
    """
    name = file.parent.name if file.name == WEIGHTS else file.stem
    return card_of_network(read_checkpoint(file), name, file, evaluation)


def card_of_network(
    checkpoint: Mapping[str, Any], name: str, file: Path | None, evaluation: Path | None = None
) -> str:
    """Return the model card of a checkpoint in memory (``hyper_parameters``, ``provenance`` ...) as Markdown.

    Args:
        checkpoint: ``hyper_parameters`` and, where known, ``provenance`` and ``calibration``.
        name: Title of the card where no run has a name.
        file: The file that it was loaded from, if any; the records of its run are quoted.
        evaluation: As for :func:`card_of_checkpoint`.
    """
    return model_card(read_sources(checkpoint, name, file, evaluation))


def model_card(sources: Sources) -> str:
    """Return the model card of records as Markdown."""
    text = render(
        "card.md",
        facts=sections.facts,
        title=one_line(sources.title),
        warnings=sources.warnings,
        interface=sections.interface(sources),
        training_data=sections.training_data(sources),
        notes=sections.notes(sources),
        training=sections.training(sources),
        evaluation=sections.evaluation(sources),
        over_time=sections.over_time(sources),
        test_rows=sections.test_rows(sources),
        datasets=sections.datasets(sources),
        wrong_for=sections.wrong_for(sources),
        groups=sections.groups(sources),
        worse_groups=worse_groups(sources),
        least_bias=f"{LEAST_BIAS:g}",
        decisions=sections.decisions(sources),
        decision_heads=["legal age", "passes with", *ERRORS],
        min_faces=sources.metrics.get("min_faces", MIN_FACES),
        calibration=sections.calibration(sources.checkpoint.get("calibration")),
        record=sources.training,
        licence=one_line(licence_note(sources.provenance)),
        cited=sections.citation(),
    )
    return f"{_front_matter(sources)}\n{_without_html(text)}"


def update_cards(file: Path, calibration: Mapping[str, Any] | None) -> None:
    """Update the cards of a checkpoint after its calibration has been changed.

    These are ``MODEL_CARD.md`` beside the reports in its run, or ``README.md`` beside ``model.safetensors``.
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
    """Return a card with another calibration and its metrics marked; its records are not available."""
    if not card.startswith("---\n"):
        return card  # written by the user
    head, *parts = card.split("\n## ")
    for number, part in enumerate(parts):
        name, _, body = part.partition("\n")
        if name == "Calibration":
            body = f"\n{_without_html(sections.calibration(calibration))}\n"
        elif name in MEASURED and "measures them." not in body and _CHANGED not in body:
            body = f"\n{_CHANGED}\n{body}"
        parts[number] = f"{name}\n{body}"
    matter, _, rest = head.removeprefix("---\n").partition("---\n")
    values = {key: value for key, value in load_yaml(matter).items() if key != "model-index"}
    return "\n## ".join([f"{_yaml(values)}{rest}", *parts])


def _front_matter(sources: Sources) -> str:
    trained = [sources.provenance, *(sources.provenance.get("earlier") or ())]
    datasets = [*dict.fromkeys(name for each in trained if (name := each.get("dataset")))]
    scalars = sources.metrics.get("scalars", {})
    metrics = [
        {"type": spec.name, "name": spec.title, "value": value}
        for spec in METRICS
        if spec.headline and (value := scalars.get(spec.name)) is not None and math.isfinite(value)
    ]
    values: dict[str, Any] = {
        "license": "other",
        "library_name": "mtmsa-lightning",
        "pipeline_tag": "image-classification",
        "tags": ["age-estimation", "face", "multi-task", "pytorch-lightning"],
    }
    if datasets:
        values["datasets"] = datasets
    if metrics and not sources.warnings:  # the index cannot show a warning
        on = sources.metrics["quoted_with"]
        result = {
            "task": {"type": "image-classification", "name": "facial age estimation"},
            "dataset": {"type": on["dataset"], "name": f"{on['dataset']} ({on['protocol']})"},
            "metrics": metrics,
        }
        values["model-index"] = [{"name": sources.title, "results": [result]}]
    return _yaml(values)


def _yaml(values: Mapping[str, Any]) -> str:
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---\n"


def _without_html(text: str) -> str:
    """Return Markdown in which quoted names, such as that of a run, are no HTML; comparisons stay plain."""
    return re.sub(r"<(?=[^\s=\d])", "&lt;", text)
