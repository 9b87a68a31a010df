import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import huggingface_hub
import pytest

from mtmsa_lightning.data.datasets.face_csv import FaceCSV, read_face_csv
from mtmsa_lightning.data.remote import local_copy
from mtmsa_lightning.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MTMSA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_paths_stay_as_they_are(tmp_path, cache):
    assert local_copy(str(tmp_path)) == tmp_path
    assert local_copy("data/x").as_posix() == "data/x"
    assert not cache.exists()


def test_a_file_is_copied_once_and_again_after_a_change(memory):
    memory.pipe("/faces.csv", b"one")
    first = local_copy("memory://faces.csv")
    assert (first.name, first.read_bytes()) == ("faces.csv", b"one")
    first.write_bytes(b"ours")
    assert local_copy("memory://faces.csv").read_bytes() == b"ours"
    memory.pipe("/faces.csv", b"other")
    assert local_copy("memory://faces.csv").read_bytes() == b"other"


def test_a_folder_is_copied_as_a_whole(memory):
    for name in ("set/dataset.json", "set/crops/a.jpg", "set/crops/deep/b.jpg"):
        memory.pipe(f"/{name}", name.encode())
    copy = local_copy("memory://set")
    assert (copy / "crops" / "deep" / "b.jpg").read_bytes() == b"set/crops/deep/b.jpg"
    memory.pipe("/set/dataset.json", b"changed")
    assert (local_copy("memory://set") / "dataset.json").read_bytes() == b"changed"


def test_processes_of_a_node_copy_once(memory, monkeypatch):
    memory.pipe("/faces.csv", b"x" * 1000)
    copies = []
    get = type(memory).get
    monkeypatch.setattr(type(memory), "get", lambda *args, **kwargs: (copies.append(1), get(*args, **kwargs)))
    threads = [threading.Thread(target=local_copy, args=("memory://faces.csv",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copies) == 1


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("memory://gone.csv", DataError, r"^memory://gone.csv: cannot be read \(FileNotFoundError"),
        (
            "zip://::file:///gone.zip",
            DataError,
            "^zip://::file:///gone.zip: cannot be read .FileNotFoundError",
        ),
        ("nowhere://x", ConfigError, "^nowhere://x: files there cannot be read: Protocol not known"),
    ],
)
def test_what_cannot_be_copied_is_named(url, kind, message, memory):
    with pytest.raises(kind, match=message):
        local_copy(url)


def test_tables_and_prepared_sets_may_be_urls(tmp_path, touch, memory):
    touch(tmp_path / "faces", ["a.jpg", "b.jpg"])
    memory.pipe("/tables/faces.csv", b"path,age\na.jpg,20\nb.jpg,30\n")
    table = read_face_csv(tmp_path / "faces", "memory://tables/faces.csv")
    assert table.frame["age_low"].tolist() == [20, 30]
    (tmp_path / "faces" / "faces.csv").write_text("path,age\na.jpg,20\n")
    data = FaceCSV(root=f"file://{tmp_path}/faces", num_workers=0)
    assert data.table.frame["age_low"].tolist() == [20]
    assert data.root != tmp_path / "faces"
    assert (data.root / "b.jpg").is_file()


def test_a_dataset_of_the_hub_is_downloaded_by_its_name(tmp_path, monkeypatch):
    asked = []

    def snapshot_download(*args, **kwargs):
        asked.append((*args, kwargs))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert local_copy("hf://datasets/someone/faces@v1") == tmp_path
    assert local_copy("hf://datasets/someone/faces") == tmp_path
    wanted = {"repo_type": "dataset", "allow_patterns": ["*.parquet"]}
    assert asked == [("someone/faces", wanted | {"revision": each}) for each in ("v1", None)]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", json.loads)
    with pytest.raises(DataError, match=r"^hf://datasets/x/y: cannot be downloaded \(TypeError"):
        local_copy("hf://datasets/x/y")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a server of the folder ``web``."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "web").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tmp_path / "web")) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_files_and_folders_of_a_web_server(tmp_path, touch, server):
    folder = tmp_path / "web" / "set"
    touch(folder, ["deep/a b.jpg", "c.jpg"])
    table = folder / "faces.csv"
    table.write_text("path,age\nc.jpg,20\n")
    assert len(read_face_csv(folder, f"{server}/set/faces.csv")) == 1
    with table.open("a") as file:
        file.write("deep/a b.jpg,30\n")
    assert len(read_face_csv(folder, f"{server}/set/faces.csv")) == 2
    for url in (f"{server}/set", f"{server}/set/"):
        assert read_face_csv(url).frame["path"].tolist() == ["c.jpg", "deep/a b.jpg"]
    table.write_text("path,age\nc.jpg,20\n")
    assert read_face_csv(f"{server}/set").frame["path"].tolist() == ["c.jpg"]


@pytest.mark.parametrize("name", ["../out.jpg", "%2e%2e/out.jpg"])
def test_a_server_cannot_write_outside_the_copy(server, monkeypatch, cache, name):
    system = fsspec.filesystem("http")  # the one instance
    monkeypatch.setattr(system, "isdir", lambda *_args: True)
    monkeypatch.setattr(system, "exists", lambda *_args: False)
    monkeypatch.setattr(system, "find", lambda path: [f"{path}/{name}"])
    with pytest.raises(DataError, match="lists files outside"):
        local_copy(f"{server}/set")
    assert not list(cache.rglob("*.jpg"))
