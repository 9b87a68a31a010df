"""``mtmsa predict``: ages, genders and races of image files, by a checkpoint alone."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of the verb; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="mtmsa predict",
        description="Predict age (with its uncertainty), gender and race of cropped faces. "
        "The checkpoint knows its own preprocessing and classes: no config is needed.",
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="image files, and folders of images"
    )
    parser.add_argument(
        "--ckpt_path",
        required=True,
        help="a checkpoint, a run directory (its best.ckpt), or a folder of runs",
    )
    parser.add_argument("--out", required=True, type=Path, help="table to write: .csv or .parquet")
    parser.add_argument("--batch_size", type=int, default=64, help="faces per step and process (default: 64)")
    parser.add_argument("--num_workers", type=int, help="loader processes (default: one per core, at most 8)")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu, ... (default: auto)")
    parser.add_argument("--devices", default="1", help="number of devices or processes (default: 1)")
    parser.add_argument("--strategy", default="auto", help="Lightning strategy, e.g. ddp (default: auto)")
    parser.add_argument(
        "--precision", help="Lightning precision, e.g. bf16-mixed or 64-true (default: 32-true)"
    )
    return parser


def main(args: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        MTMSAError: If the checkpoint, a path or the output's ending is of no use, before any work.
    """
    options = parser().parse_args(args)
    predict(**vars(options))


def predict(
    paths: Sequence[Path],
    ckpt_path: str,
    out: Path,
    batch_size: int = 64,
    num_workers: int | None = None,
    accelerator: str = "auto",
    devices: str | int = 1,
    strategy: str = "auto",
    precision: str | None = None,
) -> None:
    """Predict images and write a table with one row per readable image, in the order given.

    Args:
        paths: Image files and folders.
        ckpt_path: A checkpoint or a run directory.
        out: A ``.csv`` or ``.parquet`` file.
        batch_size: Faces per step and process.
        num_workers: Loader processes.
        accelerator: As in ``Trainer``.
        devices: As in ``Trainer``.
        strategy: As in ``Trainer``.
        precision: As in ``Trainer``.
    """
    from lightning.pytorch import Trainer

    from mtmsa_lightning.callbacks.predictions import PredictionWriter
    from mtmsa_lightning.data.folder import FaceFolder
    from mtmsa_lightning.errors import DataError
    from mtmsa_lightning.messages import told_shortly
    from mtmsa_lightning.module import MTMSA

    writer = PredictionWriter(out, labels=False)
    model = MTMSA.load(ckpt_path)
    data = FaceFolder(paths, model.image_size, model.crop, batch_size, num_workers)
    log.info("%s", model.describe())
    with told_shortly():
        trainer = Trainer(
            accelerator=accelerator, devices=devices, strategy=strategy, precision=precision,  # type: ignore[arg-type]
            callbacks=[writer], logger=False, enable_checkpointing=False, enable_model_summary=False,
            use_distributed_sampler=False,
        )  # fmt: skip
    trainer.predict(model, datamodule=data, return_predictions=False)
    if trainer.is_global_zero:
        done = set(writer.table["id"])
        for name in [name for name in data.predict_dataset.table["id"] if name not in done]:
            log.warning("skipped %s: %s", name, data.faults.get(name, "cannot be read"))
        if not done:
            raise DataError(f"none of the {len(data.predict_dataset)} images could be read")
        print(f"{len(done)} of {len(data.predict_dataset)} images predicted: {out}")
