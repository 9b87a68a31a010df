"""No face and no name of a file leaves by W&B, unless it is asked for."""

import re
import time
from pathlib import Path

import pytest
import wandb_file
from simulated_predictions import undraw
from wandb_file import faces_in, names_in

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.training.callbacks.wandb import artifact_name, finish, wandb_logger


def sent(run: Path) -> dict[str, bytes]:
    """Return what a finished offline run sends; wandb's own process may still be writing it."""
    (log,) = run.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 60
    while not wandb_file.is_finished(log) and time.monotonic() < deadline:
        time.sleep(0.05)
    return wandb_file.sent(log)


@pytest.fixture(scope="module")
def reports(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with evaluations that send no faces, and some."""
    root = tmp_path_factory.mktemp("private")
    with pytest.MonkeyPatch.context() as patch:
        undraw(patch, "attention_maps")
        for name in ("false", "true"):
            line = ["evaluate", "--ckpt_path", trained, "--out", root / name, "--wandb", "offline"]
            main([*map(str, line), "--wandb_faces", name])
    return root


@pytest.fixture(scope="module")
def names(morph_root: Path) -> list[str]:
    """Names of all image files."""
    return [file.stem for file in morph_root.rglob("*.JPG")]


@pytest.mark.slow
def test_without_wandb_faces_no_face_and_no_name_is_sent(reports: Path, names: list[str]) -> None:
    contents = sent(reports / "false")
    assert faces_in(contents) == []
    assert names_in(contents, names) == []
    assert any("report.html" in name for name in contents)
    assert any(name.endswith("subgroups.csv") for name in contents)


@pytest.mark.slow
def test_with_wandb_faces_they_are_sent_and_the_check_above_sees_them(
    reports: Path, names: list[str]
) -> None:
    contents = sent(reports / "true")
    shown = faces_in(contents)
    assert any("report.html" in name for name in shown)
    assert any("attention_maps.png" in name for name in shown)
    found = names_in(contents, names)
    assert any("faces.csv" in name for name in found)
    assert any("report.html" in name for name in found)


@pytest.mark.slow
def test_the_report_on_disk_shows_faces_whatever_is_sent(reports: Path) -> None:
    for run in ("false", "true"):
        page = (reports / run / "report.html").read_text(encoding="utf-8")
        assert "data:image/jpeg" in page
        assert (reports / run / "plots" / "attention_maps.png").is_file()


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("tiny", "report"), "tiny-report"),
        (("v1.0_b-2", "checkpoint"), "v1.0_b-2-checkpoint"),
        (("", "report"), "report-"),
        (("",), "run-"),
        (("李",), "run-"),
        (("morph/fold0", "report"), "morph-fold0-report-"),
        (("Größe", "report"), "Gr-e-report-"),
        (("a b", "report"), "a-b-report-"),
        (("x" * 500, "report"), "x" * 120 + "-"),
    ],
)
def test_artifact_names_are_those_that_wandb_takes(parts: tuple[str, ...], name: str) -> None:
    import wandb

    made = artifact_name(*parts)
    assert made.startswith(name)
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", made)
    assert wandb.Artifact(made, type="model").name == made


def test_names_that_differ_stay_different() -> None:
    texts = ["Größe", "Grüße", "Gr-e", "a/b", "a-b", "a b", "李", "王", "", "-", "x" * 130, "x" * 131]
    assert len({artifact_name(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("faces", [False, True])
def test_what_is_printed_is_sent_with_faces_only(tmp_path: Path, faces: bool) -> None:
    logger = wandb_logger(tmp_path, "offline", "abc", "demo", "fit", {"wandb_faces": faces})
    _ = logger.experiment
    print("skipped face_0001.jpg: not an image")
    finish([logger])
    assert bool(names_in(sent(tmp_path), ["face_0001.jpg"])) is faces
