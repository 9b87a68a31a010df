"""Programs of ``torch.export``, which PyTorch runs without this package."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning.export.parity import Runner

METADATA = "metadata.json"  # name of the extra file with the metadata


def write(program: torch.export.ExportedProgram, file: Path, metadata: Mapping[str, Any]) -> None:
    """Write a ``.pt2`` file; the metadata goes into its extra file ``metadata.json``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, file, extra_files={METADATA: to_json(metadata)})


def runner(file: Path) -> Runner:
    """Open a program and return a function that runs it."""
    program = torch.export.load(file).module()

    def run(faces: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            outputs: dict[str, torch.Tensor] = program(torch.from_numpy(faces))
        return {name: values.numpy() for name, values in outputs.items()}

    return run
