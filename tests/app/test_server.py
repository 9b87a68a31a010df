import os
import re
import signal
import socket
import stat
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from warm_process import WarmProcess

from mtmsa_lightning import AgeEstimator
from mtmsa_lightning.app import server
from mtmsa_lightning.app.page import TITLE
from mtmsa_lightning.app.result import NO_FACE
from mtmsa_lightning.app.server import is_loopback, listen, private_folder
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.runs.starter import TERMS


def left(folder: Path) -> list[Path]:
    """Return what is in the folder of uploads, but for what Gradio starts with."""
    return [path for path in folder.rglob("*") if path.name not in ("gradio", "vibe_edit_history")]


def test_uploads_are_answered_and_never_touch_a_disk(served: Any, photos: Path, tmp_path: Path) -> None:
    answers = {}
    for name in ("one.jpg", "none.png", "text.jpg"):
        upload = served.upload((photos / name).read_bytes(), name)
        assert left(served.folder) == []
        answers[name] = served.ask(upload, name)
    assert "1 face was found." in answers["one.jpg"]
    assert NO_FACE in answers["none.png"]
    assert "text.jpg: not an image that can be decoded" in answers["text.jpg"]
    assert left(served.folder) == []


def test_several_visitors_at_once_get_their_own_answers(served: Any, photos: Path) -> None:
    names = ["one.jpg", "none.png", "text.jpg"]
    with ThreadPoolExecutor(3) as pool:
        uploads = pool.map(served.upload, [(photos / name).read_bytes() for name in names])
        one, none, text = pool.map(served.ask, uploads, names)
    assert "1 face was found." in one
    assert NO_FACE in none
    assert "text.jpg: not an image that can be decoded" in text


def test_fifty_equal_photos_at_once_are_all_answered(served: Any, photos: Path) -> None:
    content = (photos / "none.png").read_bytes()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: served.ask(served.upload(content)), range(50)))
    assert [NO_FACE in each for each in answers] == [True] * 50


def test_browsers_are_told_to_load_nothing_from_elsewhere(served: Any) -> None:
    policy = httpx.get(served.address, trust_env=False).headers["Content-Security-Policy"]
    sources = {word for rule in policy.split("; ") for word in rule.split()[1:]}
    assert sources == {"'self'", "'unsafe-inline'", "'unsafe-eval'", "'none'", "data:", "blob:"}


def test_the_head_names_the_page_and_not_what_it_is_made_with(served: Any) -> None:
    page = httpx.get(served.address, trust_env=False).text
    head = page.partition("<head>")[2].partition("<script")[0]
    assert head.startswith(f"<title>{TITLE}</title>")
    assert "mtmsa-lightning" in head
    for foreign in ("Gradio", "gradio", "og:", "twitter:", "githubusercontent"):
        assert foreign not in head
    assert page.count("<title>") == 1


# ------------------------------------------------------------------------ folder and address


def test_the_folder_of_uploads_is_private_and_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    with private_folder() as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == folder
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
        (Path(folder) / "photo.jpg").write_bytes(b"never answered")
    assert not Path(folder).exists()
    assert os.environ["GRADIO_TEMP_DIR"] == "before"


def test_the_next_free_port_is_taken_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        ports = [taken.getsockname()[1], free.getsockname()[1]]
        free.close()
        monkeypatch.setattr("mtmsa_lightning.app.server.PORTS", ports)
        with listen("127.0.0.1", None) as opened:
            assert opened.getsockname() == ("127.0.0.1", ports[1])


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False)]
)
def test_loopback_is_told_from_what_others_reach(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


# ------------------------------------------------------------------------ the verb


def test_a_taken_port_a_foreign_address_and_a_missing_extra_are_told_at_once(
    fails: Callable[..., str], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        message = fails("app", "--ckpt_path", trained, "--port", taken.getsockname()[1])
        assert f"cannot serve on 127.0.0.1, port {taken.getsockname()[1]}" in message
    for wrong in (("--host", "192.0.2.1"), ("--host", "no such host")):
        assert "give another --host or --port" in fails("app", "--ckpt_path", trained, *wrong)
    message = fails("app", "--ckpt_path", trained, "--accelerator", "tpu")
    assert "--accelerator tpu: choose one of auto, cpu, gpu" in message
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'mtmsa-lightning[app]'" in fails("app", "--ckpt_path", trained)


def test_the_network_that_comes_along_is_served_without_a_checkpoint(
    starter: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[AgeEstimator] = []
    monkeypatch.setattr(server, "serve", lambda estimator, *_: served.append(estimator))
    main(["app", "--accelerator", "cpu"])
    assert served[0].preprocessing.margin == 0
    assert capsys.readouterr().out.count(TERMS) == 1


def test_several_networks_are_served_as_one(
    new_network: Any, save: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [str(save(new_network(seed), tmp_path / f"{seed}.ckpt")) for seed in (1, 2)]
    served: list[AgeEstimator] = []
    monkeypatch.setattr(server, "serve", lambda estimator, *_: served.append(estimator))
    main(["app", "--accelerator", "cpu", "--ckpt_path", *files])
    assert len(served[0].model.members) == 2


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_verb_serves_until_it_is_ended_and_leaves_nothing(
    ending: signal.Signals, trained: Path, photos: Path, tmp_path: Path
) -> None:
    line = ["-m", "mtmsa_lightning", "app", "--ckpt_path", trained, "--port", 0]
    page = WarmProcess(*line, environment={"TMPDIR": str(tmp_path)})
    assert page.waited_for(lambda: re.search(r"http\S+\s", page.stdout) is not None), page.stderr
    address = next(line.split()[0] for line in page.stdout.splitlines() if "http" in line)
    assert address.startswith("http://127.0.0.1:")
    with (photos / "one.jpg").open("rb") as file:  # uploaded, and never asked about
        upload = httpx.post(f"{address}/gradio_api/upload", files={"files": file}, trust_env=False)
    assert upload.status_code == 200
    page.send_signal(ending)
    assert page.wait(60) == 128 + ending
    assert "Traceback" not in page.stderr
    assert left(tmp_path) == []
