"""Make the starter from a calibrated run: test it, and write the network and its model card.

python weights/starter/make.py RUN [--root DATA]
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtmsa_lightning.cli.main import main as mtmsa
from mtmsa_lightning.errors import CheckpointError, MTMSAError
from mtmsa_lightning.runs.checkpoints import find_checkpoint, read_checkpoint
from mtmsa_lightning.runs.directory import run_of
from mtmsa_lightning.runs.pretrained import WEIGHTS
from mtmsa_lightning.runs.recorded_settings import read_config
from mtmsa_lightning.runs.starter import NETWORK, PACKAGE
from mtmsa_lightning.runs.status import unfinished

TARGET = Path(__file__).parent / PACKAGE / NETWORK
LARGEST = 45_000_000
"""Most bytes of the weights: they are committed."""


def main(args: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory or checkpoint")
    parser.add_argument("--root", help="folder of the run's data (default: as recorded)")
    options = parser.parse_args(args)
    try:
        make(options.run, options.root)
    except MTMSAError as error:
        raise SystemExit(f"error: {error}") from None


def make(run: Path, root: str | None = None, target: Path = TARGET) -> None:
    """Evaluate a run, and write its network as float16 with its model card.

    Raises:
        CheckpointError: See :func:`check`.
        SystemExit: A command of ``mtmsa`` failed.
    """
    file = find_checkpoint(run)
    check(file, read_checkpoint(file))
    faces = root or _root(file)
    mtmsa(["evaluate", "--ckpt_path", str(file), "--faces", "false", *(["--root", root] if root else [])])
    images = ["--images", faces] if faces else []
    form = ["--format", "safetensors", "--precision", "fp16"]
    mtmsa(["export", "--ckpt_path", str(file), *form, *images, "--out", str(target)])
    size = (target / WEIGHTS).stat().st_size
    if size > LARGEST:
        raise CheckpointError(f"{target / WEIGHTS}: {size:,} bytes, at most {LARGEST:,} may be committed")


def check(file: Path, checkpoint: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a run that is not calibrated, or whose card could not say how good it is."""
    provenance = checkpoint.get("provenance") or {}
    run = run_of(file)
    if run is None:
        raise CheckpointError(f"{file}: in no run: its training is not recorded")
    if note := unfinished(run):
        raise CheckpointError(f"{run}: {note}")
    if checkpoint.get("calibration") is None:
        raise CheckpointError(f"{file}: not calibrated: first `mtmsa calibrate --ckpt_path {run}`")
    if checkpoint["calibration"]["fitted_on"].get("chose_checkpoint"):
        raise CheckpointError(
            f"{file}: calibrated on the validation faces, which also chose it: train with "
            "--data.calibration_fraction 0.1"
        )
    if not (provenance.get("faces") or {}).get("test"):
        raise CheckpointError(f"{file}: no faces were held out for a test: choose a protocol with test faces")
    if provenance.get("train_id_hashes") is None:
        raise CheckpointError(f"{file}: no hashes of its training faces: a test on them could not be refused")


def _root(file: Path) -> str | None:
    """Return the folder of the run's data, if it is there: its faces are those of the comparison."""
    run = run_of(file)
    data = (read_config(run).get("data") or {}) if run else {}
    root = (data.get("init_args") or {}).get("root")
    return root if root and Path(root).is_dir() else None


if __name__ == "__main__":
    main()
