"""The site of the documentation: `make docs` builds it; its navigation is `docs/index.rst`."""

import re

from docutils import nodes

project = "deq"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

# The source is the whole repository, so that a link leads to the same file here and where the repository is shown.
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**", "packages/**/CARD.md"]
exclude_patterns = [".*", "build", "data", "results", "mlruns", "mlartifacts", "docs/README.md"]
myst_heading_anchors = 4
highlight_language = "text"  # of blocks that name none

autodoc_default_options = {"members": True, "imported-members": True, "special-members": "__call__"}
autodoc_inherit_docstrings = False  # torch describes what a module does to be printed
python_maximum_signature_line_length = 88
napoleon_custom_sections = [("Attributes", "Args")]  # those of dataclasses are what they are made with
default_role = "py:obj"  # docstrings have names in single backticks
smartquotes_action = "D"  # dashes alone: "quoted" words are values

html_theme = "furo"
html_title = "deq"
pygments_dark_style = "github-dark"  # the theme's own underlines the names of modules like links
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1b1f27", "color-brand-content": "#2c6fbb"},
    "dark_css_variables": {"color-brand-primary": "#d5d9e0", "color-brand-content": "#7db3ea"},
}
html_static_path = templates_path = ["site"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "redirect.html"}
html_show_search_summary = False  # a summary is fetched, which a page in a file may not do
html_copy_source = html_use_index = html_domain_indices = False
html_show_copyright = False


def setup(app) -> None:
    app.connect("autodoc-process-docstring", _plain_docstring, priority=0)
    app.connect("autodoc-process-signature", _readable_signature)
    app.connect("doctree-resolved", _link_names)


def _plain_docstring(app, kind, name, thing, options, lines) -> None:
    """Bars and stars in docstrings are mathematics, and no markup; what is indented under a blank line is code."""
    told, code, last = [""], False, ""
    for line in lines:
        if line.startswith("    ") and not told[-1] and not last.startswith(" "):
            told += [".. code-block:: python", ""]
            code = True
        code = code and (not line or line.startswith(" "))
        told.append(line if code else line.replace("|", r"\|").replace("*", r"\*"))
        last = line or last
    lines[:] = told[1:]


def _readable_signature(app, kind, name, thing, options, signature, result):
    """A protocol is not called, and a default that is a function has a name."""
    if getattr(thing, "_is_protocol", False):
        return "", ""
    return (re.sub(r"<function (\w+)[^>]*>", r"\1", signature), result) if signature else None


def _link_names(app, doctree, docname) -> None:
    """Public names of deq_core in the text of pages lead to their docstrings."""
    python = app.env.get_domain("py")
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext().removeprefix("deq.").partition("(")[0]
        if name in ("nn", "delta", "compat") or isinstance(literal.parent, nodes.reference | nodes.title):
            continue  # those words have other meanings too
        inside = literal.deepcopy()
        if link := python.resolve_xref(app.env, docname, app.builder, "obj", f"deq_core.{name}", literal, inside):
            literal.replace_self(link)
