"""``mtmsa evaluate``: test a checkpoint and write a report beside it."""

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmsa_lightning.errors import ConfigError

if TYPE_CHECKING:
    from mtmsa_lightning.data.dataset import FaceDataset
    from mtmsa_lightning.evaluation.report import Images, ReportContext
    from mtmsa_lightning.training import TrainingCLI

log = logging.getLogger(__name__)

FREE_DATA_SETTINGS = ("num_workers", "batch_size", "augment", "verify", "strict")
"""Settings of the data that do not change what is evaluated."""


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of the verb; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="mtmsa evaluate",
        usage="mtmsa evaluate --ckpt_path C [--config X] [--out DIR] [--faces false] [--KEY VALUE ...]",
        description="Test a checkpoint and write a report: one HTML page, figures (SVG, PNG), tables (CSV) "
        "and per-image predictions. The checkpoint's own run says which data; --config and --data.KEY "
        "choose other data. All arguments of `mtmsa test` may be given.",
        allow_abbrev=False,
    )
    parser.add_argument("--ckpt_path", required=True, help="a checkpoint, or a run directory (its best.ckpt)")
    parser.add_argument(
        "--out", type=Path, help="folder of the report (default: <run>/evaluation, for other data "
        "<run>/evaluation-<dataset>-<protocol>-fold<k>)",
    )  # fmt: skip
    parser.add_argument(
        "--faces", choices=("true", "false"), default="true",
        help="show photos in the page: the best, worst and most uncertain, and attention (default: true)",
    )  # fmt: skip
    return parser


def main(args: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        MTMSAError: For whatever the user can mend, before any work.
    """
    options, others = parser().parse_known_args(args)
    evaluate(options.ckpt_path, others, options.out, faces=options.faces == "true")


def evaluate(ckpt_path: str, args: Sequence[str] = (), out: Path | None = None, faces: bool = True) -> None:
    """Test a checkpoint and write its report.

    Args:
        ckpt_path: A checkpoint or a run directory.
        args: Further arguments of ``mtmsa test``.
        out: Folder of the report; by default one inside the checkpoint's run.
        faces: Show photos in the page.
    """
    from mtmsa_lightning.evaluation.attention import attend
    from mtmsa_lightning.evaluation.report import write_report
    from mtmsa_lightning.training import run_trainer_verb

    cli = run_trainer_verb("test", [*args, f"--ckpt_path={ckpt_path}"], partial(report_folder, out))
    if not cli.trainer.is_global_zero:
        return
    test = cli.datamodule.test_dataset
    attention = attend(cli.model, test, cli.trainer.strategy.root_device)
    images = face_images(test) if faces else None
    write_report(cli.writer.table, cli.run, report_context(cli), images, attention)
    log.info("report: %s", cli.run / "report.html")


def face_images(data: "FaceDataset") -> "Images":
    """Return a function that gives the face of an id as the network sees it."""
    rows = {name: row for row, name in enumerate(data.table["id"])}
    return lambda name: data[rows[name]]["image"].permute(1, 2, 0).numpy()


def report_context(cli: "TrainingCLI") -> "ReportContext":
    """Gather what the figures of a test must be quoted with."""
    from mtmsa_lightning.evaluation.report import ReportContext
    from mtmsa_lightning.runs import read_config, read_record

    record = read_record(cli.run)
    run = run_of(Path(record["checkpoint"]))
    trained = read_config(run) if run else {}
    return ReportContext(
        title=str(trained.get("name", record["name"])),
        data=record["data"],
        checkpoint=record["checkpoint"],
        trained_on=cli.model.provenance,
        seed=trained.get("seed_everything"),
        versions=record["versions"],
        command=record["command"],
        notes=tuple(cli.datamodule.split.notes),
    )


def run_of(checkpoint: Path) -> Path | None:
    """Return the run directory that a checkpoint lies in, if any."""
    run = checkpoint.absolute().parent.parent
    return run if (run / "config.yaml").is_file() else None


def report_folder(out: Path | None, checkpoint: str, settings: dict[str, Any]) -> Path:
    """Choose the folder of a report so that none is written over that of something else.

    Args:
        out: What the user chose, if anything.
        checkpoint: File of the checkpoint.
        settings: All settings of the test.

    Returns:
        ``evaluation`` inside the checkpoint's run for that run's own data, else ``evaluation-<dataset>-
        <protocol>-fold<k>``; the name of a checkpoint other than ``best`` is part of it. A checkpoint that
        lies in no run has it beside it.

    Raises:
        ConfigError: If the folder holds something else.
    """
    file = Path(checkpoint).absolute()
    run, data = run_of(file), _data_settings(settings)
    name = "evaluation" if file.stem == "best" else f"evaluation-{file.stem}"
    if run is None or _changes(run, data):
        dataset = data["class_path"].rpartition(".")[2].lower()
        name += f"-{dataset}-{data['protocol']}-fold{data['fold']}"
    folder = (out or (run or file.parent) / name).absolute()
    if folder.is_dir() and any(folder.iterdir()):
        _refuse_to_lose(folder, str(file), data)
    return folder


def _refuse_to_lose(folder: Path, checkpoint: str, data: dict[str, Any]) -> None:
    """Raise unless all that a folder holds is an older report of the same checkpoint on the same data."""
    from mtmsa_lightning.runs import read_record

    holds = None
    if not (folder / "config.yaml").is_file() or (folder / "checkpoints").exists():
        holds = "other files"
    elif (before := read_record(folder).get("checkpoint")) != checkpoint:
        holds = f"a report on {before}"
    elif changes := _changes(folder, data):
        holds = f"a report on other data ({'; '.join(changes[:4])})"
    if holds:
        raise ConfigError(f"{folder} holds {holds}: choose another folder with --out")


def _changes(folder: Path, data: dict[str, Any]) -> list[str]:
    """List how settings of the data differ from a folder's ``config.yaml``, in what both name."""
    from mtmsa_lightning.runs import differences, read_config

    recorded = _data_settings(read_config(folder))
    return differences(recorded, {key: value for key, value in data.items() if key in recorded}, "data")


def _data_settings(settings: dict[str, Any]) -> dict[str, Any]:
    data = settings.get("data") or {}
    values = {"class_path": data.get("class_path")} | (data.get("init_args") or {})
    return {key: value for key, value in values.items() if key not in FREE_DATA_SETTINGS}
