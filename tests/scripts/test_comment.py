"""The comment on a pull request: what a record says is data, whatever it says, and always fits."""

import html
import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt
from places import ROOT

from scripts.gate.comment import FOOTER, comment
from scripts.gate.markdown import code, markdown
from scripts.gate.record import Commit, Fit, Machine, Record, Series, write

MOST_CHARS = 65_536  # of a comment on GitHub
HOSTILE = {
    "mention": "@octocat @acme/everyone",
    "issue": "#1 GH-2 acme/tool#3",
    "address": "https://evil.example/?a=b www.evil.example mailto:a@evil.example a@evil.example",
    "link": "[click](https://evil.example) ![x](https://evil.example/x.png) <https://evil.example>",
    "html": "</code></td></table><script>alert(1)</script><img src=x onerror=alert(1)><!-- -->",
    "table": "a | b \\| c ` d `` | e\n| f | g |",
    "fold": "</details><details open>",
    "fence": "```\n# heading\n```",
    "emphasis": "*a* **b** _c_ __d__ ~~e~~ &lt; &#60;",
    "lines": "one\r\ntwo\n\n# three\u2028four\x85five",
    "bidi": "\u202e\u2066gpj.exe\u2069 \u200b\u200d\ufeff\U000e0041",
    "control": "\x00\x1b]0;x\x07\x08\ud800",
    "command": "$(id) `id` ; ::set-output name=x::y",
    "long": "W" * 2000,
    "zalgo": "a" + "\u0301" * 1000,
    "empty": "",
}


def series(verdict="slower", kind="timed", base=0.309, head=0.46, **fields):
    known = {"ratio": head / base, "ratio_low": 1.4, "ratio_high": 1.6, "detectable": 0.04} if head else {}
    known |= {"benchmark": "dit.TimeDiT.track_diffuse", "params": (("batch", "1"),), "stage": "diffuse",
              "component": "DiT", "unit": "seconds"}  # fmt: skip
    return Series(**known | fields, kind=kind, verdict=verdict, base=base, head=head)


RECORD = Record(
    Commit("a" * 40, "Fewer launches"), Commit("b" * 40, "A sampler that reads well"), "slower",
    Machine("amd", "AMD EPYC", 2, "none", "2.13.0", 0.4, 1.9, False),
    "synthetic-tiny", "2026-11-29T18:00:00Z", 412.0, 600.0, 4, 0.1, 0.005,
    (
        series(),
        series(benchmark="costs.TrackCost.track_flop", unit="FLOP", kind="exact", base=4.99e12, head=7.48e12,
               ratio_low=None, ratio_high=None, detectable=None),
        series("cannot tell", stage="lm_decode", component="LM", base=0.11, head=0.12, detectable=0.3),
        series("not measured", stage="wall", head=None, reason="RuntimeError: no luck"),
        series("same", stage="vae_decode", component="VAE", base=0.1, head=0.1),
    ),
    (Fit("turbo, with LM", 8.0, "fits", "out of memory"),), ("A note.",),
    "python -m scripts.gate aaaaaaaaaaaa bbbbbbbbbbbb",
)  # fmt: skip


HEAD = RECORD.head.sha


def with_text(record, text):
    """The record with `text` in place of all that it says in words of its own."""

    def replaced(value, name=""):
        if isinstance(value, dict):
            return {key: replaced(one, key) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return tuple(replaced(one, name) for one in value)
        free = name not in ("format", "verdict", "kind", "params")
        return text[: {"sha": 64, "started": 40}.get(name, 200)] if isinstance(value, str) and free else value

    content = replaced(asdict(record))
    for name, kind in {"base": Commit, "head": Commit, "machine": Machine}.items():
        content[name] = kind(**content[name])
    content["series"] = tuple(
        Series(**one | {"params": ((text[:200], text[:200]),)}) for one in content["series"]
    )
    content["fits"] = tuple(Fit(**one) for one in content["fits"])
    return Record(**content)


class Shape(HTMLParser):
    """Elements of a page in their order, and the text that is no code."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.plain, self._inside = [], "", 0
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, *attributes))
        self._inside += tag == "code"

    def handle_endtag(self, tag):
        self._inside -= tag == "code"

    def handle_data(self, data):
        self.plain += "" if self._inside else data


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_text_of_a_record_is_more_than_text(kind):
    """The page has the elements that it has with an innocent text, and the text is in `code` alone."""
    page, innocent = (Shape(markdown(with_text(RECORD, text))) for text in (HOSTILE[kind], "innocent"))
    assert page.elements == innocent.elements
    assert page.plain == innocent.plain


@pytest.mark.parametrize("kind", HOSTILE)
def test_code_says_what_the_text_says(kind):
    text = HOSTILE[kind]
    shown = code(text, 10_000)
    assert re.fullmatch(r"<code>[^<>|`@\n]*</code>", shown) and shown.isprintable()
    if text.isprintable():
        assert html.unescape(shown).removeprefix("<code>").removesuffix("</code>") == text
    assert len(html.unescape(code(text))) <= len("<code></code>") + 80


def test_a_renderer_that_trusts_is_caught():
    """The control: these pages would not be told from one another if they were not looked at."""
    trusting = [
        Shape(f"| a |\n|---|\n| {text} |\n") for text in (HOSTILE["html"], HOSTILE["link"], "innocent")
    ]
    assert len({str(page.elements) for page in trusting}) == 3


def test_the_largest_record_makes_a_comment_that_fits(tmp_path):
    text = "|" * 200
    full = with_text(RECORD, text)
    many = tuple(replace(one, stage=f"{i:3}{text}"[:200]) for i in range(100) for one in full.series)
    full = replace(full, series=many, fits=full.fits * 500, notes=(text * 10,) * 100, command=text * 10)
    write(tmp_path / "gate.json", full)
    shown = comment(tmp_path / "gate.json", full.head.sha)
    assert len(shown) < MOST_CHARS - 100
    assert "and 380 more" in shown and "and 490 more" in shown and "and 95 more notes" in shown


def test_what_a_reader_is_told():
    shown = html.unescape(re.sub("</?code>", "", markdown(RECORD))).replace("\N{NO-BREAK SPACE}", " ")
    for expected in (
        "### Gate: slower", "bbbbbbbb A sampler that reads well against aaaaaaaa Fewer launches",
        "| **slower** | diffuse, DiT | +49 % (+40 % to +60 %) | 309 → 460 ms | 1 |",
        "| **slower** | diffuse, DiT | +50 % FLOP | 4.99 → 7.48 TFLOP | 1 |",
        "up to +30 % would not show", "RuntimeError: no luck",
        "turbo, with LM on 8 GB (RTX 4060): fits → out of memory",
        "2 slower, 1 cannot tell, 1 not measured, 1 same", "profile_inference.py", "AMD EPYC, 2 cores",
        "load 0.4 to 1.9", "unlike machines are never compared", "python -m scripts.gate aaaaaaaaaaaa",
    ):  # fmt: skip
        assert expected in shown, expected
    assert "vae_decode" not in shown  # what is the same is counted


@pytest.mark.parametrize("left", ["nothing", "no JSON", "another format", "too large", "a folder", "a pipe"])
def test_what_is_no_record_is_said_to_be_none(tmp_path, left):
    path = tmp_path / "gate.json"
    if left == "a folder":
        path.mkdir()
    elif left == "a pipe":
        subprocess.run(["mkfifo", path], check=True)
    elif left != "nothing":
        texts = {"no JSON": "# <b>hello</b> @octocat", "another format": json.dumps({"@octocat": 1})}
        path.write_text(texts.get(left, " " * (5 * 2**20)))
    shown = comment(path, HEAD)
    assert "no record that can be read" in shown and shown.endswith(f"{FOOTER}\n")
    assert "@" not in shown and len(shown) < 2000


def test_a_record_of_another_commit_is_not_shown(tmp_path):
    """A pull request's code may leave one that was good of another."""
    write(tmp_path / "gate.json", RECORD)
    assert "### Gate: slower" in comment(tmp_path / "gate.json", HEAD)
    shown = comment(tmp_path / "gate.json", "c" * 40)
    assert "### Gate: not measured" in shown and "bbbbbbbb" in shown and "cccccccc" in shown
    assert "slower" not in shown


def test_it_needs_nothing_that_is_installed(tmp_path):
    write(tmp_path / "gate.json", RECORD)
    done = subprocess.run(
        [sys.executable, "-S", "-m", "scripts.gate.comment", str(tmp_path / "gate.json"), HEAD],
        capture_output=True, text=True, cwd=ROOT, env={"PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == comment(tmp_path / "gate.json", HEAD)
