"""The Hub's client is replaced at its own functions: nothing here reaches the network."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from mtmsa_lightning import AgeEstimator
from mtmsa_lightning.errors import CheckpointError, ConfigError


class Hub:
    """Repositories as folders, and what was asked of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple] = []

    def snapshot_download(self, repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        self.asked.append((repo_id, revision))
        snapshot = self.root / "cache" / repo_id
        if repo_id == "me/far":
            raise LocalEntryNotFoundError("Got: ConnectError: [Errno -2] Name or service not known")
        if not (self.root / repo_id).is_dir():
            raise OSError(f"404 Client Error: {repo_id} not found\nmore lines")
        for name in allow_patterns:
            if (self.root / repo_id / name).is_file():
                snapshot.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.root / repo_id / name, snapshot)
        return str(snapshot)

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.asked.append((repo_id, private))

    def upload_folder(self, *, repo_id: str, folder_path: Path) -> SimpleNamespace:
        shutil.copytree(folder_path, self.root / repo_id)
        return SimpleNamespace(commit_url=f"https://hub.example/{repo_id}/commit/1")


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    (tmp_path / "here").mkdir()
    for name in ("snapshot_download", "create_repo", "upload_folder"):
        monkeypatch.setattr(huggingface_hub, name, getattr(hub, name))
    monkeypatch.chdir(tmp_path / "here")
    return hub


@pytest.mark.parametrize(("private", "card"), [(True, None), (False, "# Ages\n")])
def test_what_is_pushed_is_what_is_loaded(private, card, hub, new_network, calibration):
    model = new_network()
    model.calibration = calibration
    address = AgeEstimator(model, device="cpu").push_to_hub(
        "me/ages", card=card, **{} if private else {"private": False}
    )
    assert address == "https://hub.example/me/ages/commit/1"
    assert hub.asked == [("me/ages", private)]
    names = {file.name for file in (hub.root / "me/ages").iterdir()}
    assert names == {"config.json", "model.safetensors", "trained_on.safetensors", "README.md"}
    said = (hub.root / "me/ages/README.md").read_text()
    assert said == card if card else "\n# ages\n" in said
    (hub.root / "me/ages/evil.pkl").touch()

    loaded = AgeEstimator.from_pretrained("me/ages", revision="v1", device="cpu").model
    assert hub.asked[-1] == ("me/ages", "v1")
    assert not (hub.root / "cache/me/ages/evil.pkl").exists(), "only files that hold no code are fetched"
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())
    assert loaded.calibration == calibration


def test_what_is_here_goes_before_the_hub(hub, new_network):
    AgeEstimator(new_network(), device="cpu").save_pretrained("me/ages")
    AgeEstimator.from_pretrained("me/ages", device="cpu")
    assert hub.asked == []


@pytest.mark.parametrize(
    "source", ["runs/best.ckpt", "a/b/c", "/a/b", "gone", "./gone", "me/model.safetensors"]
)
def test_what_cannot_be_a_repository_is_not_asked_for(source, hub):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        AgeEstimator.from_pretrained(source)
    assert hub.asked == []


def test_a_name_whose_owner_is_a_folder_here_is_a_mistyped_path(hub):
    Path("runs").mkdir()
    with pytest.raises(CheckpointError, match="runs/typo: no such"):
        AgeEstimator.from_pretrained("runs/typo")
    assert hub.asked == []


def test_a_repository_that_is_not_there_is_told_in_one_line(hub):
    with pytest.raises(CheckpointError) as caught:
        AgeEstimator.from_pretrained("me/gone")
    assert str(caught.value) == (
        "me/gone: no such file or folder here, and the Hugging Face Hub did not give it: "
        "404 Client Error: me/gone not found"
    )


def test_a_hub_that_cannot_be_reached_is_told_as_such(hub):
    with pytest.raises(
        CheckpointError, match=r"Hub cannot be reached: \[Errno -2\] Name or service not known"
    ):
        AgeEstimator.from_pretrained("me/far")


def test_a_repository_of_something_else_is_refused(hub):
    (hub.root / "me/bert").mkdir(parents=True)
    (hub.root / "me/bert/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no such checkpoint"):
        AgeEstimator.from_pretrained("me/bert")
    (hub.root / "me/bert/model.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"config\.json: does not describe a network of this package"):
        AgeEstimator.from_pretrained("me/bert")


def test_a_refused_upload_says_how_to_sign_in(hub, new_network, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("401 Client Error: Unauthorized")

    monkeypatch.setattr(huggingface_hub, "create_repo", refuse)
    with pytest.raises(CheckpointError, match=r"me/ages: .*401 Client Error.*hf auth login"):
        AgeEstimator(new_network(), device="cpu").push_to_hub("me/ages")


def test_without_the_extra_it_is_named(hub, new_network, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        ConfigError, match=r"me/gone: no such file or folder here; .*'mtmsa-lightning\[hub\]'"
    ):
        AgeEstimator.from_pretrained("me/gone")
    with pytest.raises(ConfigError, match=r"mtmsa-lightning\[hub\]"):
        AgeEstimator(new_network(), device="cpu").push_to_hub("me/ages")
