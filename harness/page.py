"""Pages of HTML: a template over `base.html`, of which every value is text.

A page loads nothing and runs nothing, so it can be mailed. A value is escaped where it is printed; filters of
a template would come before that, so templates have none.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from harness.text import MAX_PAGE_CHARS, harmless

if TYPE_CHECKING:
    from jinja2 import Environment

BASE = Path(__file__).with_name("base.html")
ALIKE_BYTES = 80  # of the style


def render(template: Path, **values: Any) -> str:
    """The page of `template`, a file that may extend `base.html`; an unknown name in it is an error."""
    return _templates(template.parent).get_template(template.name).render(values)


@cache
def _templates(folder: Path) -> Environment:
    """Those of a folder, each of which is compiled once however many pages are made of it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader([folder, BASE.parent]),
        autoescape=True,
        finalize=lambda value: safe(value) if isinstance(value, str) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def is_page(head: bytes) -> bool:
    """Whether a file that begins with `head` is a page that was made here: it is as `base.html` is."""
    before, after = BASE.read_bytes().split(b"{{ title }}")
    return head.startswith(before) and after[:ALIKE_BYTES] in head


def safe(text: str) -> Markup:
    """`text` for a page: escaped, and without characters that would hide or reorder what follows.

    What is markup already stays as it is.
    """
    return text if isinstance(text, Markup) else escape(harmless(text, keep="\n", most=MAX_PAGE_CHARS))
