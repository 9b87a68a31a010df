"""The parts of a day on a GPU: kept when they end, and continued after an interruption."""

import json

import bench
import gpu_day
import pytest
from common import Row

ROW = Row("one/x", 2.0, "s", "less", "here")


@pytest.fixture
def calls(monkeypatch):
    """Two benchmarks and the study, none of which runs; one benchmark fails at first."""
    seen: list[str] = []
    scripts = [bench.Script(name, None, "--large", "--tiny") for name in ("loop", "step", "broken")]
    monkeypatch.setattr(gpu_day, "SCRIPTS", (*scripts, bench.Script("decode", "--cpu", None, "--tiny")))

    def measure(name, options, deadline):
        seen.append(name)
        if name == "bench/broken" and seen.count(name) == 1:
            return gpu_day.Part([], failure="exit status 3")
        return gpu_day.Part([], "| a table |") if name.startswith("study/") else gpu_day.Part([ROW])

    monkeypatch.setattr(gpu_day, "measure", measure)
    return seen


def test_what_failed_is_repeated_and_what_ended_is_kept(calls, tmp_path, capsys):
    assert gpu_day.main(["--tiny", "--out", str(tmp_path)]) == 1
    assert calls == ["bench/step", "study/gpu_attention", "bench/loop", "bench/broken"], (
        "no benchmark of CPUs"
    )
    assert "bench/broken: exit status 3" in capsys.readouterr().err
    assert gpu_day.main(["--tiny", "--out", str(tmp_path)]) == 0
    assert calls[4:] == ["bench/broken"]
    content = json.loads((tmp_path / "gpu_day.json").read_text())
    assert list(content["parts"]) == ["bench/step", "study/gpu_attention", "bench/loop", "bench/broken"]
    report = (tmp_path / "gpu_day.md").read_text()
    assert report.count("one/x") == 3
    assert "| a table |" in report
    assert report.strip() == capsys.readouterr().out.strip()


def test_nothing_starts_after_the_time_is_up(calls, tmp_path, capsys):
    assert gpu_day.main(["--tiny", "--out", str(tmp_path), "--minutes", "0"]) == 1
    assert calls == []
    assert "bench/step: not started: the same command goes on" in capsys.readouterr().err


def test_results_of_other_code_are_not_mixed_in(calls, tmp_path, monkeypatch):
    gpu_day.main(["--tiny", "--out", str(tmp_path)])
    monkeypatch.setattr("common.commit", lambda: "another")
    with pytest.raises(SystemExit, match="of another machine, commit or size: give another --out"):
        gpu_day.main(["--tiny", "--out", str(tmp_path)])


def test_a_gpu_and_the_folder_of_faces_are_needed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu_day.main(["--out", str(tmp_path)]) == 2
    assert "no GPU; --tiny rehearses on the CPU" in capsys.readouterr().err
    assert gpu_day.main(["--tiny", "--faces", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
    assert "--faces" in capsys.readouterr().err


@pytest.mark.parametrize("status", [0, 3])
def test_the_study_is_stopped_in_time_and_its_table_is_read(tmp_path, monkeypatch, status):
    options = gpu_day.argparse.Namespace(out=tmp_path, faces=tmp_path, tiny=True, parallel=1)
    folder = tmp_path / "runs" / "studies" / "gpu_attention-x"
    folder.mkdir(parents=True)
    (folder / "table.md").write_text("| msa |")
    commands: list[list[str]] = []

    class Process(gpu_day.subprocess.Popen):
        def __init__(self, command, **options):
            commands.append(command)
            super().__init__(["sh", "-c", f"sleep {0 if status else 0.1}; exit {status}"], **options)

    monkeypatch.setattr(gpu_day.subprocess, "Popen", Process)
    part = gpu_day.study(options, gpu_day.time.monotonic() + 60)
    assert part == (gpu_day.Part([], failure="exit status 3") if status else gpu_day.Part([], "| msa |"))
    assert commands[0][2:5] == ["mtmsa_lightning", "reproduce", "gpu_attention"]
    monkeypatch.setattr(
        Process, "__init__", lambda self, *_, **__: super(Process, self).__init__(["sleep", "60"])
    )
    assert "the time is up" in str(gpu_day.study(options, 0).failure)
