"""Fit the calibration of a network, or of several as one, on held-out faces and store it."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from mtmsa_lightning._utils.devices import best_precision, choose_accelerator
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.calibration.fitting import fit_calibration
from mtmsa_lightning.calibration.measures import LabelledPredictions, calibration_metrics
from mtmsa_lightning.calibration.policy import RULES, AgePolicy
from mtmsa_lightning.calibration.policy_fitting import fit_policy, policy_rates
from mtmsa_lightning.data.datamodule import FaceDataModule
from mtmsa_lightning.data.overlap import check_overlap
from mtmsa_lightning.data.preprocessing_check import preprocessing_of, warn_preprocessing
from mtmsa_lightning.data.splits.protocols import sampling_units
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.models.face_output import FaceOutput
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.reports.calibration_tables import coverage_lines, metrics_table, thresholds_table
from mtmsa_lightning.reports.card import update_cards
from mtmsa_lightning.reports.policy_text import fitted_lines, too_few_text
from mtmsa_lightning.runs.checkpoints import checkpoint_file, read_checkpoint
from mtmsa_lightning.runs.ensemble import Ensemble, load_networks, members_of
from mtmsa_lightning.runs.ensemble_folder import names_ensemble, network_files, write_ensemble
from mtmsa_lightning.runs.pretrained import WEIGHTS, write_pretrained
from mtmsa_lightning.runs.starter import refuse_change
from mtmsa_lightning.settings.configs import split_configs
from mtmsa_lightning.settings.defaults import INTERVAL_LEVEL
from mtmsa_lightning.settings.error_messages import as_config_error
from mtmsa_lightning.training.build_data import build_data
from mtmsa_lightning.training.callbacks.checkpoints import AtomicCheckpointIO
from mtmsa_lightning.training.checkpoint_settings import config_of_run, follow_checkpoint

log = logging.getLogger(__name__)


def calibrate(
    ckpt_path: str | Sequence[str],
    data_args: Sequence[str] = (),
    part: str | None = None,
    max_width: float | None = None,
    min_group_prob: float | None = None,
    other_data: bool = False,
    out: Path | None = None,
    accelerator: str = "auto",
    precision: Any = None,
    flip_test: bool | None = None,
    policies: Sequence[AgePolicy] = (),
) -> Calibration:
    """Fit a calibration on uncalibrated predictions, log its effect, and store it in the checkpoint.

    Several checkpoints, or the folder of an ensemble, are one mixture, see :class:`.Ensemble`; its
    calibration is stored in the folder ``out``, by default the one given. The data is that of the first
    network's run.
    ``part`` is ``calibration`` (the default unless it is empty) or ``val``; ``out`` is written instead of the
    checkpoint; precision and ``flip_test`` are by default those of ``mtmsa test`` and of the checkpoint. For
    the thresholds see :class:`~mtmsa_lightning.calibration.calibration.Calibration`. ``policies`` are fitted,
    see :func:`~mtmsa_lightning.calibration.policy_fitting.fit_policy`.

    Raises:
        ConfigError: A threshold is out of range or the part has too few labels, before any long work.
        OverlapError: Faces of the part, or of the test part, were trained on.
    """
    accelerator = choose_accelerator(accelerator)
    paths = [ckpt_path] if isinstance(ckpt_path, str) else [*ckpt_path]
    model = load_networks(paths, MTMSA.load)
    log.info("%s", model.describe())
    if isinstance(model, Ensemble):
        model.remove_calibrations()
    model.calibration = None
    model.flip_test = model.flip_test if flip_test is None else flip_test
    _check_thresholds(model, max_width, min_group_prob)
    _check_policies(model, policies)
    data = _set_up_data(model, str(network_files(paths)[0]), data_args)
    part = part or ("calibration" if len(data.calibration_dataset) else "val")
    chose_checkpoint = _check_part(model, data, part, other_data)
    if max_width is not None:
        _check_enough(data, part)
    _check_minors(data, part, policies)

    predicted = _predict_parts(model, data, part, accelerator, precision)
    faces = predicted[part]
    fitted = fit_calibration(faces.age, faces.low, faces.high, faces.classes, faces.units)
    fitted = replace(
        fitted,
        max_width=max_width,
        min_group_prob=min_group_prob,
        fitted_on=_origin(data, part)
        | predicted[part].size()
        | {"chose_checkpoint": chose_checkpoint, "flip_test": model.flip_test},
        metrics={
            name: {
                "before": calibration_metrics(faces),
                "after": calibration_metrics(_applied(fitted, faces)),
            }
            for name, faces in predicted.items()
        },
    )
    fitted = replace(fitted, policies=_fit_policies(policies, fitted, predicted, part))
    _log_effect(fitted, data, _applied(fitted, predicted[part]), groups=bool(model.age_groups))
    if isinstance(model, Ensemble):
        store_ensemble(model, fitted, out or Path(paths[0]))
    else:
        store(paths[0], fitted, out, flip_test)
    return fitted


def _set_up_data(model: MTMSA | Ensemble, ckpt_path: str, data_args: Sequence[str]) -> FaceDataModule:
    """Return the DataModule with its parts; warn if its preprocessing differs from that in training."""
    networks = members_of(model)
    preparation = (model.provenance or {}).get("preparation")
    data = datamodule_of(ckpt_path, data_args, dict(networks[0].hparams) | {"preparation": preparation})
    data.prepare_data()
    data.setup("test")
    for network in networks:
        warn_preprocessing(network.provenance or {}, preprocessing_of(data), str(data.root))
    return data


def _predict_parts(
    model: MTMSA | Ensemble, data: FaceDataModule, part: str, accelerator: str, precision: Any
) -> dict[str, LabelledPredictions]:
    """Return the uncalibrated predictions of the part to fit on, and of the test part if there is one."""
    model.match(data)
    predict = _predictor(model, data, accelerator, precision)
    predicted = {part: predict(part)}
    if len(data.test_dataset) and part != "test":
        predicted["test"] = predict("test")
    for name, faces in predicted.items():
        _warn_outside(faces, name)
    return predicted


def _log_effect(
    fitted: Calibration, data: FaceDataModule, calibrated: LabelledPredictions, groups: bool
) -> None:
    """Log a calibration, its metrics, its coverage, and what the thresholds select of the fitted part."""
    log.info("%s", fitted.describe())
    if fitted.at_limit:
        log.warning("%s", fitted.describe_limit())
    log.info("%s", metrics_table(fitted))
    for line in coverage_lines(fitted, data):
        log.info("%s", line)
    if fitted.quantiles:
        log.info("%s", thresholds_table(calibrated, groups=groups))


def _check_thresholds(model: MTMSA | Ensemble, max_width: float | None, min_group_prob: float | None) -> None:
    """Raise ConfigError for thresholds out of range."""
    if model.age is None and (max_width, min_group_prob) != (None, None):
        raise ConfigError("--max_width and --min_group_prob need an age head, which the checkpoint lacks")
    if max_width is not None and not 0 < max_width < float("inf"):
        raise ConfigError(f"--max_width {max_width}: must be a number of years above 0")
    if min_group_prob is not None and not 0 < min_group_prob < 1:
        raise ConfigError(f"--min_group_prob {min_group_prob}: must be a probability between 0 and 1")


def datamodule_of(
    ckpt_path: str, args: Sequence[str], recorded: Mapping[str, Any] | None = None
) -> FaceDataModule:
    """Build the DataModule of configs and ``--data.*`` arguments, by default that of the checkpoint's run.

    Image size and crop follow those ``recorded`` in the checkpoint.
    """
    of_run = config_of_run(args, ckpt_path)
    names, others = split_configs(args)
    unknown = [arg for arg in others if arg.startswith("--") and not arg.startswith("--data")]
    if unknown:
        raise ConfigError(
            f"{unknown[0]}: the network is the checkpoint's, only the data may be given: --config, --data.*"
        )
    if not (of_run or names or others):
        how = "name the data with --config or --data"
        raise ConfigError(f"{ckpt_path}: has no run with a config.yaml: {how}")
    file = of_run and of_run.file
    return build_data(args, file, lambda settings: follow_checkpoint(settings, recorded or {}, args))


def _check_part(model: MTMSA | Ensemble, data: FaceDataModule, part: str, other_data: bool) -> bool:
    """Raise if a part cannot calibrate the checkpoint, or a network of an ensemble.

    Returns:
        Whether the part also chose a checkpoint; True for a validation part if the checkpoint's is unknown.
    """
    if not len(getattr(data, f"{part}_dataset")):
        raise ConfigError(
            f"the {part} part is empty: hold out faces in training with --data.calibration_fraction, or "
            "choose --part val"
        )
    records = [network.provenance or {} for network in members_of(model)]
    found = [_check_network(record, data, part, other_data) for record in records]
    if chose := any(found):
        log.warning(
            "the calibration uses the validation part, which also chose the checkpoint: coverage may be low"
        )
    return chose


def _check_network(provenance: Mapping[str, Any], data: FaceDataModule, part: str, other_data: bool) -> bool:
    """Raise if a part cannot calibrate a network; return whether it also chose the network's checkpoint."""
    if provenance.get("dataset", data.source) != data.source and not other_data:
        raise ConfigError(
            f"the checkpoint was trained on {provenance['dataset']}, the data is {data.source}: pass "
            "--other_data true to calibrate for it"
        )
    fingerprint = data.split.fingerprints[part]
    chose = part == "val" and provenance.get("fingerprints", {}).get("val", fingerprint) == fingerprint
    check_overlap(provenance, data, part=part, own=not chose, calibrating=True)
    if len(data.test_dataset):
        check_overlap(provenance, data, calibrating=True)
    return chose


def _check_policies(model: MTMSA | Ensemble, policies: Sequence[AgePolicy]) -> None:
    """Raise ConfigError for policies that cannot be fitted to any faces."""
    if model.age is None and policies:
        raise ConfigError("--legal_age needs an age head, which the checkpoint lacks")
    for policy in policies:
        if not 0 < policy.max_fpr < 1:
            raise ConfigError(f"--max_fpr {policy.max_fpr}: must be a rate between 0 and 1")
        if policy.confidence is not None and not 0 < policy.confidence < 1:
            raise ConfigError(f"--confidence {policy.confidence}: must be a probability between 0 and 1")


def _check_minors(data: FaceDataModule, part: str, policies: Sequence[AgePolicy]) -> None:
    """Raise ConfigError if a part has too few minors for a policy: no threshold could keep its rate."""
    table = getattr(data, f"{part}_dataset").table
    units = sampling_units(table)
    for policy in policies:
        first, last = policy.minor_ages
        minors, everyone = (
            len(set(units[(table["age_low"] >= start) & (table["age_high"] <= last)])) for start in (first, 0)
        )
        if text := too_few_text(policy, minors, everyone, part):
            raise ConfigError(text)


def _fit_policies(
    wanted: Sequence[AgePolicy], fitted: Calibration, predicted: Mapping[str, LabelledPredictions], part: str
) -> tuple[AgePolicy, ...]:
    """Fit policies on a part, add their rates on all parts, and log them beside those of the other rules."""
    calibrated = {name: _applied(fitted, faces) for name, faces in predicted.items()}
    found = []
    for policy in sorted(wanted, key=lambda each: each.legal_age):
        rules = [fit_policy(replace(policy, by=rule), calibrated[part]) for rule in RULES]
        rules = [
            replace(each, metrics={name: policy_rates(each, faces) for name, faces in calibrated.items()})
            for each in rules
        ]
        found += [each for each in rules if each.by == policy.by]
        for line in fitted_lines(rules, policy.by):
            log.info("%s", line)
        if found[-1].yes_from is None:
            log.warning(
                "%d or older: no threshold keeps the rate of wrong yes below %g: the decision is never yes",
                policy.legal_age, policy.max_fpr,
            )  # fmt: skip
    return tuple(found)


def _check_enough(data: FaceDataModule, part: str) -> None:
    """Raise ConfigError for a threshold of width if there are too few subjects for finite intervals."""
    table = getattr(data, f"{part}_dataset").table
    subjects = len(set(sampling_units(table[table["age_low"].notna()])))
    least = round(INTERVAL_LEVEL / (1 - INTERVAL_LEVEL))
    if subjects < least:
        raise ConfigError(
            f"--max_width needs 90 % intervals, which need at least {least} subjects with an age; the {part} "
            f"part has {subjects}"
        )


def _origin(data: FaceDataModule, part: str) -> dict[str, Any]:
    """Return dataset, split and label rule of a part as plain values."""
    record, subjects = data.provenance(), data.table.frame["subject"]
    kept = {key: record[key] for key in ("dataset", "protocol", "fold", "split_seed", "label_rule")}
    unit = "subjects" if (subjects != "").any() else "different images"
    return kept | {"part": part, "fingerprint": record["fingerprints"][part], "unit": unit}


def _predictor(
    model: MTMSA | Ensemble, data: FaceDataModule, accelerator: str, precision: Any
) -> Callable[[str], LabelledPredictions]:
    """Return a function that predicts the readable faces of a part with a matched model, on the CPU."""
    networks = members_of(model)
    heads = [copy.deepcopy(network.age) for network in networks]  # their outputs are kept on the CPU
    with as_config_error():
        precision = precision or best_precision(accelerator)
        fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    runs = [fabric.setup_module(network).eval() for network in networks]

    def outputs_of(images: torch.Tensor) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor | None] = {}
        for number, (network, run) in enumerate(zip(networks, runs, strict=True)):
            output = run(model.resized(network, images) if isinstance(model, Ensemble) else images)
            kept = {"raw": output.age_raw, "gender": output.gender, "race": output.race}
            found |= {f"{name}{number}": each for name, each in kept.items()}
        return {name: each for name, each in found.items() if each is not None}

    def joint(columns: Mapping[str, torch.Tensor]) -> FaceOutput:
        found = []
        for number, head in enumerate(heads):
            age = None if head is None else head.distribution(columns[f"raw{number}"])
            found.append(FaceOutput(age, columns.get(f"gender{number}"), columns.get(f"race{number}")))
        return model.mixed(found) if isinstance(model, Ensemble) else found[0]

    def predict(part: str) -> LabelledPredictions:
        table = getattr(data, f"{part}_dataset").table
        unit = torch.from_numpy(np.unique(sampling_units(table), return_inverse=True)[1])
        columns: dict[str, list[torch.Tensor]] = {}
        for batch in data.part_dataloader(part):
            batch = data.on_before_batch_transfer(batch, 0)
            with torch.no_grad():
                row = outputs_of(batch["image"].to(fabric.device))
            row |= {name: batch[name] for name in ("age_low", "age_high", "gender", "race")}
            row |= {"units": unit[batch["index"]]}
            for name, values in row.items():
                columns.setdefault(name, []).append(values.cpu()[batch["valid"]])
        joined = {name: torch.cat(values) for name, values in columns.items()}
        output = joint(joined)
        classes = {
            task: (mapping.logits(logits), mapping.labels(joined[task]))
            for task, mapping in model.class_mappings.items()
            if (logits := getattr(output, task)) is not None and mapping.common
        }
        ages = joined["age_low"], joined["age_high"]
        return LabelledPredictions(output.age, *ages, classes, joined["units"], model.age_groups)

    return predict


def _warn_outside(faces: LabelledPredictions, part: str) -> None:
    """Warn of labels outside the years of a categorical head, which count as the nearest year."""
    if faces.age is None:
        return
    ends = torch.stack([faces.low, faces.high]).double()
    outside = ((faces.age.nearest(ends) != ends) & ~ends.isnan()).any(0)
    if outside.any():
        log.warning(
            "%s part: the ages of %d of %s lie outside the years of the age head; likelihoods use the "
            "nearest of these years",
            part, outside.sum(), pluralize(int(faces.labelled.sum()), "face"),
        )  # fmt: skip


def _applied(calibration: Calibration, faces: LabelledPredictions) -> LabelledPredictions:
    """Return calibrated predictions."""
    classes = {
        task: (calibration.logits(task, logits), target) for task, (logits, target) in faces.classes.items()
    }
    age = None if faces.age is None else calibration.age(faces.age)
    return faces._replace(age=age, classes=classes)


def store_ensemble(model: Ensemble, calibration: Calibration | None, folder: Path) -> None:
    """Write the folder of an ensemble, with a calibration of the mixture or none; no network changes."""
    write_ensemble(folder, model.records(), None if calibration is None else calibration.to_dict())
    log.info("%s: %s", folder, "not calibrated" if calibration is None else "calibrated, networks unchanged")


def undo(ckpt_path: str | Sequence[str], out: Path | None = None) -> None:
    """Remove the calibration of a checkpoint or of an ensemble, whose networks then have their own again."""
    paths = [ckpt_path] if isinstance(ckpt_path, str) else [*ckpt_path]
    if names_ensemble(paths):
        model = load_networks(paths, MTMSA.load)
        assert isinstance(model, Ensemble)
        store_ensemble(model, None, out or Path(paths[0]))
    else:
        store(paths[0], None, out)


def store(
    ckpt_path: str, calibration: Calibration | None, out: Path | None = None, flip_test: bool | None = None
) -> None:
    """Write a checkpoint, or ``out``, with another calibration or none; nothing else in it changes.

    Model cards that quote its metrics are written again. ``flip_test`` None keeps the stored value.
    ConfigError for the starter without ``out``.
    """
    if out is None:
        refuse_change(checkpoint_file(ckpt_path))
    checkpoint = read_checkpoint(ckpt_path)
    if flip_test is not None:
        checkpoint["hyper_parameters"]["flip_test"] = flip_test
    checkpoint.pop("calibration", None)
    if calibration is not None:
        checkpoint["calibration"] = calibration.to_dict()
    file = out or checkpoint_file(ckpt_path)
    if file.name == WEIGHTS:
        write_pretrained(checkpoint, file.parent)
    else:
        AtomicCheckpointIO().save_checkpoint(checkpoint, file)
    update_cards(file, checkpoint.get("calibration"))
    log.info("%s: %s", file, "not calibrated" if calibration is None else "calibrated, weights unchanged")
