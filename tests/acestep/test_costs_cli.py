"""`python -m acestep.costs`, its page, and the benchmark's dry run on a card: what is said was predicted."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, NamedTuple

import pytest

from acestep import cards
from acestep.chart import Chart
from acestep.costs import predict, report
from acestep.costs.__main__ import main
from acestep.costs.cost import Refusal
from acestep.gpu_config import GIB
from acestep.profiler import cli

TINY = ("--source", "synthetic-tiny", "--duration", "10", "--steps", "2")
HOSTILE = "<script>alert(1)</script>\u202e&amp;"
# 24 MiB for tensors, of a card whose name gives orders to a page.
SMALL: dict[str, Any] = {"name": HOSTILE, "capability": "8.6", "memory_gib": 1, "context_mib": 1000}
SMALL |= {"tflop_per_s": 10, "gb_per_s": 100}
REFUSED = (
    (2, ("--card", "rtx409"), "GeForce RTX 4090"),
    (2, ("--card", "rtx4090", "--device-json", "x.json"), "use one of them"),
    (2, ("--duration", "9999"), "duration"),
    (2, ("--batch", "99"), "batch_size"),
    (2, ("--max-vram", "0"), "--max-vram"),
    (2, ("--frobnicate",), "--frobnicate"),
    (2, ("--lm", "large"), "acestep-5Hz-lm-0.6B"),
    (2, ("--quantization", "int3"), "int8_weight_only"),
    (2, ("--strict", "--duration", "600", "--card", "rtx4060"), "strict"),
    (2, ("--html", "/nowhere/x.html"), "--html"),
    (2, ("--json", "/"), "--json"),
    (3, ("--source", "/nowhere"), "/nowhere"),
    (3, ("--device-json", "/nowhere.json"), "/nowhere.json"),
    (3, ("--example", "nothing.json"), "example_05.json"),
    (3, ("--thinking", "--max-vram", "4"), "no language model"),
)


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str
    cost: dict[str, Any]
    page: str


@pytest.fixture(autouse=True)
def no_card_stays_behind(monkeypatch):
    """The profiler's --max-vram is for the rest of its process, which here is the tests'."""
    monkeypatch.setenv("MAX_CUDA_VRAM", "8")
    monkeypatch.delenv("MAX_CUDA_VRAM")


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


def test_help_needs_nothing_of_what_it_tells_of():
    program = (
        "import sys\n"
        "from acestep.costs.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'rich', 'msgspec', 'acestep.costs.command'} & {*sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "--device-json" in done.stdout


def test_the_report_says_what_was_predicted_in_80_columns(fits):
    cost = fits.cost
    assert fits.code == 0 and cost["fits"]
    assert "batch_size" in fits.err and "tier4" in fits.err  # 9 are more than an RTX 4060 is let have
    assert max(map(len, fits.out.splitlines())) < 80
    for words in ("GeForce RTX 4060: 8.00 GiB → 8 GB class → tier4", "acestep-5Hz-lm-0.6B plans", "fits"):
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
    assert total[3:5] == [str(cost["work"]["launches"]), str(cost["work"]["syncs"])]
    assert f"= {cost['peak_bytes'] / GIB:.2f} of 8.00 GiB" in fits.out
    highest = max(cost["stages"], key=lambda stage: stage["peak_allocated_bytes"])
    [first, *_] = sorted(highest["sites"], key=highest["sites"].get, reverse=True)
    made_of = fits.out.partition("highest peak: ")[2].splitlines()
    assert made_of[0].startswith(highest["stage"]) and made_of[1].endswith(first)
    assert 2 <= len(made_of) <= 1 + report.TOP_SITES


def test_a_card_too_small_is_exit_1_and_says_where_it_ended(ends):
    ended = ends.cost["out_of_memory"]
    assert ends.code == 1 and not ends.cost["fits"]
    assert max(map(len, ends.out.splitlines())) < 80
    told = " ".join(ends.out.split())
    assert f"out of memory in {ended['stage']}" in told
    assert f"{ended['operator']} in {ended['site']} found no room for" in told
    assert "\u202e" not in ends.out and "\\u202e" in ends.out


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
    picture = ET.fromstring(Chart(samples, 4 * GIB, [3 * GIB] * 100_001).svg().partition("<p class")[0])
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


@pytest.fixture
def dry(monkeypatch, tmp_path, capsys):
    """The benchmark's dry run of one cell: exit code and output."""
    monkeypatch.chdir(tmp_path)
    cell = ("--source", "synthetic-tiny", "--duration", "10", "--batch-size", "1", "--inference-steps", "2")

    def run(*arguments: str):
        code = cli.main(["--mode", "benchmark", *cell, *arguments], tier_test=lambda _: 9)
        return code, *capsys.readouterr()

    return run


def test_a_dry_run_on_a_card_has_expected_times_and_peaks(dry):
    code, out, _ = dry("--dry-run", "--card", "rtx4060")
    assert code == 0 and "GeForce RTX 4060: 8.00 GiB → 8 GB class → tier4" in out
    plain, thinking = re.findall(r"^10 .*$", out, re.M)
    wall, lm, dit, vae = map(float, plain.split()[4:8])
    assert lm == 0 and wall >= dit > 0 and wall >= vae
    assert float(thinking.split()[5]) > 0 and float(thinking.split()[4]) > wall
    assert re.search(r"  0\.\d\d GiB", plain) and "predicted, uncalibrated" in out


def test_a_dry_run_marks_what_does_not_fit(dry, monkeypatch, tmp_path):
    (tmp_path / "small.json").write_text(json.dumps(SMALL | {"name": "small"}))
    small = cards.read(tmp_path / "small.json")
    monkeypatch.setattr(cards, "find", lambda name: small)
    code, out, _ = dry("--dry-run", "--card", "small")
    [row] = re.findall(r"^10 .*$", out, re.M)
    assert code == 0 and "OOM in " in row and row.split()[4:8] == ["—"] * 4


def test_a_row_that_ends_late_has_no_times_either(dry, monkeypatch):
    real = predict.predict
    ended = Refusal("vae_decode", "aten::convolution", "models/vae.py", GIB)
    monkeypatch.setattr(predict, "predict", lambda *asked: replace(real(*asked), out_of_memory=ended))
    code, out, _ = dry("--dry-run", "--card", "rtx4060", "--max-vram", "4")
    [row] = re.findall(r"^10 .*$", out, re.M)
    assert code == 0 and "4.00 GiB" in out
    assert row.split()[4:8] == ["—"] * 4 and "OOM in vae_decode" in row


def test_a_card_is_for_dry_runs(dry):
    code, _, err = dry("--card", "rtx4060")
    assert code == 2 and "--card" in err and "--dry-run" in err
    code, out, _ = dry("--dry-run")
    assert code == 0 and "SKIP dry run" in out
    code, _, err = dry("--dry-run", "--card", "rtx409")
    assert code == 2 and "GeForce RTX 4090" in err
