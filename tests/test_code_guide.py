"""Every file and name in ``docs/code.md`` exists, and files of tests can be told apart."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mtmsa_lightning"
TEXT = (ROOT / "docs/code.md").read_text(encoding="utf-8")
TABLE = TEXT[TEXT.index("| to change or add |") :]

PATHS = sorted(set(re.findall(r"`((?:[\w<>]+/)+(?:[\w<>]+(?:\.\w+)?)?|[\w<>]+\.(?:pyi?|md|css))`", TABLE)))
NAMES = sorted(set(re.findall(r"`([\w.]+)` in `([\w./]+\.py)`", TABLE)))


def names_of(tree, prefix=""):
    """Yield the names that a module or class defines; those of a class also with its name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from (node.name, prefix + node.name)
            if isinstance(node, ast.ClassDef):
                yield from names_of(node, f"{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (
                each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)
            )


def test_the_table_is_read():
    assert len(PATHS) > 40
    assert len(NAMES) > 50
    assert TABLE.count("\n| ") > 30


@pytest.mark.parametrize("path", PATHS)
def test_files_exist(path):
    place = path.rpartition("/")[0] if "<" in path else path
    assert (PACKAGE / place).exists() or (ROOT / place).exists()


@pytest.mark.parametrize(("name", "path"), NAMES)
def test_names_are_defined_there(name, path):
    assert name in set(names_of(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))))


def test_folders_of_the_overview_are_those_of_the_package():
    tree = TEXT[TEXT.index("    mtmsa_lightning/\n") : TEXT.index("    experiments/")]
    listed = set(re.findall(r"^      (\w+)/ ", tree, re.MULTILINE))
    data = set(re.findall(r"^        (\w+)/ ", tree, re.MULTILINE))
    assert listed == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert data == {path.parent.name for path in PACKAGE.glob("data/*/__init__.py")}


def test_files_of_tests_have_names_of_their_own():
    """Pytest imports them by these names: of two equal ones it finds only the first."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
