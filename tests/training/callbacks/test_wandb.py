import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from mtmsa_lightning.training.callbacks import wandb
from mtmsa_lightning.training.callbacks.wandb import choose_mode


@pytest.fixture
def no_key(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


@pytest.mark.parametrize("asked", ["offline", "disabled"])
def test_what_is_asked_for_is_done(asked, no_key):
    assert choose_mode(asked)[0] == asked


@pytest.mark.parametrize("asked", [None, "online"])
def test_without_a_key_runs_are_offline(asked, no_key):
    mode, reason = choose_mode(asked)
    assert mode == "offline"
    assert "wandb login" in reason


@pytest.mark.parametrize(
    ("variable", "mode"),
    [("offline", "offline"), ("dryrun", "offline"), ("disabled", "disabled"), ("online", "online")],
)
def test_the_variable_of_wandb_decides_where_nothing_is_asked(variable, mode, no_key, server, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", variable)
    assert choose_mode(None)[0] == mode
    assert choose_mode("online")[0] == "online"


def test_a_key_without_a_network_is_offline_at_once(no_key, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert choose_mode(None)[0] == "offline"


class Answering(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def test_a_key_and_a_server_are_online(no_key, server):
    no_key.write_text("machine 127.0.0.1\n login user\n password 0000\n")
    no_key.chmod(0o600)
    assert choose_mode(None)[0] == "online"


def test_a_server_that_hangs_is_offline_soon(no_key, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb, "FIRST_ANSWER", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert choose_mode(None)[0] == "offline"


@pytest.mark.slow
def test_a_run_that_a_server_does_not_open_goes_on_offline(tmp_path, no_key, server, monkeypatch, caplog):
    """A real client against a server that knows no runs, in a process that logged offline before."""
    before = wandb.wandb_logger(tmp_path / "before", "offline", "xyz", "demo", "fit", {})
    assert before.experiment.settings.mode == "offline"
    wandb.finish([before])
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb, "TIMEOUT", 1)
    logger = wandb.wandb_logger(tmp_path / "run", "online", "abc", "demo", "fit", {})
    logger.log_metrics({"loss": 1.0}, step=0)
    wandb.finish([logger])
    assert "logging offline instead" in caplog.text
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*-abc/run-abc.wandb"))


def test_a_damaged_netrc_does_not_stop_a_run(no_key):
    no_key.write_text("machine\n\n???")
    assert choose_mode(None)[0] == "offline"


def test_run_ids_differ():
    assert wandb.new_run_id() != wandb.new_run_id()


def test_a_server_that_refuses_does_not_stop_a_run(tmp_path, monkeypatch, caplog):
    class Refusing(wandb.WandbLogger):
        @property
        def experiment(self):
            raise RuntimeError("key refused")

    monkeypatch.setattr(wandb, "WandbLogger", Refusing)
    logger = wandb.wandb_logger(tmp_path / "run", "online", "abc", "demo", "fit", {})
    assert logger._wandb_init["mode"] == "offline"
    assert "key refused" in caplog.text


def test_runs_of_one_crossval_share_a_group(tmp_path, monkeypatch):
    for name in ("WANDB_RUN_GROUP", "WANDB_JOB_TYPE"):
        monkeypatch.delenv(name, raising=False)
    alone = wandb.wandb_logger(tmp_path / "run", "offline", "abc", "demo", "fit", {})
    assert (alone._wandb_init["group"], alone._wandb_init["job_type"]) == ("demo", "fit")
    monkeypatch.setenv("WANDB_RUN_GROUP", "demo")
    monkeypatch.setenv("WANDB_JOB_TYPE", "crossval")
    fold = wandb.wandb_logger(tmp_path / "run", "offline", "abc", "demo/fold0-seed0", "fit", {})
    assert (fold._wandb_init["group"], fold._wandb_init["job_type"]) == ("demo", "crossval")
