"""Test a checkpoint and write the report to a folder of its run."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.folders import is_empty, locked
from mtmsa_lightning._utils.launch import is_first_process
from mtmsa_lightning._utils.nested_dicts import differences
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.evaluation.attention import attend
from mtmsa_lightning.reports.calibration_tables import why_not_exchangeable
from mtmsa_lightning.reports.card import CARD, card_of_checkpoint, evaluation_name
from mtmsa_lightning.reports.report import write_report
from mtmsa_lightning.reports.report_context import ReportContext
from mtmsa_lightning.reports.report_options import DEFAULT_OPTIONS, ReportOptions
from mtmsa_lightning.runs.directory import BEGINNING, results_folder, run_of
from mtmsa_lightning.runs.recorded_settings import read_config
from mtmsa_lightning.runs.run_json import partial_note, read_record
from mtmsa_lightning.runs.status import PLACES, recorded_seed
from mtmsa_lightning.training.lightning_cli import TrainingCLI, leave_process_group
from mtmsa_lightning.training.stressing import check_stress, estimate_stressed
from mtmsa_lightning.training.trainer_commands import run_trainer_command

log = logging.getLogger(__name__)

FREE_DATA_SETTINGS = (
    "num_workers", "batch_size", "augment", "verify", "strict",
    "sampler", "balance_by", "balance_strength", "balance_smoothing",
)  # fmt: skip
"""Settings of the data that do not change the results of a test."""


def evaluate(
    ckpt_path: str,
    args: Sequence[str] = (),
    out: Path | None = None,
    faces: bool = True,
    stress: Sequence[str] = (),
    options: ReportOptions = DEFAULT_OPTIONS,
) -> None:
    """Test a checkpoint and write its report and its model card.

    Args:
        ckpt_path: The checkpoint.
        args: Arguments of ``mtmsa test``.
        out: Folder of the report, see :func:`report_folder`.
        faces: Whether the page shows photos.
        stress: Names of the changes of photos to evaluate too.
        options: What else the user chose for the report.
    """
    with ExitStack() as held:
        build = partial(EvaluationCLI, out, stress, held=held)
        cli = run_trainer_command("test", [*args, f"--ckpt_path={ckpt_path}"], build)
        if not cli.trainer.is_global_zero:
            return
        test = cli.datamodule.test_dataset
        device = cli.trainer.strategy.root_device
        attention = attend(cli.model, test, device, min_faces=options.min_faces)
        images = test.image_of if faces else None
        changed = estimate_stressed(cli.model, cli.datamodule, stress, device, faces) if stress else None
        context, table = report_context(cli), cli.writer.table
        write_report(table, cli.run, context, images, attention, changed, options)
        write_text(cli.run / CARD, card_of_checkpoint(Path(cli.settings.ckpt_path), cli.run))
        TrainingCLI._finish(cli)  # now that the files exist
        log.info("report: %s", cli.run / "report.html")


class EvaluationCLI(TrainingCLI):
    """The command ``test`` with its files in the folder of a report, ``out`` or the default one."""

    predictions = "predictions.parquet"

    def __init__(self, out: Path | None, stress: Sequence[str], *args: Any, **kwargs: Any) -> None:
        self.out, self.stress = out, stress
        super().__init__(*args, **kwargs)

    def _open_run(self) -> None:
        self.run = report_folder(self.out, self.settings.ckpt_path, self.plain_settings)
        if is_first_process():
            self.held.enter_context(locked(self.run, "mtmsa evaluate", worthless=BEGINNING))

    def instantiate_classes(self) -> None:
        """Build data, model and trainer, and check that changed photos can be evaluated."""
        super().instantiate_classes()
        if self.stress:
            check_stress(self.model, self.datamodule)

    def _finish(self) -> None:
        """Leave the rest to :func:`evaluate`, which writes the report first."""
        leave_process_group()


def report_context(cli: TrainingCLI) -> ReportContext:
    """Return everything that the results of a test must be quoted with."""
    record = read_record(cli.run)
    guess = record.get("constant_age_mae")
    notes = [] if guess is None else [f"Guessing one age for all faces gives an age MAE of {guess:.2f}."]
    run = run_of(Path(record["checkpoint"]))
    trained = read_config(run) if run else {}
    return ReportContext(
        title=str(trained.get("name", record["name"])),
        data=of_this_split(record["data"], cli.model.provenance),
        checkpoint=record["checkpoint"],
        trained_on=cli.model.provenance,
        seed=recorded_seed(cli.run),
        versions=record["versions"],
        command=record["command"],
        calibration=record.get("calibration"),
        weights=record["weights"],
        partial=partial_note(record, "test"),
        sources=_of_sources(record),
        notes=(*notes, *record["data"]["notes"], *cli.model.overlap, *_coverage_notes(cli)),
    )


def _of_sources(record: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the test metrics of every source of a mixture; empty for other data."""
    return {
        name: {
            key.removeprefix(f"test/{name}/"): value
            for key, value in record["test"].items()
            if key.startswith(f"test/{name}/")
        }
        for name in record["data"].get("sources", {})
    }


def of_this_split(data: dict[str, Any], trained_on: dict[str, Any] | None) -> dict[str, Any]:
    """Return the record of test data, without statements on its split if the checkpoint has other data."""
    if not trained_on or trained_on["dataset"] == data["dataset"]:
        return data
    return data | {"subjects_in_two_parts": None}  # the training part was not trained on


def _coverage_notes(cli: TrainingCLI) -> tuple[str, ...]:
    """Return notes on why the coverage of a calibration may not hold on the test part."""
    calibration, data = cli.model.calibration, cli.datamodule
    if calibration is None or not calibration.quantiles:
        return ()
    elsewhere = calibration.fitted_on["dataset"]
    reasons = [f"they were fitted on {elsewhere}"] if elsewhere != data.source else why_not_exchangeable(data)
    return (f"The intervals may not reach their coverage here: {'; '.join(reasons)}.",) if reasons else ()


def report_folder(out: Path | None, checkpoint: str, settings: dict[str, Any]) -> Path:
    """Return the folder of a report; refuse one that holds something else.

    By default it is ``evaluation`` in the checkpoint's run for the data of that run, else
    ``evaluation-<dataset>-<protocol>-fold<k>``; the name contains that of a checkpoint other than ``best``.
    For a checkpoint that is in no run, the folder is beside it, for the starter in ``runs/starter``.

    Raises:
        ConfigError: The folder holds something else.
    """
    file = Path(checkpoint).absolute()
    run, data = run_of(file), _data_settings(settings)
    name = evaluation_name(file)
    if run is None or _changes(run, data):
        dataset = data["class_path"].rpartition(".")[2].lower()
        name += f"-{dataset}"
        name += f"-{data['protocol']}-fold{data['fold']}" if "protocol" in data else ""  # not of a mixture
    folder = (out or results_folder(file) / name).absolute()
    _refuse_to_lose(folder, data, None if out is None else str(file))
    return folder


@rank_zero_only
def _refuse_to_lose(folder: Path, data: dict[str, Any], checkpoint: str | None) -> None:
    """Raise ConfigError if a folder holds anything but an older report on the same data."""
    if is_empty(folder):
        return
    runs_own = ("checkpoints", "predictions", "metrics.csv")
    before, holds = read_record(folder).get("checkpoint", "unknown"), None
    if not (folder / "config.yaml").is_file() or any((folder / name).exists() for name in runs_own):
        holds = "other files"
    elif changes := _changes(folder, data):
        holds = f"a report on other data ({'; '.join(changes[:4])})"
    elif checkpoint not in (None, before):
        holds = f"a report on {before}"
    if holds is not None:
        raise ConfigError(f"{folder} holds {holds}: choose another folder with --out")


def _changes(folder: Path, data: dict[str, Any]) -> list[str]:
    """Return how settings of the data differ from a folder's ``config.yaml``, among those in both."""
    places = read_record(folder).get("places") or {}
    recorded = _data_settings(read_config(folder)) | {key: places[key] for key in PLACES if key in places}
    both = {key: value for key, value in data.items() if key in recorded}
    by_default = [key for key in PLACES if both.get(key) is None]  # which may have moved
    for key in by_default:
        recorded.pop(key, None), both.pop(key, None)
    return differences(recorded, both, "data")


def _data_settings(settings: dict[str, Any]) -> dict[str, Any]:
    data = settings.get("data") or {}
    values = {"class_path": data.get("class_path")} | (data.get("init_args") or {})
    values |= {key: str(Path(values[key]).absolute()) for key in PLACES if values.get(key) is not None}
    if isinstance(values.get("sources"), list):  # of a mixture, whose places may have moved
        free = (*FREE_DATA_SETTINGS, *PLACES)
        values["sources"] = [
            {"class_path": source.get("class_path")}
            | {key: value for key, value in (source.get("init_args") or {}).items() if key not in free}
            for source in values["sources"]
        ]
    return {key: value for key, value in values.items() if key not in FREE_DATA_SETTINGS}
