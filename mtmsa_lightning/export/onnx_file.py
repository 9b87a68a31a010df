"""ONNX files, in float32 or with a trunk in float16; :mod:`.quantised` makes int8 files of them."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtmsa_lightning._utils.strict_json import to_json
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.export.network import INPUT
from mtmsa_lightning.export.parity import Runner

SUMMARY = (
    "From RGB faces: apparent age in years with its interval, and gender and race as a dataset has them."
)

OPSET = 18  # version of the operators, the lowest that PyTorch's exporter writes without conversion


def write(
    program: torch.export.ExportedProgram, file: Path, names: Sequence[str], metadata: Mapping[str, Any]
) -> None:
    """Write an ONNX file; each value of the metadata goes into its ``metadata_props`` as JSON."""
    with _quiet():
        converted = torch.onnx.export(
            program, dynamo=True, input_names=[INPUT], output_names=names, opset_version=OPSET, verbose=False
        )
    assert converted is not None
    converted.save(file, external_data=False)
    add_metadata(file, metadata)


def add_metadata(file: Path, metadata: Mapping[str, Any]) -> None:
    """Replace the metadata of an ONNX file, including the fields that viewers show."""
    import onnx

    model = onnx.load(file)
    onnx.helper.set_model_props(model, {name: to_json(value) for name, value in metadata.items()})
    model.producer_name, _, model.producer_version = metadata["producer"].partition(" ")
    model.doc_string = f"{SUMMARY} {metadata['licence']}"
    descriptions = metadata["outputs"] | {INPUT: f"{metadata['input']['layout']}: {metadata['input']['how']}"}
    graph = model.graph
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param  # the exporter's name of "n"
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.doc_string = descriptions.get(value.name, "")
        for dimension in value.type.tensor_type.shape.dim:
            if batch and dimension.dim_param == batch:
                dimension.dim_param = "n"
    onnx.save(model, file)


def session(file: Path, threads: int = 0) -> Any:
    """Open a file in ONNX Runtime on the CPU; ``threads`` is 0 for one per core.

    Raises:
        ConfigError: The file cannot be run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # or it warns that float16 is computed in float32
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no base class of errors
        raise ConfigError(f"ONNX Runtime cannot run the file: {error}") from error


def runner(file: Path, threads: int = 0) -> Runner:
    """Open a file and return a function that runs it."""
    opened = session(file, threads)
    names = [output.name for output in opened.get_outputs()]

    def run(faces: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        return dict(zip(names, opened.run(None, {INPUT: faces}), strict=True))

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the messages of PyTorch's exporter."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
