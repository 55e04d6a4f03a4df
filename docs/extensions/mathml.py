"""Formulas as MathML, which browsers show without a script: nothing is fetched, also offline."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def visit_math(page: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line."""
    page.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_math_block(page: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on a line of its own."""
    # A long formula scrolls inside its own line, so it can be reached from the keyboard.
    page.body.append('<div class="formula" role="group" aria-label="formula" tabindex="0">')
    page.body.append(convert(node.astext(), display="block"))
    page.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("config-inited", lambda _, config: config.__setattr__("html_math_renderer", "mathml"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
