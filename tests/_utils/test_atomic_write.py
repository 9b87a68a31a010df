"""How files are written: whole, by the umask, and in UTF-8 whatever the locale."""

import ast
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch

import mtmsa_lightning
from mtmsa_lightning._utils.atomic_write import replacing, write_bytes, write_table, write_text
from mtmsa_lightning.inference.annotated_images import _write as write_picture
from mtmsa_lightning.reports.html import Page
from mtmsa_lightning.reports.plots import style
from mtmsa_lightning.runs.pretrained import _write_tensors
from mtmsa_lightning.runs.run_json import update_record
from mtmsa_lightning.training.callbacks.checkpoints import AtomicCheckpointIO

TABLE = pd.DataFrame({"name": ["Zoë 李"]})

WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda folder: write_text(folder / "x.json", "Zoë"),
    "bytes": lambda folder: write_bytes(folder / "x.jpg", b"x"),
    "csv": lambda folder: write_table(TABLE, folder / "x.csv"),
    "parquet": lambda folder: write_table(TABLE, folder / "x.parquet"),
    "record": lambda folder: update_record(folder, {"a": 1}),
    "page": lambda folder: Page("Zoë").write(folder / "x.html"),
    "plot": lambda folder: style.save(matplotlib.figure.Figure(), folder, "x"),
    "tensors": lambda folder: _write_tensors(folder / "x.safetensors", {"a": torch.zeros(1)}),
    "checkpoint": lambda folder: AtomicCheckpointIO().save_checkpoint({"a": 1}, folder / "x.ckpt"),
    "picture": lambda folder: write_picture(folder / "x.png", np.zeros((2, 2, 3), np.uint8)),
}


@pytest.fixture(params=[0o077, 0o022, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("writer", WRITERS)
def test_files_may_be_read_by_whom_the_umask_lets(umask: int, writer: str, tmp_path: Path) -> None:
    for _ in range(2):  # new, and in the place of an older one
        WRITERS[writer](tmp_path)
        files = list(tmp_path.iterdir())
        assert files
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask, file
            assert not file.name.startswith(".")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    write_text(file, "old")

    def fail() -> None:
        with replacing(file) as partial:
            partial.write_bytes(b"half")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        fail()
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "\ud800")
    assert file.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_of_the_longest_name_is_written(tmp_path: Path) -> None:
    file = tmp_path / ("é" * 120 + ".json")
    write_text(file, "x")
    assert file.is_file()


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".x.csv.mtmsa-partial").symlink_to(tmp_path / "elsewhere")
    write_table(TABLE, tmp_path / "x.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


# ------------------------------------------------------------------------ encodings

SOURCES = sorted(Path(mtmsa_lightning.__file__).parent.rglob("*.py"))


def _reads_text(call: ast.Call) -> bool:
    """Tell whether a call opens a text file with no encoding named."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if name in ("read_text", "write_text") and isinstance(call.func, ast.Attribute):
        return True
    if name != "open":
        return name == "FileHandler"
    modes = [each.value for each in (*call.args, *(key.value for key in call.keywords))
             if isinstance(each, ast.Constant) and isinstance(each.value, str)]  # fmt: skip
    return any(set(mode) <= set("rwax+t") and mode for mode in modes) or any(
        keyword.arg == "newline" for keyword in call.keywords
    )


def test_every_text_file_is_opened_with_its_encoding() -> None:
    found = [
        f"{source.name}:{node.lineno}"
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _reads_text(node)
    ]
    assert found == []


WRITE = """
import locale, logging, sys
from pathlib import Path
import pandas as pd
from mtmsa_lightning._utils.logs import _start_buffer, to_file
from mtmsa_lightning.reports.html import Page
from mtmsa_lightning._utils.atomic_write import write_table, write_text
from mtmsa_lightning.runs.run_json import update_record
from mtmsa_lightning.runs.recorded_settings import read_config
assert locale.getpreferredencoding(False).upper() not in ("UTF-8", "UTF8")
folder = Path(sys.argv[1])
page = Page("Zo\\u00eb \\u674e")
page.write(folder / "page.html")
write_table(pd.DataFrame({"name": ["Zo\\u00eb"]}), folder / "table.csv")
write_text(folder / "config.yaml", "name: Zo\\u00eb\\n")
assert read_config(folder) == {"name": "Zo\\u00eb"}
_start_buffer()
to_file(folder / "run.log")
logging.getLogger("mtmsa_lightning").warning("Zo\\u00eb")
"""


PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Environment of a locale that knows ASCII only."""


def test_files_are_utf8_in_any_locale(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path)], env=os.environ | PLAIN, check=True, timeout=120
    )
    for name in ("page.html", "table.csv", "config.yaml", "run.log"):
        assert "Zoë" in (tmp_path / name).read_bytes().decode("utf-8"), name
    assert "李" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "variables", "refused"), [("Zoë", PLAIN, True), ("Zoe", PLAIN, False), ("Zoë", {}, False)]
)
def test_a_config_that_a_locale_misreads_is_refused_with_what_to_do(
    name: str, variables: dict[str, str], refused: bool, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(f"name: {name}\n", encoding="utf-8")
    find = "from mtmsa_lightning.settings.configs import find_config; find_config('mine.yaml')"
    script = f"import sys\ntry:\n    {find}\nexcept Exception as error:\n    sys.exit(f'{{error}}')"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=os.environ | {"PYTHONUTF8": "1"} | variables,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (found.returncode != 0) is refused, found.stderr
    assert ("set PYTHONUTF8=1" in found.stderr) is refused
