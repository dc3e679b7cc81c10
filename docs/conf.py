"""How Sphinx builds the documentation site."""

import re
import sys
from pathlib import Path

from pygments.lexers.python import PythonLexer
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

project = "labkit"
exclude_patterns = ["_build", "_templates"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "shibuya"
html_title = "labkit"
templates_path = ["_templates"]  # theme files that are replaced
html_show_search_summary = False  # a browser does not let a page read others without a server
html_copy_source = html_show_sourcelink = False
html_theme_options = {"accent_color": "indigo"}
myst_heading_anchors = 3
napoleon_use_ivar = True
autodoc_typehints = "none"  # docstrings name the types
autodoc_member_order = "bysource"
add_module_names = False


def fill_in(app: Sphinx, name: str, source: list[str]) -> None:
    """Put what is made from the code in place of its mark, and lead links to the pages of the site."""
    from reference_tables import TABLES

    source[0] = re.sub(r"\]\(\.\./(benchmarks/\w+)", lambda link: f"]({link[1].lower()}", source[0])
    for mark, write in TABLES.items():
        if f"<!-- {mark} -->" in source[0]:
            source[0] = source[0].replace(f"<!-- {mark} -->", write())


def setup(app: Sphinx) -> None:
    """Connect what is done to pages as they are read."""
    app.connect("source-read", fill_in)
    # Languages by which tests find the cells of a notebook, and what a command prints, in a page.
    for name in ("parameters", "candidates", "cell"):
        app.add_lexer(name, PythonLexer)
    app.add_lexer("printed", TextLexer)
