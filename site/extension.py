"""What the website needs of Sphinx beyond its extensions.

Formulas that the browser itself draws, and links from the words of the lessons to the glossary.
"""

import re
from functools import cache

import sources
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx


def visit_math(translator, node: nodes.math) -> None:
    """Write a formula in a line of text as MathML: no script, no font."""
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_displayed_math(translator, node: nodes.math_block) -> None:
    """Write a formula on lines of its own; a wide one scrolls, also by the keyboard."""
    formula = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math" role="group" aria-label="Formula" tabindex="0">{formula}</div>')
    raise nodes.SkipNode


NOT_LINKED_IN = (nodes.reference, nodes.title, nodes.literal, nodes.literal_block, nodes.strong, nodes.term)


def link_terms(app: Sphinx, page: nodes.document, name: str) -> None:
    """Link the first use of each of the glossary's words in a lesson to the glossary, but not where it is defined."""
    if not name.startswith("sessions/"):
        return
    glossary = app.builder.get_relative_uri(name, "glossary")
    here = [one for one in sources.terms() if one.linked and sources.defined_in()[one.name] != name[len("sessions/") :]]
    wanted = {form.lower(): term for term in here for form in (term.name, *term.forms)}
    for text in list(page.findall(nodes.Text)):
        if _inside(text, NOT_LINKED_IN) or not isinstance(text.parent, nodes.TextElement):
            continue
        parts, rest = [], text.astext()
        while wanted and (found := _pattern(tuple(wanted)).search(rest)):
            term = wanted[found[0].lower()]
            wanted = {form: other for form, other in wanted.items() if other is not term}
            link = nodes.reference("", found[0], refuri=f"{glossary}#{term.anchor}", reftitle=term.meaning)
            link["classes"].append("course-term")
            parts += [nodes.Text(rest[: found.start()]), link]
            rest = rest[found.end() :]
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(rest)])


@cache
def _pattern(forms: tuple[str, ...]) -> re.Pattern:
    """Any of these words, the longest first, as whole words."""
    longest = sorted(forms, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])", re.IGNORECASE)


def _inside(node: nodes.Node, kinds: tuple) -> bool:
    while node := node.parent:
        if isinstance(node, kinds):
            return True
    return False


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.connect("doctree-resolved", link_terms)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displayed_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
