"""What each entry point imports, looked up in ``sys.modules`` of fresh processes: start-up, not timed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mtmsa_lightning.cli.main import OWN_COMMANDS, TRAINER_COMMANDS
from mtmsa_lightning.data.datasets import CLASSES

HEAVY = {
    "torch", "torchvision", "torchmetrics", "lightning", "pandas", "scipy", "matplotlib", "wandb",
    "albumentations", "cv2", "onnx", "onnxruntime", "sklearn", "gradio", "transformers",
}  # fmt: skip

PROGRAM = """
import json, sys
sys.modules["mtmsa_lightning_starter"] = None  # as if it were not installed
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from mtmsa_lightning.cli.main import main

def run(args):
    out, status = StringIO(), 0
    with redirect_stdout(out), redirect_stderr(out):
        try:
            main(args)
        except SystemExit as stopped:
            status = stopped.code or 0
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    return {"status": status, "said": out.getvalue(), "loaded": loaded}

print(json.dumps([run(args) for args in json.loads(sys.argv[1])]))
"""


def python(program: str, *args: str, cwd: Path) -> str:
    command = [sys.executable, "-c", program, *args]
    return subprocess.run(command, text=True, capture_output=True, check=True, cwd=cwd, timeout=120).stdout


def loaded_after(*statements: str, cwd: Path) -> list[set[str]]:
    """Return the packages that are loaded after each of some statements in one process."""
    say = "\nprint(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    program = "import sys\n" + "".join(statement + say for statement in statements)
    return [set(line.split()) for line in python(program, cwd=cwd).splitlines()]


def lines(*commands: list[str], cwd: Path) -> list[dict]:
    """Run command lines one after the other in one process; what one of them loads stays loaded."""
    return json.loads(python(PROGRAM, json.dumps(commands), cwd=cwd))


LIGHT = {
    "import mtmsa_lightning, mtmsa_lightning.models": set(),
    "from mtmsa_lightning import MultiScaleAttention": {"torch"},
    "from mtmsa_lightning import GaussianAgeHead, CoralAgeHead, ClassHead": {"torch"},
    "from mtmsa_lightning import GaussianKLLoss": {"torch"},
    "from mtmsa_lightning import MSAResNet": {"torch", "torchvision"},
}
"""Statements, one after the other, and the heavy packages that they may load."""


def test_light_names_load_nothing_heavy(tmp_path):
    found = loaded_after(*LIGHT, cwd=tmp_path)
    for (statement, allowed), loaded in zip(LIGHT.items(), found, strict=True):
        assert loaded & HEAVY <= allowed, statement


def test_aligning_faces_needs_no_torch(tmp_path):
    (loaded,) = loaded_after("import mtmsa_lightning.align.crop_files", cwd=tmp_path)
    assert loaded & HEAVY == {"cv2"}


def test_help_loads_nothing_heavy(tmp_path):
    commands = [["--help"], ["--version"], *([verb, "--help"] for verb in sorted(OWN_COMMANDS))]
    for command, told in zip(commands, lines(*commands, cwd=tmp_path), strict=True):
        assert told["status"] == 0
        assert HEAVY & set(told["loaded"]) == set(), command


EVERY_DATASET = """
from mtmsa_lightning.training.build_data import CLASSES, build_data
for name in reversed(CLASSES.values()):
    print(type(build_data([f"--data={name}"])).__name__, end=" ")
print()
"""


@pytest.mark.slow
def test_a_fresh_process_knows_every_dataset_and_a_fit_loads_hardly_more_than_lightning_itself(tmp_path):
    """Here all classes have been imported before, there none."""
    commands = ["fit", "--config", "demo.yaml", "--print_config"], ["fit", "--help"]
    datasets, parsed = python(EVERY_DATASET + PROGRAM, json.dumps(commands), cwd=tmp_path).splitlines()
    assert datasets.split() == [*reversed(CLASSES.values())]
    for told in json.loads(parsed):
        assert told["status"] == 0
        with_lightning = {"torch", "torchvision", "torchmetrics", "lightning", "scipy", "matplotlib"}
        assert HEAVY & set(told["loaded"]) - with_lightning <= {"pandas", "cv2"}


MISTAKES = [
    (["fit"], "name a config"),
    (["fit", "--config", "nowhere.yaml"], "--config nowhere.yaml: no such file"),
    (["fit", "--config", "broken.yaml"], "broken.yaml: not valid YAML"),
    (
        ["fit", "--config", "morph.yaml", "--model.weights", "nowhere.pth"],
        "--model.weights nowhere.pth: no such file or folder",
    ),
    (["fit", "--config", "weights.yaml"], "--model.weights nowhere.pth: no such file or folder"),
    (["fit", "--config", "split.yaml"], "--data.split_file nowhere.csv: no such file or folder"),
    (["fit", "--config", "morph.yaml", "--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
    (["validate", "--config", "morph.yaml"], "needs --ckpt_path"),
    (["test", "--ckpt_path", "nowhere"], "nowhere: no such checkpoint"),
    (["app"], "--ckpt_path"),
    (["app", "--ckpt_path", "nowhere"], "nowhere: no such checkpoint"),
    (["app", "--ckpt_path", "broken.yaml"], "broken.yaml: not a readable checkpoint: it is a text"),
    (["audit", "--root", "nowhere", "--out", "out"], "nowhere: no such folder"),
    (["audit", "--config", "nowhere.yaml", "--out", "out"], "--config nowhere.yaml: no such file"),
    (["audit", "--root", "nowhere"], "--out"),
    (["calibrate", "--ckpt_path", "nowhere"], "nowhere: no such checkpoint"),
    (["calibrate"], "--ckpt_path"),
    (["check"], "name a dataset or its folder"),
    (["check", "--root", "nowhere"], "nowhere: no such folder"),
    (["check", "--data", "morph", "--config", "nowhere.yaml"], "--config nowhere.yaml: no such file"),
    (["compare", "nowhere", "elsewhere"], "nowhere: no predictions: no such file"),
    (["compare", ".", ".", "--out", "a.xlsx"], "ending in"),
    (["crossval"], "name a config"),
    (["crossval", "--config", "nowhere.yaml"], "--config nowhere.yaml: no such file"),
    (["crossval", "--config", "morph.yaml", "--folds", "x"], "--folds 'x'"),
    (["evaluate"], "--ckpt_path"),
    (["evaluate", "--ckpt_path", "nowhere"], "nowhere: no such checkpoint"),
    (["export", "--ckpt_path", "nowhere", "--format", "onnx"], "nowhere: no such checkpoint"),
    (
        ["export", "--ckpt_path", "broken.yaml", "--format", "onnx"],
        "broken.yaml: not a readable checkpoint: it is a text",
    ),
    (["predict", ".", "--ckpt_path", "nowhere", "--out", "a.csv"], "nowhere: no such checkpoint"),
    (
        ["predict", ".", "--ckpt_path", "empty", "--out", "a.csv"],
        "empty: no checkpoint in this folder: it is emp",
    ),
    (
        ["predict", ".", "--ckpt_path", "broken.yaml", "--out", "a.csv"],
        "not a readable checkpoint: it is a text",
    ),
    (
        ["predict", "gone.jpg", "--ckpt_path", "zip.ckpt", "--out", "a.csv"],
        "gone.jpg: no such file or folder",
    ),
    (
        ["predict", "*.jpg", "--ckpt_path", "zip.ckpt", "--out", "a.csv"],
        "*.jpg: the pattern matches no image",
    ),
    (["predict", ".", "--ckpt_path", "zip.ckpt", "--out", "broken.yaml/a.csv"], "broken.yaml is a file"),
    (
        ["predict", ".", "--ckpt_path", "zip.ckpt", "--out", "folder.csv"],
        "folder.csv: is a folder: name a file",
    ),
    (["predict", ".", "--ckpt_path", "c.ckpt", "--out", "a.xlsx"], "ending in .csv, .parquet or .jsonl"),
    (["predict", "merge", "nowhere", "--out", "a.xlsx"], "ending in .csv, .parquet or .jsonl"),
    (["predict", ".", "--ckpt_path", "c.ckpt", "--out", "a", "--shard", "3/2"], "--shard 3/2"),
    (["reproduce", "nowhere"], "no such study"),
    (["sweep", "nowhere"], "no such sweep"),
    (["prepare", "--data", "morph", "--root", ".", "--out", "out", "--shard", "3/2"], "--shard 3/2"),
    (["synthesize", "ffhq", "--out", "out"], "invalid choice"),
]


def test_what_can_be_told_at_once_is_told_before_anything_heavy_is_imported(tmp_path):
    (tmp_path / "broken.yaml").write_text("model: [")
    (tmp_path / "zip.ckpt").write_bytes(b"PK\3\4")  # its beginning is looked at
    for name in ("empty", "folder.csv"):
        (tmp_path / name).mkdir()
    (tmp_path / "weights.yaml").write_text(
        "data: {class_path: mtmsa_lightning.MORPH}\nmodel: {weights: nowhere.pth}"
    )
    (tmp_path / "split.yaml").write_text("data: {class_path: MORPH, init_args: {split_file: nowhere.csv}}")
    for (command, said), told in zip(
        MISTAKES, lines(*(args for args, _ in MISTAKES), cwd=tmp_path), strict=True
    ):
        assert told["status"] == 2, command
        assert said in told["said"], command
        assert HEAVY & set(told["loaded"]) == set(), command


def test_every_verb_is_among_the_mistakes():
    assert {args[0] for args, _ in MISTAKES} >= {*TRAINER_COMMANDS, *OWN_COMMANDS}
