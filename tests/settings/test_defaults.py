"""One default for one thing: signatures and help texts share constants."""

import ast
import inspect
import re
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import mtmsa_lightning
from mtmsa_lightning.cli.commands.prepare import SETTINGS
from mtmsa_lightning.cli.main import OWN_COMMANDS
from mtmsa_lightning.data.datasets import CLASSES

PACKAGE = Path(mtmsa_lightning.__file__).parent
TREES = {path.relative_to(PACKAGE): ast.parse(path.read_bytes()) for path in PACKAGE.rglob("*.py")}

NEUTRAL = {0, 1}
"""Numbers that stand for nothing, one, all or no change."""


def defaults(tree):
    """Yield (name, literal default) of all parameters, attributes of classes, and options of commands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            places = [*node.args.posonlyargs, *node.args.args]
            pairs = zip(places[len(places) - len(node.args.defaults) :], node.args.defaults, strict=True)
            pairs = [*pairs, *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]
            yield from ((argument.arg, value) for argument, value in pairs if value is not None)
        elif isinstance(node, ast.ClassDef):
            annotated = [each for each in node.body if isinstance(each, ast.AnnAssign) and each.value]
            yield from ((each.target.id, each.value) for each in annotated)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            values = [keyword.value for keyword in node.keywords if keyword.arg == "default"]
            yield from ((str(node.args[0].value).lstrip("-"), value) for value in values)


def literal_number(value):
    """Return the number or tuple of numbers that a default is written as; None for other defaults."""
    try:
        number = ast.literal_eval(value)
    except ValueError:
        return None
    numbers = number if isinstance(number, tuple) and number else (number,)
    plain = all(isinstance(each, int | float) and not isinstance(each, bool) for each in numbers)
    return number if plain and not NEUTRAL.issuperset(numbers) else None


def test_no_number_is_the_default_of_one_thing_in_two_places():
    places = defaultdict(list)
    for path, tree in TREES.items():
        for name, value in defaults(tree):
            number = literal_number(value)
            if number is not None:
                places[name, number].append(f"{path}:{value.lineno}")
    assert {key: where for key, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("command", sorted(OWN_COMMANDS))
def test_help_shows_each_default_once_and_from_the_option(command):
    module = import_module(f"mtmsa_lightning.cli.commands.{command}")
    for action in module.parser()._actions:
        assert action.help.count("(default") <= 1, action.option_strings
        if isinstance(action.default, int | float):
            shown = re.search(r"\(default: (.*)\)$", action.help)[1]
            assert yaml.safe_load(shown) == action.default, action.option_strings


def test_settings_of_prepare_are_those_of_the_datamodules():
    for release, settings in SETTINGS.items():
        if release in CLASSES:
            kinds = (mtmsa_lightning.FaceDataModule, getattr(mtmsa_lightning, CLASSES[release]))
            parameters = {k: v for kind in kinds for k, v in inspect.signature(kind).parameters.items()}
            given = {name: value for name, value in settings.items() if value is not None}
            assert given == {name: parameters[name].default for name in given}, release
            assert set(settings) <= set(parameters), release
