"""Write a checkpoint in a format, compare it with PyTorch, time it, and move it to its target."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mtmsa_lightning._utils.atomic_write import write_text
from mtmsa_lightning._utils.folders import make_folder
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.export import onnx_file, quantised, torch_program
from mtmsa_lightning.export.formats import (
    ENDINGS,
    Format,
    Precision,
    check_combination,
    check_packages,
    check_target,
)
from mtmsa_lightning.export.metadata import describe_export
from mtmsa_lightning.export.network import ExportNetwork, named_outputs, traced
from mtmsa_lightning.export.parity import BATCH_SIZES, BOUNDS, Runner, check, compare, runner_of
from mtmsa_lightning.export.sample_faces import drawn_faces, faces_of, faces_of_run
from mtmsa_lightning.export.speed import images_per_second
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.reports.card import CARD, card_of_checkpoint
from mtmsa_lightning.runs.checkpoints import read_checkpoint
from mtmsa_lightning.runs.ensemble import Ensemble, load_networks
from mtmsa_lightning.runs.ensemble_folder import folder_of_results, names_ensemble, network_files
from mtmsa_lightning.runs.pretrained import README, write_pretrained

log = logging.getLogger(__name__)

FACES = 32  # number of faces for the comparison with PyTorch
FACES_INT8 = 128  # real faces for int8: every second one for the ranges, the others for the comparison
FEWEST_INT8 = 32  # minimum of real faces for int8


def export(
    ckpt_path: str | Sequence[str],
    form: Format,
    precision: Precision = Precision.FP32,
    dynamic: bool = False,
    faces: Sequence[Path] = (),
    out: Path | None = None,
) -> Path:
    """Write a checkpoint, or several as one, in a format for other programs, with its model card.

    Returns the path.

    Args:
        ckpt_path: A checkpoint, a run directory, or a folder of ``save_pretrained``; several, or the folder
            of an ensemble, are one mixture, see :class:`.Ensemble`, in one file.
        form: The format.
        precision: Precision of the trunk.
        dynamic: Take batches of any size instead of one face.
        faces: Images and folders of faces, cropped as in training, for the comparison; by default synthetic
            faces, and for int8, whose ranges come from faces, the validation part of the checkpoint's run.
        out: The target; by default in ``<run>/export/``. An existing export is replaced.

    Raises:
        ConfigError: Format and precision cannot be combined, a package is missing or there are too few faces.
        ParityError: The outputs of the file differ from PyTorch's; it is removed.
    """
    check_combination(form, precision, dynamic)
    check_packages(form)
    paths = [ckpt_path] if isinstance(ckpt_path, str) else ckpt_path
    checkpoint, several = network_files(paths)[0], names_ensemble(paths)
    if several and form is Format.SAFETENSORS:
        raise ConfigError("--format safetensors takes one network: save each network of an ensemble")
    name = "ensemble" if several else checkpoint.stem
    target = (out or default_target(folder_of_results(paths), name, form, precision)).absolute()
    check_target(target, form)
    model = load_networks(paths, MTMSA.load)
    log.info("%s", model.describe())
    ranges, tried = faces_to_try(model, str(checkpoint), precision, faces)
    make_folder(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        made = Path(folder) / target.name
        run = write(model, checkpoint, made, form, precision, dynamic, ranges)
        batches = dynamic or form is Format.SAFETENSORS
        found = compare(model, run, tried, BATCH_SIZES if batches else (1,))
        check(found, BOUNDS[precision])
        log.info("differs from PyTorch by at most %s", found.describe())
        if form is not Format.SAFETENSORS:
            for line in speed_lines(model, run, tried, form, batches):
                log.info("%s", line)
        card = card_of_checkpoint(checkpoint) + (
            f"\n## This file\n\n`{target.name}`: {form}, {precision}. The metrics above are those of the "
            f"checkpoint; this file differs from it by at most {found.describe()}.\n"
        )
        if isinstance(model, Ensemble):
            text = model.describe_calibration()
            calibrated = f", {text}" if text else ""
            card += (
                f"\nIt is the mixture of {len(model.members)} networks with equal weights{calibrated}; all "
                "other sections are on the first of them.\n"
            )
        if form is Format.SAFETENSORS:
            write_text(made / README, card)
        if target.is_dir():
            shutil.rmtree(target)
        made.replace(target)
        if form is not Format.SAFETENSORS:
            beside = target.with_name(f"{target.name}.{CARD}")
            write_text(beside, card)
            log.info("model card: %s", beside)
    return target


def default_target(folder: Path, name: str, form: Format, precision: Precision) -> Path:
    """Return ``<folder>/export/<name>[-<precision>]<suffix>``."""
    suffix = "" if precision is Precision.FP32 else f"-{precision}"
    return folder / "export" / f"{name}{suffix}{ENDINGS[form]}"


def faces_to_try(
    model: MTMSA | Ensemble, checkpoint: str, precision: Precision, paths: Sequence[Path]
) -> tuple[Tensor, Tensor]:
    """Return faces for the ranges of int8 (none for other precisions), and for the comparison."""
    if precision is not Precision.INT8:
        faces = faces_of(model, paths, FACES) if paths else drawn_faces(model, FACES)
        return faces[:0], faces
    faces = faces_of(model, paths, FACES_INT8) if paths else faces_of_run(model, checkpoint, FACES_INT8)
    if len(faces) < FEWEST_INT8:
        raise ConfigError(
            f"--precision int8 needs {FEWEST_INT8} real faces or more, there are {len(faces)}: give "
            "--images FOLDER, with faces cropped as in training"
        )
    return faces[::2], faces[1::2]


def write(
    model: MTMSA | Ensemble,
    checkpoint: Path,
    made: Path,
    form: Format,
    precision: Precision,
    dynamic: bool,
    ranges: Tensor,
) -> Runner:
    """Write a file, or the folder of safetensors, and return a function that runs it."""
    if form is Format.SAFETENSORS:
        write_pretrained(read_checkpoint(checkpoint), made, half=precision is Precision.FP16)
        return runner_of(MTMSA.load(str(made)))
    size = model.image_size
    with torch.inference_mode():
        names = tuple(named_outputs(model, torch.zeros(1, 3, size, size, dtype=torch.uint8)))
    metadata = describe_export(model, names, precision, dynamic)
    program = traced(ExportNetwork(model, half=precision is Precision.FP16), dynamic)
    if form is Format.TORCH_EXPORT:
        torch_program.write(program, made, metadata)
        return torch_program.runner(made)
    onnx_file.write(program, made, names, metadata)
    if precision is Precision.INT8:
        full = made.replace(made.with_name("full.onnx"))
        quantised.quantise(full, made, ranges)
        onnx_file.add_metadata(made, metadata)
    return onnx_file.runner(made, torch.get_num_threads())


def speed_lines(
    model: MTMSA | Ensemble, run: Runner, faces: Tensor, form: Format, batches: bool
) -> list[str]:
    """Return lines on the speed of a file and of PyTorch with the same number of threads."""
    threads = pluralize(torch.get_num_threads(), "thread")
    name = {Format.ONNX: "ONNX Runtime", Format.TORCH_EXPORT: "torch.export"}[form]
    pytorch = runner_of(model)
    lines = []
    for size in (1, min(32, len(faces))) if batches else (1,):
        batch = faces[:size].numpy()
        ways = {"PyTorch": partial(pytorch, batch), name: partial(run, batch)}
        speed = images_per_second(ways, size)
        where = f"on the CPU, {threads}, batches of {pluralize(size, 'image')}"
        lines.append(f"{where}: {compared_speed(name, speed[name], speed['PyTorch'])}")
    return lines


def compared_speed(name: str, speed: float, pytorch: float) -> str:
    """Return a text on the speed of a file and PyTorch, given in images per second."""
    ratio = speed / pytorch
    times = f"{ratio:.1f} times as fast" if ratio >= 1 else f"{1 / ratio:.1f} times as slow"
    return f"{name} takes {1000 / speed:.1f} ms per image, PyTorch {1000 / pytorch:.1f} ms: {times}"
