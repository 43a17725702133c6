"""Charts: rows of numbers, drawn by Vega-Lite in the reader's browser, and a table of the same rows below.

The table is what a screen reader reads and what is saved as CSV; the picture is saved as PNG. Vega, Vega-Lite
and vega-embed come as one script out of the package vl-convert-python, so nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.text import harmless

BUNDLE, LICENCE = "vega.js", "vega.LICENSE.txt"
PACKAGE = "vl-convert-python"
HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass(frozen=True)
class Chart:
    """A picture of `rows`, and their table.

    `name`: of the figure in its page, a word. `title`: what it shows; `story`: what it says, in a sentence.
    `columns`: headings of the table by the fields of a row, in order; fields that are not among them are for
    the picture alone. `spec`: of Vega-Lite, without data. A value of None is n/a.
    """

    name: str
    title: str
    story: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]
    spec: Mapping[str, Any]

    @property
    def json(self) -> Markup:
        """The whole specification, as it may stand in a page."""
        whole = {
            "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
            "width": "container",
            "autosize": {"type": "fit-x", "contains": "padding"},
            **_plain(self.spec),
            "data": {"values": [_plain(row) for row in self.rows]},
        }
        text = json.dumps(whole, allow_nan=False)
        for character, code in HTML.items():
            text = text.replace(character, code)
        return Markup(text)

    def cells(self, row: Mapping[str, Any]) -> list[str]:
        """A row of the table."""
        return [shown(row[field]) for field in self.columns]


def _plain(value: Any) -> Any:
    """The same with harmless texts. Rows are chosen by texts of a specification, so both have to be."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return harmless(value) if isinstance(value, str) else value


def shown(value: Any) -> str:
    """A value of a table: numbers in four digits, None as n/a."""
    if value is None:
        return "n/a"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def install(html: Path) -> None:
    """Write the script that draws, and its licence, into the folder `html`."""
    (html / BUNDLE).write_text(_bundle(), "utf-8")
    theirs = next(file for file in distribution(PACKAGE).files or () if file.name == "LICENSE")
    licence = Path(__file__).with_name(LICENCE).read_text("utf-8")
    (html / LICENCE).write_text(licence + theirs.read_text("utf-8"), "utf-8")


@cache
def _bundle() -> str:
    """The script, which takes a second to put together."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
