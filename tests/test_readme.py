"""The code of the README's sections "First prediction" and "In Python", executed as it stands there."""

import re
import runpy
import warnings
from pathlib import Path

import pytest

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.synthetic import write_morph

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def test_the_table_of_datasets_is_that_of_the_code():
    printed = runpy.run_path(str(ROOT / "docs/datasets.py"))["table"]()
    assert printed in (ROOT / "docs/data.md").read_text(encoding="utf-8")


def test_the_first_prediction_runs_as_printed(starter, monkeypatch, capsys):
    """On the portrait of the checkout, in five lines of Python or one command."""
    section = README.read_text(encoding="utf-8").partition("## First prediction\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len([line for line in block.splitlines() if line]) <= 5
    (command,) = re.findall(r"^mtmsa (predict .*?) +#", section, flags=re.MULTILINE)
    monkeypatch.chdir(ROOT)
    exec(block, {})
    age = float(capsys.readouterr().out.splitlines()[-1].partition(" ")[0])
    main(command.split())
    printed = capsys.readouterr().out.splitlines()[-1]
    assert printed.startswith(f"docs/portrait.jpg: {age:.1f} years (90 % interval ")


@pytest.mark.slow
def test_the_python_section_runs_on_a_synthetic_release(tmp_path, monkeypatch, capsys):
    section = README.read_text(encoding="utf-8").partition("## In Python\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len(blocks) == 2
    assert len([line for line in blocks[0].splitlines() if line]) <= 10
    write_morph(tmp_path / "MORPH", n_faces=60, size=64)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in blocks:
            exec(block, names)
    assert (tmp_path / "face.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "test/age_mae" in printed
    assert re.search(
        r"Dataset MORPHDataset\n +Number of faces: \d+\n.*fold 0\)\n.*tensor\(", printed, re.DOTALL
    )
