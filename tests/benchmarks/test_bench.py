import subprocess
from pathlib import Path

import bench
import pytest
from common import read

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

WORKS = """
import sys
from pathlib import Path
sys.path.append({folder!r})
from common import Row, write
row = Row(f"one/{{sys.argv[1]}}", 1.0, "s", "less", "here")
write(Path(sys.argv[sys.argv.index("--json") + 1]), [row], 0.0)
"""

NO_BENCHMARKS = {
    "attention_variants",
    "batchnorm",
    "bench",
    "common",
    "compare",
    "first_step",
    "gpu_day",
    "receptive_field",
    "sampling",
}
"""Files of the folder that measure no speed."""

ALONE = {"age_and_gender_comparison", "export", "photo_search"}
"""Run by themselves: they need a trained network, or a folder of faces."""


@pytest.fixture
def suite(warm_python, tmp_path, monkeypatch):
    """Three scripts: one that works, one that fails, one that writes something else."""
    texts = {
        "works": WORKS.format(folder=str(BENCHMARKS)),
        "fails": "raise SystemExit(3)",
        "writes": "import sys; open(sys.argv[-1], 'w').write('{}')",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    scripts = [bench.Script(name, "--small", None, "--tiny") for name in texts]
    monkeypatch.setattr(bench, "SCRIPTS", (*scripts, bench.Script("works", None, "--large", "--more")))
    monkeypatch.setattr(bench, "HERE", tmp_path)
    return tmp_path


def test_one_that_fails_is_named_and_the_others_go_on(suite, capsys):
    file = suite / "all.json"
    assert bench.main(["--tiny", "--json", str(file)]) == 1
    said = capsys.readouterr()
    assert [row.name for row in read(file)["rows"]] == ["one/--tiny", "one/--more"]
    assert "fails.py failed: exit status 3" in said.err
    assert "writes.py failed: " in said.err
    assert "one/--tiny  1.00" in said.out


def test_scripts_can_be_chosen_and_others_have_no_part_here(suite, capsys):
    file = suite / "some.json"
    assert bench.main(["--only", "works", "--json", str(file)]) == 0
    assert [row.name for row in read(file)["rows"]] == ["one/--small"]


def test_gpu_rows_need_a_gpu(suite, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert bench.main(["--gpu"]) == 2
    assert "no GPU" in capsys.readouterr().err


def test_the_suite_has_all_benchmarks_of_speed():
    there = {file.stem for file in BENCHMARKS.glob("*.py")}
    assert {script.name for script in bench.SCRIPTS} == there - NO_BENCHMARKS - ALONE


@pytest.mark.slow
def test_a_real_script_gives_rows_at_a_tiny_size(warm_python, tmp_path):
    file = tmp_path / "tiny.json"
    command = [
        warm_python,
        str(BENCHMARKS / "bench.py"),
        "--tiny",
        "--only",
        "decode",
        "--json",
        str(file),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    rows = read(file)["rows"]
    assert "decode/200x240/OpenCV (read_image), ratio" in {row.name for row in rows}
    assert all(row.value > 0 and row.setting for row in rows)
