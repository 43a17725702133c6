"""The page: whole in itself, harmless whatever is in it, and its chart true."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from tier_records import record

from acestep.subject import SUBJECT
from harness.cards import find
from harness.chart import Chart, colours
from harness.memory import GIB
from harness.records.memory import ProcessMemory
from tiersim import document, html
from tiersim.answer import answer
from tiersim.case import Case, resolve
from tiersim.record import Sample

HEADER = document.header([resolve(Case(8, source="synthetic-tiny", cap="virtual"))], [])
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\u202e&amp;\x1b[31m\x00"
COLOURS = colours(SUBJECT.stages)
TIMELINE = (
    Sample(1.0, "load/dit", GIB),
    Sample(2.0, "load/vae", 2 * GIB),
    Sample(3.0, "diffuse", 6 * GIB),
    Sample(5.0, "vae_decode", 4 * GIB),
    Sample(6.0, "check", 1 * GIB),
)


class Reader(HTMLParser):
    """What a browser would make of it."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.words, self._open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "line", "i", "path"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in self._open:
            assert self._open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.words.append(data)


def read(*records, tables=(), **more):
    reader = Reader()
    reader.feed(html.page(HEADER, records, tables, **more))
    assert not reader._open
    return reader


def test_the_page_holds_every_record_and_needs_nothing_else():
    process = ProcessMemory(rss_bytes=1, rss_peak_bytes=3 * GIB, driver_peak_bytes=8 * GIB, swap_bytes=0)
    page = read(
        record(8, peak_gb=7.2, timeline=TIMELINE, process=process),
        record(12, "oom", log="last words"),
        tables=["A <T>"],
    )
    assert page.tags.count("section") == 2 and page.tags.count("svg") == 1
    words = " ".join(page.words)
    assert all(
        word in words for word in ("8 GB (RTX 4060)", "OOM", "it was oom", "last words", "A <T>", "7.20 GB")
    )
    assert "driver 8.00 GB · resident set 3.00 GB · swap 0.0 MB" in words
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.attributes.count(("class", "scroll")) == 2  # on a telephone the chart keeps its size
    loading = [(name, value) for name, value in page.attributes if name in ("src", "href", "action", "style")]
    assert all(value.startswith(("#", "background:#")) for _, value in loading)
    text = html.page(HEADER, [record(8)])
    assert "url(" not in text and "@import" not in text


def test_the_page_begins_with_the_answer_and_folds_what_each_case_did():
    records = [
        record(4, "oom", reason="24 MiB more were asked for", exception="CUDA out of memory."),
        record(6),
    ]
    page = read(*records, answer=answer(records))
    assert page.words[page.words.index("Tier test", 1) + 1] == "1 of 2 cases fit"
    words = " ".join(page.words)
    assert "6 GB (RTX 2060) 1 of 2 cards 4 GB (GTX 1650): 24 MiB more were asked for" in words
    assert words.index("CUDA out of memory.") > words.index("log")  # in its fold
    assert page.tags.count("summary") == 2 + 1 and ("open", None) not in page.attributes
    # What a cell or a row leads to is inside a fold, which a browser opens on the way.
    text = html.page(HEADER, records)
    for link in re.findall(r'href="#(case\d+)"', text):
        before, after = text.split(f'<div id="{link}"')
        assert before.count("<details>") == before.count("</details>") + 1 and "</details>" in after


def test_what_a_prediction_rests_on_is_said_once():
    asked = {"card": find("rtx4090")}
    page = read(record(8, environment={"torch": "2.13"}, **asked), record(4, "skip", **asked))
    assert page.words[page.words.index("Tier test, predicted", 1) + 2].count("predicted for") == 1


def test_what_a_worker_or_a_model_wrote_stays_text():
    hostile = record(8, "error", reason=HOSTILE, log=HOSTILE, peak_source=HOSTILE, lm=True,
                     timeline=tuple(Sample(s.t_s, HOSTILE, s.used_bytes) for s in TIMELINE))  # fmt: skip
    page = read(hostile, tables=[HOSTILE])
    assert not {"script", "img"} & set(page.tags)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    words = "".join(page.words)
    assert "<script>alert(1)</script>" in words and "\u202e" not in words and "\x1b" not in words
    # The control: without escaping this reader does see the script.
    raw = Reader()
    raw.feed(f"<pre>{HOSTILE}</pre>")
    assert {"script", "img"} <= set(raw.tags)


def chart(cap_bytes, samples=TIMELINE):
    picture, _, legend = Chart(samples, cap_bytes, SUBJECT.stages).svg().partition("<p class")
    return ET.fromstring(picture), legend


def test_the_chart_draws_bytes_over_seconds_by_stage():
    picture, legend = chart(8 * GIB)
    paths = picture.findall("path")
    assert [path.find("title").text for path in paths] == ["load", "diffuse", "vae_decode", "check"]
    assert [path.get("fill") for path in paths][:3] == [COLOURS[s] for s in ("load", "diffuse", "vae_decode")]
    assert re.findall(r"</i>(\w+)", legend) == ["load", "diffuse", "vae_decode", "check"]
    numbers = [[float(n) for n in re.findall(r"[\d.]+", path.get("d"))] for path in paths]
    (cap,) = [float(line.get("y1")) for line in picture.findall("line") if line.get("stroke-dasharray")]
    floor = numbers[0][1]
    heights = {path.find("title").text: floor - n[2] for path, n in zip(paths, numbers, strict=True)}
    assert abs(heights["diffuse"] / (floor - cap) - 6 / 8) < 0.01
    assert abs(heights["vae_decode"] / heights["diffuse"] - 4 / 6) < 0.01
    starts = [n[0] for n in numbers]  # at 1, 3, 5 and 6 seconds
    assert abs((starts[1] - starts[0]) / (starts[2] - starts[1]) - 1) < 0.01
    assert abs((starts[3] - starts[2]) * 2 / (starts[2] - starts[1]) - 1) < 0.01


def test_every_stage_has_a_colour_of_its_own_whichever_ran():
    assert len(set(COLOURS.values())) == len(COLOURS) == 1 + len(SUBJECT.stages)
    fills = [path.get("fill") for path in chart(0, TIMELINE[2:4])[0].findall("path")]
    assert fills == [COLOURS["diffuse"], COLOURS["vae_decode"]]
    assert len(colours([str(number) for number in range(40)])) == 41  # more than there are colours


def test_a_cap_far_above_is_told_and_flattens_nothing():
    picture, _ = chart(200 * GIB)
    assert not [line for line in picture.findall("line") if line.get("stroke-dasharray")]
    assert "cap 200.00 GB, far above" in [text.text for text in picture.findall("text")]
    assert not [text for text in chart(0)[0].findall("text") if "cap" in text.text]


@pytest.mark.parametrize(
    ("peak_bytes", "ticks"),
    [
        (7 * GIB, ["0 GB", "2 GB", "4 GB", "6 GB"]),
        (20 * 2**20, ["0 MB", "10 MB", "20 MB"]),
        (int(0.2 * GIB), ["0 GB", "0.1 GB", "0.2 GB"]),
        (0, ["0 MB"]),
    ],
)
def test_the_lines_of_the_chart_are_at_round_sizes(peak_bytes, ticks):
    picture, _ = chart(0, (Sample(0, "load", 0), Sample(1, "load", peak_bytes)))
    sizes = [text.text for text in picture.findall("text") if text.text.endswith("B")]
    assert sizes[: len(ticks)] == ticks and len(sizes) <= 6
