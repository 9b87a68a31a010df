"""``mtmsa export`` as a whole: what it leaves, what it says, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mtmsa_lightning import MTMSA
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.export import exporting, formats
from mtmsa_lightning.export.exporting import default_target
from mtmsa_lightning.export.formats import Format, Precision
from mtmsa_lightning.export.network import OUTPUTS
from mtmsa_lightning.export.parity import runner_of
from mtmsa_lightning.export.sample_faces import drawn_faces, faces_of, faces_of_run

SCRIPT = Path(__file__).parents[2] / "docs" / "use_onnx.py"

WITHOUT_TORCH = """
import io, json, runpy, sys
from contextlib import redirect_stdout
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "mtmsa_lightning"):
            raise ImportError(f"no {name} here")
sys.meta_path.insert(0, Absent())
_, script, *lines = sys.argv
said = []
for line in lines:
    sys.argv, output, ended = [script, *json.loads(line)], io.StringIO(), ""
    try:
        with redirect_stdout(output):
            runpy.run_path(script)
    except SystemExit as stop:
        ended = stop.code
    said.append((output.getvalue(), ended))
print(json.dumps(said))
"""
"""Runs a script with each line of arguments in turn."""


@pytest.fixture
def run(trained, tmp_path):
    """The trained run, to write into: its files are shared, and replaced rather than changed."""
    return Path(shutil.copytree(trained, tmp_path / "run", copy_function=os.link))


def export(*args: object) -> None:
    main(["export", *map(str, args)])


def left(run: Path) -> set[str]:
    return {str(file.relative_to(run / "export")) for file in (run / "export").rglob("*") if file.is_file()}


@pytest.mark.slow
def test_an_onnx_file_is_of_use_without_this_package_and_torch(run, morph_root, capsys, tmp_path):
    export("--ckpt_path", run, "--format", "onnx", "--dynamic=true")
    said = capsys.readouterr().out
    assert "differs from PyTorch by at most" in said
    for batch in ("batches of 1 image: ", "batches of 32 images: "):
        assert f"{batch}ONNX Runtime takes " in said
    assert said.splitlines()[-1].startswith(str(run / "export" / "best.onnx"))
    assert left(run) == {"best.onnx", "best.onnx.MODEL_CARD.md"}

    photos = sorted((morph_root / "Album2").iterdir())[:3]
    whole = photos[0].read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: 2 * len(whole) // 3])
    (tmp_path / "text.jpg").write_text("no image")
    file, wrong = run / "export" / "best.onnx", ("cut.jpg", "text.jpg", "gone.jpg")
    (printed, ended), *refused = run_script(tmp_path, [file, *photos], *([file, name] for name in wrong))
    for name, said in zip(wrong, refused, strict=True):
        assert said == ["", f"{name}: not an image, or a truncated JPEG"]
    assert ended == ""
    lines = dict(line.split(" ", 1) for line in printed.splitlines())
    main(["predict", "--ckpt_path", str(run), "--out", str(tmp_path / "p.csv"), *map(str, photos)])
    table = pd.read_csv(tmp_path / "p.csv")
    races = MTMSA.load(run).trained_classes["race"]
    for photo, row in zip(photos, table.to_dict("records"), strict=True):
        answer = json.loads(lines[str(photo)])
        for name in ("age_mean", "age_std", "age_low90", "age_high90"):
            assert answer[name] == pytest.approx(row[name], abs=0.01)
        wanted = [row[f"race_{name}"] for name in races]
        assert list(answer["race_probs"]) == list(races)
        assert list(answer["race_probs"].values()) == pytest.approx(wanted, abs=1e-3)
        assert list(answer["gender_probs"]) == ["male", "female"]


def run_script(folder: Path, *lines: list[object]) -> list[list[str]]:
    """Run the script of the docs where neither this package nor torch is there.

    Returns:
        Of every line of arguments what was printed, and the message with which the script ended.
    """
    command = [
        sys.executable,
        "-c",
        WITHOUT_TORCH,
        SCRIPT,
        *(json.dumps([*map(str, line)]) for line in lines),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_script_in_the_docs_says_how_it_is_used(tmp_path):
    for printed, ended in run_script(tmp_path, [], ["best.onnx"], ["--help"]):
        assert printed == ""
        assert "python use_onnx.py best.onnx face.jpg" in ended


def test_the_script_in_the_docs_is_short():
    lines = [line for line in SCRIPT.read_text().partition('"""\n\n')[2].splitlines() if line.strip()]
    assert len(lines) <= 24
    assert not {"torch", "mtmsa_lightning"} & set(" ".join(lines).replace(".", " ").split())


@pytest.mark.slow
def test_a_torch_program_carries_what_a_reader_needs(run, capsys):
    export("--ckpt_path", run, "--format", "torch-export", "--out", run / "export" / "it.pt2")
    assert "batches of 32" not in capsys.readouterr().out, "it takes one face"
    extra = {"metadata.json": ""}
    program = torch.export.load(run / "export" / "it.pt2", extra_files=extra).module()
    about = json.loads(extra["metadata.json"])
    model = MTMSA.load(run)
    assert about["input"]["image_size"] == 64
    assert about["input"]["crop"] == 1.0
    assert about["input"]["layout"] == "uint8 RGB, [1, 3, 64, 64]"
    assert about["gender_classes"] == ["male", "female"]
    assert about["race_classes"] == list(model.trained_classes["race"])
    assert about["calibration"] is None
    assert about["trained_on"]["fingerprints"] == model.provenance["fingerprints"]
    assert "trained on synthetic faces" in about["licence"]
    names = ("age_mean", "age_std", "age_low90", "age_high90", "gender_probs", "race_probs")
    assert about["outputs"] == {name: OUTPUTS[name] for name in names}
    face = drawn_faces(model, 2)[1:]
    torch.testing.assert_close(
        program(face)["age_mean"].item(), model(face).age.mean.item(), atol=1e-3, rtol=0
    )


def test_safetensors_are_a_folder_with_its_card(run, capsys):
    export("--ckpt_path", run, "--format", "safetensors")
    assert left(run) == {
        "best/model.safetensors", "best/config.json", "best/trained_on.safetensors", "best/README.md",
    }  # fmt: skip
    assert (run / "export/best/README.md").read_text().startswith("---\nlicense: other\n")
    face = drawn_faces(MTMSA.load(run), 1)
    first, again = MTMSA.load(run)(face).age, MTMSA.load(run / "export" / "best")(face).age
    assert torch.equal(first.mean, again.mean)
    export("--ckpt_path", run, "--format", "safetensors")  # replaces what it wrote
    export(
        "--ckpt_path", run / "export" / "best", "--format", "safetensors", "--out", run / "export" / "copy"
    )
    assert "copy/model.safetensors" in left(run)


# ------------------------------------------------------------------------ refusals


def off_by(years: float):
    """Return a writer of files that say too much."""

    def write(model, checkpoint, made, *_):
        made.write_text("new")
        right = runner_of(model)
        return lambda faces: {
            name: values + np.float32(years) if name == "age_mean" else values
            for name, values in right(faces).items()
        }

    return write


def test_a_file_that_says_something_else_is_not_kept_and_an_older_one_stays(run, fails, monkeypatch):
    monkeypatch.setattr(exporting, "write", off_by(0.02))
    message = fails("export", "--ckpt_path", run, "--format", "torch-export")
    assert "differ from PyTorch's, so it is removed: years 0.02 (at most 0.01)" in message
    assert list((run / "export").iterdir()) == []
    (run / "export" / "best.pt2").write_text("older")
    fails("export", "--ckpt_path", run, "--format", "torch-export")
    assert [file.name for file in (run / "export").iterdir()] == ["best.pt2"]
    assert (run / "export" / "best.pt2").read_text() == "older"


def test_one_that_passes_replaces_an_older_one(run, monkeypatch):
    monkeypatch.setattr(exporting, "write", off_by(0.001))
    monkeypatch.setattr(exporting, "speed_lines", lambda *_: ["speed"])
    (run / "export").mkdir()
    (run / "export" / "best.pt2").write_text("older")
    export("--ckpt_path", run, "--format", "torch-export")
    assert (run / "export" / "best.pt2").read_text() == "new"
    assert left(run) == {"best.pt2", "best.pt2.MODEL_CARD.md"}
    card = (run / "export" / "best.pt2.MODEL_CARD.md").read_text()
    assert "`best.pt2`: torch-export, fp32." in card
    assert "differs from it by at most" in card


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--format", "torch-export", "--precision", "int8"), "use --format onnx"),
        (("--format", "onnx", "--out", "faces.pt2"), "ends in .onnx"),
        (("--format", "onnx", "--out", "export"), "a folder is there: name a file, e.g. best.onnx in it"),
        (("--format", "safetensors", "--dynamic=true"), "leave --dynamic out"),
        (("--format", "safetensors", "--out", "strange"), "there is something else: choose another folder"),
        (("--format", "safetensors", "--out", "ours_and_more"), "there is something else"),
        (("--format", "safetensors", "--out", "."), "there is something else"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(args, said, run, fails, monkeypatch):
    monkeypatch.chdir(run)
    monkeypatch.setattr(exporting, "export", lambda *_: pytest.fail("the work began"))
    for folder, config in (("strange", "bert"), ("ours_and_more", "mtmsa-lightning")):
        (run / folder).mkdir()
        (run / folder / "config.json").write_text(f'{{"format": "{config}"}}')
    (run / "ours_and_more" / "notes.txt").touch()
    (run / "export").mkdir()
    message = fails("export", "--ckpt_path", run, *args)
    assert said in message
    assert len(message.splitlines()) == 1
    assert left(run) == set()


def test_faces_that_are_not_there_are_named(run, fails):
    message = fails("export", "--ckpt_path", run, "--format", "onnx", "--images", "nowhere")
    assert "nowhere: no such file or folder" in message
    assert not (run / "export").exists()


@pytest.mark.parametrize(
    ("speed", "said"),
    [
        (50, "ONNX Runtime takes 20.0 ms per image, PyTorch 30.0 ms: 1.5 times as fast"),
        (10, "ONNX Runtime takes 100.0 ms per image, PyTorch 30.0 ms: 3.3 times as slow"),
    ],
)
def test_speed_is_said_so_that_nobody_needs_to_ask_which_is_faster(speed, said):
    assert exporting.compared_speed("ONNX Runtime", speed, 1000 / 30) == said


def test_eight_bits_need_real_faces_enough(run, morph_root, fails):
    few = sorted((morph_root / "Album2").iterdir())[:3]
    message = fails("export", "--ckpt_path", run, "--format", "onnx", "--precision", "int8", "--images", *few)
    assert "needs 32 real faces or more, there are 3" in message
    (run / "config.yaml").unlink()
    message = fails("export", "--ckpt_path", run, "--format", "onnx", "--precision", "int8")
    assert "real faces are needed: give --images PATH" in message


def test_onnx_without_its_packages_says_what_to_install(run, fails, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else object())
    message = fails("export", "--ckpt_path", run, "--format", "onnx")
    assert "needs onnxscript: pip install 'mtmsa-lightning[export]'" in message


# ------------------------------------------------------------------------ parts


def test_files_are_named_by_checkpoint_and_precision(run, tmp_path):
    assert default_target(run, "best", Format.ONNX, Precision.INT8) == run / "export" / "best-int8.onnx"
    assert (
        default_target(tmp_path, "alone", Format.SAFETENSORS, Precision.FP32) == tmp_path / "export" / "alone"
    )


def test_faces_come_from_files_from_the_run_or_are_drawn(run, morph_root):
    model = MTMSA.load(run)
    for faces in (
        drawn_faces(model, 5),
        faces_of(model, [morph_root / "Album2"], 5),
        faces_of_run(model, str(run / "checkpoints" / "best.ckpt"), 5),
    ):
        assert faces.shape == (5, 3, 64, 64)
        assert faces.dtype == torch.uint8
        assert len(torch.unique(faces.flatten(1), dim=0)) == 5
    assert torch.equal(drawn_faces(model, 3), drawn_faces(model, 3))
