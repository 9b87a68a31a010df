"""The documentation is whole: every page is found, every link leads somewhere, no public name is left out.

`make docs` builds the site; here no process is started.
"""

import os
import re
import sys

import pages
import pytest

from mtmsa_lightning.cli.main import OWN_COMMANDS, TRAINER_COMMANDS

ROOT = pages.ROOT


def test_every_page_is_in_the_table_of_contents():
    found, waiting = set(), [ROOT / "docs/index.md"]
    while waiting:
        page = waiting.pop()
        assert page not in found, f"{page} is listed twice"
        found.add(page)
        entries = [line for each in pages.directives(page, "toctree") for line in each.content.splitlines()]
        listed = [line for line in entries if line and not line.startswith(":")]
        waiting += [ROOT / os.path.normpath(page.parent / f"{name}.md") for name in listed]
    assert found == {*pages.pages()}


def test_links_and_anchors_exist():
    broken = []
    for page in (*pages.pages(), ROOT / "README.md"):
        for link in pages.links(page):
            path, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            target = ROOT / os.path.normpath(page.parent / path) if path else page
            if not target.exists() or (anchor and anchor not in pages.anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken


def test_pages_of_the_site_link_only_to_files_that_it_has():
    """A link to a folder works in the repository alone."""
    folders = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages.pages()
        for link in pages.links(page)
        if not re.match(r"[a-z]+:|#", link) and (page.parent / link.partition("#")[0]).is_dir()
    ]
    assert not folders


def test_every_command_is_in_the_reference():
    shown = [
        each.info.split(maxsplit=1)[1]
        for name in ("commands", "settings")
        for each in pages.directives(ROOT / f"docs/{name}.md", "mtmsa-help")
    ]
    assert {name.split()[0] for name in shown} == {*OWN_COMMANDS, *TRAINER_COMMANDS}
    assert len(shown) == len({*shown})


def test_every_public_name_is_in_the_reference():
    stub = (ROOT / "mtmsa_lightning/__init__.pyi").read_text(encoding="utf-8")
    names = re.findall(r"as (\w+)$", stub, re.MULTILINE)
    text = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/api").glob("*.md"))
    shown = re.findall(r"^.. auto\w+:: mtmsa_lightning\.(\w+)$", text, re.MULTILINE)
    assert sorted(shown) == sorted(names)


def test_every_metric_is_in_the_reference():
    from mtmsa_lightning import metrics
    from mtmsa_lightning.metrics import functional

    text = (ROOT / "docs/api/metrics.md").read_text(encoding="utf-8")
    assert {*re.findall(r"autoclass:: mtmsa_lightning.metrics.(\w+)", text)} == {*metrics.__all__}
    own = {
        name
        for name, each in vars(functional).items()
        if getattr(each, "__module__", "").endswith("functional")
    }
    functions = {name for name in own if not name.startswith("_")}
    assert {*re.findall(r"autofunction:: mtmsa_lightning.metrics.functional.(\w+)", text)} == functions


@pytest.mark.parametrize("words", ["prepare merge", "evaluate"])
def test_the_reference_has_every_option_of_the_help_text(words, monkeypatch):
    """Nothing of the text is lost when it is taken apart."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "docs/_ext")])
    from command_help import help_text, read_help

    text = help_text(words.split())
    usage, description, groups, epilog = read_help(text)
    parts = [usage, description, epilog]
    parts += [part for title, options in groups for each in options for part in (title, *each)]
    assert "".join("".join(parts).split()).replace(":", "").count("--") == text.count("--")
    lost = {*re.findall(r"\S+", text)} - {*re.findall(r"\S+", "\n".join(parts))}
    assert lost <= {f"{title.split()[-1]}:" for title, _ in groups}
    assert all(help for _, options in groups for _, help in options)


def test_links_of_pages_lead_to_pages_or_files_that_are_not_pages():
    """Sphinx warns of links to Markdown files that are not part of the site."""
    for page in pages.pages():
        for link in pages.links(page):
            target = ROOT / os.path.normpath(page.parent / link.partition("#")[0])
            assert target.suffix != ".md" or "://" in link or target in pages.pages(), f"{page}: {link}"
