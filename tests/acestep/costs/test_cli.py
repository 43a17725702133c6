"""`python -m acestep.costs` and its page: what is said was predicted."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from contextlib import redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
from full_disk import REASON, room

from acestep.costs.__main__ import main
from harness import cards
from harness.chart import Chart
from harness.errors import BenchError
from harness.memory import GIB
from harness.oom import in_words
from harness.trace import predict, report

TINY = ("--source", "synthetic-tiny", "--duration", "10", "--steps", "2")
HOSTILE = "<script>alert(1)</script>\u202e&amp;"
# 24 MiB for tensors, of a card whose name gives orders to a page.
SMALL: dict[str, Any] = {"name": HOSTILE, "capability": "8.6", "memory_gib": 1, "context_mib": 1000}
SMALL |= {"tflop_per_s": 10, "gb_per_s": 100}
REFUSED = (
    (2, ("--card", "rtx409"), "GeForce RTX 4090"),
    (2, ("--card", "rtx4090", "--device-json", "x.json"), "use one of them"),
    (2, ("--duration", "9999"), "--duration: 9999"),
    (2, ("--batch", "99"), "--batch: 99"),
    (2, ("--max-vram", "0"), "--max-vram"),
    (2, ("--frobnicate",), "--frobnicate"),
    (2, ("--lm", "large"), "acestep-5Hz-lm-0.6B"),
    (2, ("--preset", "theirs"), "upstream"),
    (2, ("--quantization", "int3"), "int8_weight_only"),
    (2, ("--strict", "--duration", "600", "--card", "rtx4060"), "strict"),
    (2, ("--html", "/nowhere/x.html"), "--html"),
    (2, ("--html", "/etc/passwd/x.html"), "--html"),
    (2, ("--json", "/"), "--json"),
    (2, ("--card", ""), "'' is not known"),
    (3, ("--source", "/nowhere"), "/nowhere"),
    (3, ("--device-json", "/nowhere.json"), "/nowhere.json"),
    (3, ("--example", "nothing.json"), "example_05.json"),
    (3, ("--example", "x" * 300), "example_05.json"),
    (3, ("--thinking", "--max-vram", "4"), "no language model"),
)


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str
    cost: dict[str, Any]
    page: str


@pytest.fixture(scope="module")
def say(tmp_path_factory):
    """The command on tiny weights, writing both files."""

    def run(*arguments: str) -> Said:
        folder = tmp_path_factory.mktemp("costs")
        written, shown = folder / "cost.json", folder / "cost.html"
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main([*TINY, *arguments, "--json", str(written), "--html", str(shown)])
        assert sorted(folder.iterdir()) == [shown, written]
        return Said(code, out.getvalue(), err.getvalue(), json.loads(written.read_text()), shown.read_text())

    return run


@pytest.fixture(scope="module")
def fits(say):
    return say("--card", "rtx4060", "--thinking", "--batch", "9")


@pytest.fixture(scope="module")
def ends(say, tmp_path_factory):
    path = tmp_path_factory.mktemp("cards") / "small.json"
    path.write_text(json.dumps(SMALL))
    return say("--device-json", str(path))


class Reader(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)


def rows(out: str) -> dict[str, list[str]]:
    """The table of stages: the first cell, and the others."""
    table = out.partition("\nstage ")[2].partition("\n\n")[0].splitlines()[1:]
    return {line[:12].strip(): line[12:].split() for line in table}


def test_what_is_refused_is_refused_before_torch_is_imported():
    program = (
        "import json, sys\n"
        "from acestep.costs.__main__ import main\n"
        "codes = [main(line) for line in json.loads(sys.argv[1])]\n"
        "print(codes, 'torch' in sys.modules)\n"
    )
    lines = json.dumps([arguments for _, arguments, _ in REFUSED])
    done = subprocess.run([sys.executable, "-c", program, lines], capture_output=True, text=True, check=True)
    assert done.stdout == f"{[code for code, _, _ in REFUSED]} False\n"
    told = done.stderr.splitlines()
    assert len(told) == len(REFUSED)
    for line, (_, _, words) in zip(told, REFUSED, strict=True):
        assert line.startswith("acestep.costs: ") and words in line


def test_a_quantization_is_the_cards_to_have(capsys):
    line = [*TINY, "--quantization", "fp8_weight_only", "--card"]
    assert main([*line, "rtx4060"]) == 0
    assert "fp8_weight_only" in capsys.readouterr().out
    assert main([*line, "rtx3060-12gb"]) == 3
    assert "this one has 8.6" in capsys.readouterr().err


def test_the_report_says_what_was_predicted_in_80_columns(fits):
    cost = fits.cost
    assert fits.code == 0 and cost["fits"]
    assert (
        "batch_size" in fits.err and "of 8 GB (RTX 4060)" in fits.err
    )  # 9 are more than an RTX 4060 is let have
    assert max(map(len, fits.out.splitlines())) < 80
    answer = " ".join(fits.out.partition("\n\n")[0].split())
    low, high = cost["expected_s"]
    assert answer == (
        f"Fits GeForce RTX 4060 of 8 GiB with {8 - cost['peak_bytes'] / GIB:.2f} GiB to spare;"
        f" {low:.3f} to {high:.3f} s for {cost['plan']['batch_size']} x 10 s of audio. Predicted."
    )
    for words in ("GeForce RTX 4060: 8.00 GiB → 8 GB (RTX 4060), tier4", "acestep-5Hz-lm-0.6B plans", "fits"):
        assert words in fits.out
    assert re.search(r"^predicted, uncalibrated, torch \S+, seconds are a roofline$", fits.out, re.M)
    table = rows(fits.out)
    assert table.keys() == {stage["stage"] for stage in cost["stages"]} | {report.TOTAL}
    for stage in cost["stages"]:
        seconds, *cells = table[stage["stage"]]
        assert seconds == f"{stage['seconds']:.3f}"
        assert (cells[0] == stage["bound_by"]) is (stage["seconds"] > 0)
        assert cells[-2] == f"{stage['peak_allocated_bytes'] / GIB:.2f}"
    total = table[report.TOTAL]
    assert total[0] == f"{sum(s['seconds'] for s in cost['stages'] if s['stage'] != 'load'):.3f}"
    launches, kernels = cost["work"]["launches"], cost["work"]["kernels"]
    launched = [str(number) if number < 1e5 else f"{number / 1e6:.2f}M" for number in (launches, kernels)]
    launched = str(launches) if launches == kernels else "/".join(launched)
    assert total[3:5] == [launched, str(cost["work"]["syncs"])]
    assert f"= {cost['peak_bytes'] / GIB:.2f} of 8.00 GiB" in fits.out
    highest = max(cost["stages"], key=lambda stage: stage["peak_allocated_bytes"])
    [first, *_] = sorted(highest["sites"], key=highest["sites"].get, reverse=True)
    made_of = fits.out.partition("highest peak: ")[2].splitlines()
    assert made_of[0].startswith(highest["stage"]) and made_of[1].endswith(first)
    assert 2 <= len(made_of) <= 1 + report.TOP_SITES


def test_what_runs_the_kernels_is_said_and_counted(capsys):
    counts = {}
    for flags in (("--no-graphs",), ("--compile", "--no-graphs"), ("--compile",)):
        assert main([*TINY, *flags]) == 0
        out = " ".join(capsys.readouterr().out.split())
        runs = "compiled PyTorch (fusion by rule)" if "--compile" in flags else "eager PyTorch"
        assert f"run by {runs}{'' if '--no-graphs' in flags else ', steps as graphs'} predicted" in out
        assert "2 µs a kernel" in out
        assert main([*TINY, *flags, "--json"]) == 0
        cost = json.loads(capsys.readouterr().out)
        assert cost["environment"]["compiled"] == ("fusion by rule" if "--compile" in flags else None)
        counts[flags] = {stage["stage"]: stage["work"] for stage in cost["stages"]}["diffuse"]
    eager, compiled, _ = counts.values()
    assert compiled["kernels"] < eager["kernels"]
    assert compiled["read_bytes"] < eager["read_bytes"] and compiled["flop"] == eager["flop"]


def test_a_card_too_small_is_exit_1_and_says_where_it_ended(ends):
    ended = ends.cost["out_of_memory"]
    assert ends.code == 1 and not ends.cost["fits"]
    assert max(map(len, ends.out.splitlines())) < 80
    told = " ".join(ends.out.split())
    words = in_words("device", ended["segment_bytes"], stage=ended["stage"])
    assert told.startswith("Does not fit <script>") and f": {words}. Predicted." in told
    assert f"out of memory in {ended['stage']}" in told
    assert f"{words}; " in told and " were free of " in told and ended["operator"] not in told
    assert "\u202e" not in ends.out and "\\u202e" in ends.out


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), BenchError("told"), MemoryError("host")])
def test_what_could_not_be_predicted_is_not_what_does_not_fit(error, monkeypatch, capsys):
    monkeypatch.setattr(predict, "predict", Mock(side_effect=error))
    assert main([*TINY]) == 4
    said = capsys.readouterr()
    assert not said.out and str(error) in said.err
    assert ("Traceback" in said.err) is isinstance(error, ZeroDivisionError)


def test_the_code_is_the_same_whatever_it_is_told_to(monkeypatch, capsys):
    """A terminal without arrows, and none."""
    arrowless = io.TextIOWrapper(io.BytesIO(), "ascii")
    for stdout in (arrowless, None):
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main([*TINY]) == 0
    monkeypatch.undo()
    assert capsys.readouterr() == ("", "")
    assert arrowless.buffer.getvalue().count(b"24.00 GiB > 24 GB (RTX 4090)") == 1


def test_no_place_is_taken_from_another(tmp_path, capsys):
    """A device or a pipe would be replaced by a file, one of two files by the other."""
    pipe, page = tmp_path / "pipe", tmp_path / "page"
    os.mkfifo(pipe)
    page.symlink_to("cost")
    assert main([*TINY, "--html", str(pipe)]) == main([*TINY, "--json", str(pipe)]) == 2
    assert capsys.readouterr().err.count("is there and is no file") == 2
    assert main([*TINY, "--html", str(page), "--json", str(tmp_path / "cost")]) == 2
    assert "the file of --html as well" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [page, pipe] and pipe.is_fifo()


def test_a_prediction_is_told_even_where_its_files_cannot_be_written(tmp_path, capsys):
    for flag in ("--html", "--json"):
        place = tmp_path / "place"
        with room(0):
            assert main([*TINY, flag, str(place)]) == 4
        out, err = capsys.readouterr()
        assert "peak" in out and f"{REASON}: '{place}'\n" in err and not place.exists()


def test_a_link_to_a_page_stays_one(tmp_path):
    assert main([*TINY, "--html", str(tmp_path / "page.html")]) == 0
    (tmp_path / "link.html").symlink_to("page.html")
    assert main([*TINY, "--html", str(tmp_path / "link.html")]) == 0
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_a_page_is_whole_in_itself_and_harmless(fits, ends):
    for said in (fits, ends):
        read = Reader(said.page)
        assert not {"script", "link", "img", "iframe"} & set(read.tags)
        sources = [value for name, value in read.attributes if name in ("src", "href", "action")]
        assert not sources and "url(" not in said.page and "@import" not in said.page
        assert not any(name.startswith("on") for name, _ in read.attributes)
        words = " ".join(read.words)
        assert "uncalibrated" in words and "\u202e" not in words
        for stage in said.cost["stages"]:
            assert stage["stage"] in words and all(site in words for site in [*stage["sites"]][:5])
    assert "<script>alert(1)</script>" in " ".join(Reader(ends.page).words)
    # The control: unescaped, this reader does see the script.
    assert "script" in Reader(HOSTILE).tags


def test_the_chart_of_a_page_has_every_stage_the_reserved_line_and_the_cap(fits):
    [picture] = re.findall("<svg.*?</svg>", fits.page)
    paths = ET.fromstring(picture).findall("path")
    drawn = {title.text for path in paths if (title := path.find("title")) is not None}
    assert drawn == {sample["stage"] for sample in fits.cost["samples"]}
    [line] = [path for path in paths if path.get("fill") == "none"]
    heights = [float(y) for y in re.findall(r"V([\d.]+)", str(line.get("d")))]
    cap = [text.text for text in ET.fromstring(picture).findall("text") if "cap" in str(text.text)]
    assert len(set(heights)) > 1 and cap == ["cap 7.50 GB, far above"]


class Moment(NamedTuple):
    t_s: float
    phase: str
    used_bytes: int


def test_a_chart_of_many_samples_is_small_and_keeps_the_highest_of_each_moment():
    samples = [Moment(n / 1e5, "diffuse", GIB * (1 + (n == 51_000))) for n in range(100_001)]
    chart = Chart(samples, 4 * GIB, ["diffuse"], [3 * GIB] * 100_001)
    picture = ET.fromstring(chart.svg().partition("<p class")[0])
    area, line = picture.findall("path")
    [cap] = [rule for rule in picture.findall("line") if rule.get("stroke-dasharray")]
    floor = float(str(area.get("d")).partition(" ")[2].partition("V")[0])
    heights = [floor - float(y) for y in re.findall(r"V([\d.]+)", str(area.get("d")))]
    to_cap = floor - float(str(cap.get("y1")))
    assert max(heights) / to_cap == pytest.approx(2 / 4, abs=0.01)
    assert sum(height / to_cap > 0.4 for height in heights) == 1
    assert floor - float(str(line.get("d")).split()[1].partition("H")[0]) == pytest.approx(
        to_cap * 3 / 4, abs=1
    )
    assert len(str(area.get("d"))) < 30_000
    ends = [float(x) for x in re.findall(r"H([\d.]+)", str(area.get("d")))]
    assert ends[-1] == pytest.approx(748, abs=0.1)  # the last sample is drawn where it is


def test_json_is_printed_where_no_file_is_named(fits, capsys):
    assert main([*TINY, "--card", "rtx4060", "--thinking", "--batch", "9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == fits.cost


def test_every_card_is_listed_in_80_columns(capsys):
    assert main(["--list-cards"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(cards.cards()) and max(map(len, lines)) < 80
