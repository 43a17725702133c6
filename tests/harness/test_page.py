"""Pages: every value is text, whatever it holds, and every template is there where the package is."""

import re
import tomllib
from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from harness.page import render, safe

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted(
    path for name in ("harness", "acestep", "subjects", "tiersim") for path in (ROOT / name).rglob("*.html")
)
HOSTILE = "</p><script>alert(1)</script>\u202e\x1b[2J'\""


def page(tmp_path: Path, body: str, **values: object) -> str:
    (tmp_path / "page.html").write_text(
        f'{{% extends "base.html" %}}{{% block body %}}{body}{{% endblock %}}', encoding="utf-8"
    )
    return render(tmp_path / "page.html", title="T", heading="H", **values)


def test_a_value_is_text_and_markup_is_markup(tmp_path: Path):
    html = page(
        tmp_path,
        "{% macro m(v) %}<i>{{ v }}</i>{% endmacro %}"
        '<p title="{{ v }}">{{ v }}{{ m(v) }}{{ chart }}{{ 1 }}</p>',
        v=HOSTILE,
        chart=Markup("<svg></svg>"),
    )
    assert html.count("&lt;script&gt;alert(1)") == 3 and "<script" not in html
    assert html.count(r"\u202e\x1b[2J&#39;&#34;") == 3 and "\u202e" not in html
    assert "<svg></svg>1</p>" in html and html.startswith("<!doctype html>\n")


def test_lines_of_a_text_are_kept():
    assert safe("a\nb\tc<") == r"a" "\n" r"b\tc&lt;"


def test_a_text_without_end_has_one():
    assert len(safe("<" * 2**22)) < 2**23


def test_an_unknown_name_is_an_error(tmp_path: Path):
    with pytest.raises(jinja2.UndefinedError, match="absent"):
        page(tmp_path, "{{ absent }}")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.parent.name)
def test_a_template_has_no_filters_and_comes_with_its_package(path: Path):
    expressions = re.findall(r"\{[{%].*?[%}]\}", path.read_text("utf-8"), re.DOTALL)
    assert expressions and not any("|" in expression for expression in expressions)
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    package, _, name = str(path.relative_to(ROOT)).partition("/")
    assert name in data[package]


def test_there_are_templates_to_look_at():
    assert len(TEMPLATES) >= 3
