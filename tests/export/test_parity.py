"""Every head, in formats of programs: what the file says is what PyTorch says."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from scipy.stats import norm
from torch.fx.experimental.proxy_tensor import make_fx

from mtmsa_lightning import __version__
from mtmsa_lightning.export import onnx_file, quantised, torch_program
from mtmsa_lightning.export.formats import Precision
from mtmsa_lightning.export.metadata import describe_export
from mtmsa_lightning.export.network import OUTPUTS, ExportNetwork, named_outputs, traced
from mtmsa_lightning.export.parity import BOUNDS, Bound, Differences, ParityError, check, compare, runner_of
from mtmsa_lightning.labels import AGE_GROUP_EDGES
from mtmsa_lightning.models.class_mapping import ClassMapping
from mtmsa_lightning.models.heads import age as age_heads
from mtmsa_lightning.runs.checkpoints import weights_digest

OF_ONE = {name: text for name, text in OUTPUTS.items() if not text.startswith("of an ensemble")}
"""Outputs of a single network."""

EXPORTED = {
    "CoralAgeHead": {"calibrated": True},
    "CornAgeHead": {},
    "CrossEntropyAgeHead": {"calibrated": True},
    "GaussianAgeHead": {"calibrated": True, "groups": True},
    "L1AgeHead": {"calibrated": True},
    "L2AgeHead": {},
}
"""Heads that are exported to ONNX; calibration and groups in turns: each export takes seconds."""

AS_PROGRAM = ("CoralAgeHead", "GaussianAgeHead")
"""Heads that are run as programs of PyTorch too: these hold the operators that were traced."""

SAME_PROGRAM = ("DLDLAgeHead", "DLDLv2AgeHead", "MeanVarianceAgeHead")
"""Heads that differ from cross-entropy in training alone."""

FULL = BOUNDS[Precision.FP32]


def test_no_head_is_skipped():
    assert {*EXPORTED, *SAME_PROGRAM} == {*age_heads.__all__} - {"AgeHead"}


def written(model, file: Path, dynamic: bool = True, half: bool = False):
    """Write a network as ONNX or a program of PyTorch and return what runs the file."""
    return run_of(traced(ExportNetwork(model, half), dynamic), model, file)


def run_of(program, model, file: Path):
    if file.suffix == ".pt2":
        torch_program.write(program, file, {})
        return torch_program.runner(file)
    names = [*named_outputs(model, torch.zeros(1, 3, 64, 64, dtype=torch.uint8))]
    onnx_file.write(program, file, names, describe_export(model, names, Precision.FP32, dynamic=True))
    return onnx_file.runner(file, threads=1)


@pytest.fixture(scope="module")
def exported(network_of, tmp_path_factory):
    """Return the network of a head in ``EXPORTED``, its program, its ONNX file and what runs the file."""

    @cache
    def of(head):
        model = network_of(head, **EXPORTED[head])
        model.provenance = {"dataset": "utkface"}
        program = traced(ExportNetwork(model), dynamic=True)
        file = tmp_path_factory.mktemp("exported") / "it.onnx"
        return model, program, file, run_of(program, model, file)

    return of


@pytest.mark.slow
@pytest.mark.parametrize("head", EXPORTED)
def test_every_head_says_in_a_file_what_it_says_in_pytorch(head, exported, faces, tmp_path):
    model, program, _, run_onnx = exported(head)
    runs = [run_onnx]
    if head in AS_PROGRAM:
        runs.append(run_of(program, model, tmp_path / "it.pt2"))
    for run in runs:
        found = compare(model, run, faces, (1, 7, 4))
        assert found.batches == (1, 2, 4, 7), "sizes that the example of the export did not have"
        check(found, FULL)


def test_heads_that_differ_in_training_alone_make_the_same_program(network_of, faces):
    def graph(head):
        with torch.no_grad():  # what torch.export traces, without its checks
            nodes = make_fx(ExportNetwork(network_of(head)))(faces[:2]).graph.nodes
        return [(str(node.target), str(node.args)) for node in nodes if node.op == "call_function"]

    wanted = graph("CrossEntropyAgeHead")
    assert len(wanted) > 20
    assert graph("CornAgeHead") != wanted
    assert [head for head in SAME_PROGRAM if graph(head) != wanted] == []


def test_the_numbers_are_years_and_probabilities(network_of, faces):
    model = network_of("GaussianAgeHead", calibrated=True, groups=True)
    said = runner_of(model)(faces.numpy())
    assert list(said) == [*OF_ONE, "over_30"]
    decisions = {name: said.pop(name) for name in ("unsure", "over_30")}
    assert {value.dtype for value in said.values()} == {np.dtype("float32")}
    with torch.inference_mode():
        output = model(faces)
    mean, std = output.age.mean.numpy(), output.age.std.numpy()
    np.testing.assert_allclose(said["age_mean"], mean, atol=1e-3)
    np.testing.assert_allclose(said["age_std"], 1.3 * std, atol=1e-3)
    np.testing.assert_allclose(said["age_high90"], mean + 1.9 * std, atol=1e-3)
    edges = np.array([-np.inf, *AGE_GROUP_EDGES, np.inf])
    masses = np.diff(norm.cdf(edges, mean[:, None], 1.3 * std[:, None]))
    np.testing.assert_allclose(said["age_group_probs"], masses, atol=1e-5)
    race = np.exp(output.race.double().numpy() / 1.6)
    np.testing.assert_allclose(said["race_probs"], race / race.sum(1, keepdims=True), atol=1e-5)
    np.testing.assert_array_equal(decisions["unsure"], 2 * 1.9 * std > 40)
    codes = np.digitize(norm.sf(29.5, mean, 1.3 * std), [0.4, 0.6])  # 0 no, 1 unsure, 2 yes
    np.testing.assert_array_equal(decisions["over_30"], codes)


# ------------------------------------------------------------------------ other precisions, other networks


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_half_precision_stays_within_its_bound_and_leaves_the_network_alone(
    ending, network_of, faces, tmp_path
):
    model = network_of("GaussianAgeHead")
    before = {name: values.clone() for name, values in model.state_dict().items()}
    run = written(model, tmp_path / f"half{ending}", half=True)
    found = compare(model, run, faces, (1, 7))
    assert found.years > 0
    check(found, BOUNDS[Precision.FP16])
    assert run(faces[:2].numpy())["age_mean"].dtype == np.float32
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


def test_eight_bits_stay_near_on_faces_like_those_of_the_ranges(network_of, faces, tmp_path):
    model = network_of("GaussianAgeHead")
    written(model, tmp_path / "full.onnx")
    quantised.quantise(tmp_path / "full.onnx", tmp_path / "int8.onnx", faces[::2])
    found = compare(model, onnx_file.runner(tmp_path / "int8.onnx", 1), faces[1::2], (1, 3))
    assert found.years > 1e-3, "it computes in 8 bits"
    check(found, BOUNDS[Precision.INT8])
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * (tmp_path / "full.onnx").stat().st_size


def test_who_has_onnxruntime_alone_finds_all_that_is_needed(exported):
    model, _, file, _ = exported("GaussianAgeHead")
    session = onnx_file.session(file, 1)
    about = session.get_modelmeta()
    said = {name: json.loads(text) for name, text in about.custom_metadata_map.items()}
    assert about.producer_name == "mtmsa-lightning"
    assert said["producer"] == f"mtmsa-lightning {__version__}"
    assert "age in years" in about.description
    assert "UTKFace, whose terms allow non-commercial research only" in about.description
    assert said["licence"] in about.description

    (image,) = session.get_inputs()
    assert (image.name, image.type) == ("images", "tensor(uint8)")
    assert image.shape == ["n", 3, 64, 64] == said["input"]["shape"]
    assert said["input"] | {"name": image.name, "dtype": "uint8", "colours": "RGB"} == said["input"]
    assert "central square" in said["input"]["how"]
    outputs = session.get_outputs()
    assert [output.name for output in outputs] == [*OF_ONE, "over_30"]
    decision = "whether a person is 30 years old or older: 0 no, 1 unsure, 2 yes, int64 [n]"
    assert said["outputs"] == OF_ONE | {"over_30": decision}
    assert said["decisions"] == {"over_30": ["no", "unsure", "yes"]}
    assert said["calibration"]["policies"] == [model.calibration.policies[0].to_dict()]
    assert all(output.shape[0] == "n" for output in outputs)
    for name, names in said["classes"].items():
        assert len(names) == next(output.shape[1] for output in outputs if output.name == name)
    assert said["classes"]["gender_probs"] == ["male", "female"]
    assert said["classes"]["age_group_probs"][0] == "0-2"
    assert said["calibrated"] == model.calibration.describe()
    assert said["calibration"]["sigma_scale"] == 1.3
    assert said["calibration"]["metrics"] == {"test, calibrated": {"age_nll": 3.5}}
    assert said["weights_sha256"] == weights_digest(model.state_dict())
    drawn = onnx.load(file).graph
    assert drawn.output[0].doc_string == OUTPUTS["age_mean"]
    assert drawn.input[0].doc_string.startswith("uint8 RGB, [n, 3, 64, 64]: ")


def test_a_network_without_age_head_one_face_at_a_time(network_of, faces, tmp_path):
    model = network_of(None)
    run = written(model, tmp_path / "classes.onnx", dynamic=False)
    check(compare(model, run, faces[:5], (1,)), FULL)
    assert [*run(faces[:1].numpy())] == ["gender_probs", "race_probs"]


def test_an_interval_that_a_calibration_left_open_is_infinite_in_the_file_too(network_of, faces, tmp_path):
    model = network_of("L2AgeHead", calibrated=True)
    open_end = model.calibration.to_dict() | {"quantiles": {"0.9": None}}
    model.calibration = model.calibration.from_dict(open_end)
    run = written(model, tmp_path / "open.pt2")
    assert compare(model, run, faces, (7,)).years < 0.01
    assert np.isposinf(run(faces.numpy())["age_high90"]).all()


def test_a_checkpoint_that_met_other_classes_answers_with_its_own(network_of, faces):
    model = network_of("GaussianAgeHead")
    wanted = named_outputs(model, faces)["race_probs"]
    model.class_mappings = {"race": ClassMapping(("asian", "other"), model.race_classes)}
    torch.testing.assert_close(named_outputs(model, faces)["race_probs"], wanted)


def test_heads_that_no_label_trained_say_nothing(network_of, faces):
    model = network_of("GaussianAgeHead")
    model.provenance = {"labels": ["age", "exact", "gender"]}
    assert "race_probs" not in named_outputs(model, faces)
    assert "gender_probs" in named_outputs(model, faces)


# ------------------------------------------------------------------------ the comparison itself


@pytest.mark.parametrize(
    ("name", "change", "kind"),
    [("age_high90", 0.5, "years"), ("age_mean", -0.5, "mean years"), ("race_probs", 0.05, "probability")],
)
def test_a_difference_beyond_the_bound_is_refused_and_named(name, change, kind, network_of, faces):
    model = network_of("GaussianAgeHead")

    def changed(batch):
        said = runner_of(model)(batch)
        return said | {name: said[name] + np.float32(change)}

    with pytest.raises(ParityError, match=rf"{kind} {abs(change)}\d* \(at most 0.01"):
        check(compare(model, changed, faces, (4,)), Bound(0.01, 0.01, 0.01))


@pytest.mark.parametrize("nonsense", [np.nan, np.inf])
def test_what_is_no_number_is_refused(nonsense, network_of, faces):
    model = network_of("GaussianAgeHead")

    def broken(batch):
        said = runner_of(model)(batch)
        return said | {"age_std": np.full_like(said["age_std"], nonsense)}

    with pytest.raises(ParityError, match="years inf"):
        check(compare(model, broken, faces, (4,)), FULL)


def test_a_missing_output_and_a_wrong_shape_are_refused(network_of, faces):
    model = network_of("GaussianAgeHead")
    with pytest.raises(ParityError, match="PyTorch's are age_mean"):
        compare(model, lambda batch: {"age_mean": np.zeros(len(batch))}, faces, (4,))

    def wide(batch):
        said = runner_of(model)(batch)
        return said | {"age_std": said["age_std"][:, None]}

    with pytest.raises(ParityError, match="age_std has shape"):
        compare(model, wide, faces, (4,))


def test_differences_are_said_in_one_line():
    said = Differences(0.0123, 1e-6, 0.001, 32, (1, 7)).describe()
    assert said == (
        "0.012 years (predicted age: 0.001 in the mean) and 1e-06 of a probability, over 32 faces in batches "
        "of 1, 7"
    )
