"""Configuration of the documentation site, which `make docs` builds.

The source folder is the repository, so that pages of other folders are part of the site and links between
files work in the repository and on the site alike.
"""

import sys
from pathlib import Path

import mtmsa_lightning

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PAGES = ("docs", "benchmarks", "experiments", "weights")
"""Folders with pages."""

sys.path.insert(0, str(DOCS / "_ext"))

project = "mtmsa-lightning"
author = project_copyright = "mtmsa-lightning contributors"
release = version = mtmsa_lightning.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_parser",
    "sphinx_copybutton",
    "command_help",
]
root_doc = "docs/index"
source_suffix = {".md": "markdown"}
include_patterns = [
    "docs/*.md",
    "docs/api/*.md",
    "benchmarks/*.md",
    "experiments/README.md",
    "weights/starter/README.md",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
# Only these folders are searched: environments, data and runs may be large.
exclude_patterns = [each.name for each in ROOT.iterdir() if each.is_dir() and each.name not in PAGES]
templates_path = ["_templates"]

smartquotes_action = "q"  # no dashes in place of `--`
myst_heading_anchors = 4  # anchors as on GitHub
myst_links_external_new_tab = False

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes may be members too, which would describe them twice
napoleon_custom_sections = ["Shape"]
maximum_signature_line_length = 80
# Types of torch and others, and names that only readers of the code need, have no page here.
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "redirect.html"}  # the first page is docs/index.html
html_show_sourcelink = False
html_copy_source = False
copybutton_prompt_text = r"^\$ "
copybutton_prompt_is_regexp = True
