"""The table of datasets, and the README's first prediction, executed as it stands there."""

import re
import runpy
from pathlib import Path

from mtmsa_lightning.cli.main import main

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def test_the_table_of_datasets_is_that_of_the_code():
    printed = runpy.run_path(str(ROOT / "docs/datasets.py"))["table"]()
    assert printed in (ROOT / "docs/datasets.md").read_text(encoding="utf-8")


def test_the_first_prediction_runs_as_printed(starter, monkeypatch, capsys):
    """On the portrait of the checkout, in five lines of Python or one command."""
    section = README.read_text(encoding="utf-8").partition("## Predict\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len([line for line in block.splitlines() if line]) <= 5
    command = re.findall(r"^mtmsa (predict .*?) +#", section, flags=re.MULTILINE)[0]
    monkeypatch.chdir(ROOT)
    exec(block, {})
    age = float(capsys.readouterr().out.splitlines()[-1].partition(" ")[0])
    main(command.split())
    printed = capsys.readouterr().out.splitlines()[-1]
    assert printed.startswith(f"docs/portrait.jpg: {age:.1f} years (90 % interval ")
