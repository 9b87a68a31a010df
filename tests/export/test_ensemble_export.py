"""An ensemble in one file."""

import numpy as np
import pytest
import torch

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.export.exporting import export, write
from mtmsa_lightning.export.formats import Format, Precision
from mtmsa_lightning.export.metadata import describe_export
from mtmsa_lightning.export.network import named_outputs
from mtmsa_lightning.export.parity import BOUNDS, check, compare
from mtmsa_lightning.export.sample_faces import drawn_faces
from mtmsa_lightning.runs.ensemble import Ensemble


@pytest.fixture(scope="module")
def ensemble(network_of):
    """Two networks with other weights and heads."""
    networks = {"a": network_of("GaussianAgeHead", calibrated=True), "b": network_of("GaussianAgeHead")}
    torch.nn.init.normal_(networks["b"].trunk.conv.weight, std=0.3)
    return Ensemble(networks).eval()


@pytest.mark.slow
def test_one_program_holds_all_networks(ensemble, tmp_path):
    """That of torch.export; ONNX's is made of it, in a multiple of the time."""
    nothing = torch.zeros(0, 3, 64, 64, dtype=torch.uint8)
    file = tmp_path / "ages.pt2"
    run = write(ensemble, tmp_path / "a.ckpt", file, Format.TORCH_EXPORT, Precision.FP32, True, nothing)
    clamped = [node.args[0] for node in torch.export.load(file).graph.nodes if "clamp" in str(node.target)]
    assert len(set(clamped)) == len(clamped), "or the optimiser of ONNX files makes an invalid one"
    faces = drawn_faces(ensemble, 5)
    check(compare(ensemble, run, faces, (2, 3)), BOUNDS[Precision.FP32])
    outputs = run(faces.numpy())
    total = outputs["age_std_within"] ** 2 + outputs["age_std_between"] ** 2
    np.testing.assert_allclose(outputs["age_std"] ** 2, total, rtol=1e-4)
    assert (outputs["age_std_between"] > 0.1).any()


def test_outputs_are_those_of_the_networks(ensemble):
    faces = drawn_faces(ensemble, 3)
    with torch.inference_mode():
        mixed = named_outputs(ensemble, faces)
        each = [named_outputs(network, faces) for network in ensemble.members]
    mean = torch.stack([outputs["gender_probs"] for outputs in each]).mean(0)
    torch.testing.assert_close(mixed["gender_probs"], mean)


def test_a_mixture_of_calibrated_networks_is_described_as_such(ensemble):
    said = describe_export(ensemble, ["age_mean"], Precision.FP32, dynamic=True)
    assert said["calibrated"] == "1 of 2 networks calibrated by themselves, not the mixture"
    assert said["calibration"] is None


def test_an_ensemble_is_no_folder_of_weights(new_network, save, tmp_path):
    file = str(save(new_network(), tmp_path / "a.ckpt"))
    with pytest.raises(ConfigError, match="safetensors takes one network"):
        export([file, file], Format.SAFETENSORS)
