"""No function stands twice: what has two owners drifts."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from textwrap import dedent

from places import ROOT

PACKAGES = ("harness", "acestep", "subjects", "tiersim")
LINES = 4  # of code: shorter ones say the same of different things


def functions(source: str) -> Iterator[tuple[str, str]]:
    """The functions of a module that are longer than a few lines: each by its name, and what it does."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[ast.get_docstring(node) is not None :]
            code = lines[body[0].lineno - 1 : node.end_lineno] if body else []
            if len(code) >= LINES:
                yield f"{node.lineno} {node.name}", dedent("\n".join(code))


def twice(modules: Mapping[str, str]) -> list[list[str]]:
    """Functions that do the same, word by word."""
    places = defaultdict(list)
    for path, source in modules.items():
        for name, code in functions(source):
            places[code].append(f"{path}:{name}")
    return [names for names in places.values() if len(names) > 1]


def test_no_function_stands_twice():
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    assert twice({str(path.relative_to(ROOT)): path.read_text("utf-8") for path in paths}) == []


def test_one_that_does_is_seen():
    one = '''
def one(a: int) -> int:
    """A number."""
    b = a + 1
    if b:
        b = 3
    return b
'''
    other = """
class A:
    def other(self, a):
        b = a + 1
        if b:
            b = 3
        return b
"""
    assert twice({"x.py": one, "y.py": other}) == [["x.py:2 one", "y.py:3 other"]]
    assert twice({"x.py": one, "y.py": other.replace("3", "4")}) == []
