"""README and site: commands are parsed and code is executed, as they stand there."""

import importlib
import re
import shlex
import shutil
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pages
import pytest

from mtmsa_lightning.cli.data_arguments import expand
from mtmsa_lightning.cli.main import OWN_COMMANDS, TRAINER_COMMANDS
from mtmsa_lightning.data.datasets import DATA
from mtmsa_lightning.data.synthetic import write_morph
from mtmsa_lightning.settings.configs import find_config, split_configs

ROOT = pages.ROOT
READ = [*pages.pages(), ROOT / "README.md"]
MADE = {"my_study.yaml", "X.yaml", "x.yaml"}
"""Files in commands that readers make themselves."""

OWN = ("model.age.width",)
"""Settings of classes in docs/examples, which tests/test_extending.py uses."""

CHOOSING = ("data", "model.age", "trainer.callbacks", "trainer.logger")
"""Settings in commands that choose a class with settings of its own."""

COMMANDS = sorted({command for page in READ for command in pages.commands(page)})


def test_there_are_commands():
    assert len(COMMANDS) > 80


@pytest.mark.parametrize("command", [each for each in COMMANDS if not each.startswith("mtmsa")])
def test_other_programs_are_given_what_exists(command):
    program, *words = shlex.split(command)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in words if "=" not in word} <= {*targets}
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for word in words:
            named = re.fullmatch(r"(?:\.|mtmsa-lightning)\[([\w,]+)\]", word)
            assert not named or {*named[1].split(",")} <= {*extras["optional-dependencies"]}
            assert not word.startswith("./") or (ROOT / word).is_dir()
    else:
        assert words[0] == "-m" or (ROOT / words[0]).is_file()


def test_commands_are_understood():
    wrong = {}
    for command in COMMANDS:
        if command.startswith("mtmsa "):
            try:
                understand(*shlex.split(command)[1:])
            except Exception as error:
                wrong[command] = str(error).splitlines()[0]
    assert not wrong


def understand(command: str, *args: str) -> None:
    """Parse a command line as the program does, without what takes time; raise an error if it is wrong."""
    if command.startswith("-"):
        return
    if command in TRAINER_COMMANDS:
        check_settings(expand(args))
        return
    assert command in OWN_COMMANDS, "no such command"
    module = importlib.import_module(f"mtmsa_lightning.cli.commands.{command}")
    if args[:1] == ("merge",):
        module.merge_parser().parse_args(args[1:])
        return
    options, others = module.parser().parse_known_args(args)
    if command == "reproduce":
        study = f"{options.study}.yaml" if not options.study.endswith(".yaml") else options.study
        assert study in MADE or (ROOT / "experiments/studies" / study).is_file()
    data = getattr(options, "data", None)
    assert data is None or data == "folder" or data in DATA or "." in data
    configs = [f"--config={name}" for name in getattr(options, "config", None) or []]
    check_settings([*configs, *([f"--data={DATA[data]}"] if data in DATA else []), *others])


def check_settings(args: Sequence[str]) -> None:
    """Raise an error for a config or a setting that does not exist."""
    configs, others = split_configs(args)
    configs = [name for name in configs if name not in MADE and "..." not in name]
    for config in configs:
        find_config(config)
    given = [*settings(others)]
    known = known_for(tuple(configs), tuple(each for each in given if each[0] in CHOOSING)) if given else {}
    for name, _ in given:
        section, _, setting = name.rpartition(".")
        while section not in known:
            section, _, setting = section.rpartition(".")
        fine = setting in known[section] or name in ("print_config", "help", "data.sources", *OWN)
        assert fine, f"there is no setting {name}"


def settings(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield name and value of every option."""
    for arg, after in zip(args, [*args, ""][1:], strict=True):
        if arg.startswith("--"):
            name, equals, value = arg[2:].partition("=")
            yield name.removesuffix("+"), value if equals else after


@cache
def known_for(configs: tuple[str, ...], chosen: tuple[tuple[str, str], ...]) -> Mapping[str, Sequence[str]]:
    """Return the settings by section, with those of the classes that are chosen."""
    from mtmsa_lightning.training.setting_hints import known_settings

    return known_settings(
        [f"--config={name}" for name in configs] + [f"--{name}={value}" for name, value in chosen]
    ).settings


def test_code_of_the_readme_is_on_a_page():
    """So that it need not be executed twice."""
    executed = [each for page in pages.pages() for each in pages.fences(page, "python")]
    assert {*pages.fences(ROOT / "README.md", "python")} <= {*executed}


def test_the_python_page(trained, tmp_path, monkeypatch, capsys):
    blocks = pages.fences(ROOT / "docs/python.md", "python")
    assert len(blocks) == 4
    assert len([line for line in blocks[1].splitlines() if line]) <= 10
    shutil.copytree(trained, tmp_path / "RUN")
    write_morph(tmp_path / "MORPH", n_faces=60, size=64)
    photos = sorted((tmp_path / "MORPH").rglob("*.JPG"))
    for name, photo in zip(("photo.jpg", "a.jpg", "b.jpg"), photos, strict=False):
        shutil.copy(photo, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in blocks:
            exec(block, names)
    assert Path("ages/model.safetensors").is_file()
    assert Path("face.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "a.jpg" in printed
    assert "test/age_mae" in printed
    assert re.search(
        r"Dataset MORPHDataset\n +Number of faces: \d+\n.*fold 0\)\n.*tensor\(", printed, re.DOTALL
    )
    assert names["gated"].shape == (2, 64, 28, 28)  # type: ignore[attr-defined]
