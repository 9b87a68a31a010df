import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import gradio_client
import httpx
import pytest

from mtmsa_lightning.app.answer import NO_FACE
from mtmsa_lightning.app.server import is_loopback, listen, private_folder


def left(folder: Path) -> list[Path]:
    """Return what is in the folder of uploads, but for a file that Gradio starts with."""
    return [path for path in folder.rglob("*") if path.name != "vibe_edit_history"]


@pytest.fixture(scope="module")
def look(served: tuple[str, Path]) -> Callable[[Path], str]:
    """Upload a file as a browser does, and return the answer."""
    client = gradio_client.Client(served[0], verbose=False, analytics_enabled=False)
    return lambda file: client.predict(gradio_client.handle_file(str(file)), api_name="/look")[1]


def test_uploads_are_answered_and_nothing_of_them_is_left(
    look: Callable[[Path], str], served: tuple[str, Path], photos: Path
) -> None:
    assert "1 face was found." in look(photos / "one.jpg")
    assert NO_FACE in look(photos / "none.png")
    assert "text.jpg: cannot be read" in look(photos / "text.jpg")
    assert left(served[1]) == []


def test_several_visitors_at_once_get_their_own_answers(
    look: Callable[[Path], str], served: tuple[str, Path], photos: Path
) -> None:
    names = ["one.jpg", "none.png", "text.jpg"]
    with ThreadPoolExecutor(3) as pool:
        one, none, text = pool.map(look, [photos / name for name in names])
    assert "1 face was found." in one
    assert NO_FACE in none
    assert "text.jpg: cannot be read" in text
    assert left(served[1]) == []


def test_a_file_that_is_too_large_is_refused_and_not_kept(served: tuple[str, Path], photos: Path) -> None:
    with (photos / "large.jpg").open("rb") as file:
        response = httpx.post(f"{served[0]}/gradio_api/upload", files={"files": file}, trust_env=False)
    assert response.status_code == 413
    assert "exceeded maximum allowed size of 1048576 bytes" in response.text
    assert left(served[1]) == []


def test_an_upload_is_never_given_out_again(served: tuple[str, Path], photos: Path) -> None:
    with (photos / "none.png").open("rb") as file:
        response = httpx.post(f"{served[0]}/gradio_api/upload", files={"files": file}, trust_env=False)
    (path,) = response.json()
    assert Path(path).is_file()
    again = httpx.get(f"{served[0]}/gradio_api/file={path}", trust_env=False)
    assert (again.status_code, again.content) == (204, b"")
    Path(path).unlink()
    Path(path).parent.rmdir()


def test_browsers_are_told_to_load_nothing_from_elsewhere(served: tuple[str, Path]) -> None:
    policy = httpx.get(served[0], trust_env=False).headers["Content-Security-Policy"]
    sources = {word for rule in policy.split("; ") for word in rule.split()[1:]}
    assert sources == {"'self'", "'unsafe-inline'", "'unsafe-eval'", "'none'", "data:", "blob:"}


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
    assert "give another --host or --port" in fails("app", "--ckpt_path", trained, "--host", "192.0.2.1")
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'mtmsa-lightning[app]'" in fails("app", "--ckpt_path", trained)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_verb_serves_until_it_is_ended_and_leaves_nothing(
    ending: signal.Signals, trained: Path, photos: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "mtmsa_lightning", "app", "--ckpt_path", str(trained), "--port", "0"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as page:
        assert page.stdout is not None
        (address,) = islice((line.split()[0].decode() for line in page.stdout if b"http" in line), 1)
        assert address.startswith("http://127.0.0.1:")
        with (photos / "one.jpg").open("rb") as file:  # uploaded, and never asked about
            upload = httpx.post(f"{address}/gradio_api/upload", files={"files": file}, trust_env=False)
        (path,) = upload.json()
        assert Path(path).is_file()
        page.send_signal(ending)
        _, errors = page.communicate(timeout=60)
    assert page.returncode == 128 + ending
    assert b"Traceback" not in errors
    assert not Path(path).parents[1].exists()
    assert left(tmp_path) == []
