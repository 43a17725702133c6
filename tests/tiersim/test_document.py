"""Records in the profiler's format: nothing that matters is lost, and old readers find their names."""

import csv
import io
import json

import msgspec
from tier_records import record

from harness.memory import GIB
from harness.records import forms
from harness.records import writer as output
from harness.records.memory import ProcessMemory
from harness.records.schema import Item
from harness.records.telemetry import Telemetry
from harness.text import UNSAFE
from tiersim import document
from tiersim.case import Case, resolve
from tiersim.notes import label
from tiersim.record import Sample

PLAN = resolve(Case(8, source="synthetic-tiny", cap="virtual"))
MADE = record(
    12,
    peak_gb=10.8,
    lm=True,
    stages_s={"lm_decode": 2.0, "diffuse": 6.0, "vae_decode": 4.0, "other": 0.5},
    counts={"audio_s": 25.0},
    timeline=(Sample(0.5, "load/vae", 10), Sample(1.0, "diffuse", 30)),
    stage_peaks_bytes={"diffuse": 40},
    environment={"lm_backend": "vllm", "torch": "2.13"},
    log="last words",
)


def written(tmp_path, name, *records, **form):
    path = tmp_path / name
    with output.Writer(path, document.header([PLAN], ["--tiers", "8"]), **form) as writer:
        for one in records:
            writer.add(document.item(one))
    return path.read_text()


def test_an_item_of_a_record():
    item = document.item(MADE)
    assert msgspec.json.decode(msgspec.json.encode(item), type=Item) == item
    assert (item.key, item.status, item.rtf, item.median_s) == (MADE.key, "ok", 0.5, 12.5)
    card = item.card
    assert (card.tier_gb, card.tier, card.variant, card.peak_bytes) == (
        12,
        "tier5",
        "default",
        MADE.peak_bytes,
    )
    assert (card.cap, card.cap_verified, card.exit_code, card.log) == ("cuda-fraction", True, 0, "last words")
    assert [(used.t_s, used.phase, used.used_bytes) for used in card.timeline] == [
        (0.5, "load/vae", 10),
        (1.0, "diffuse", 30),
    ]
    assert item.requested["preset"] == "fixed"
    assert item.effective["lm_backend"] == "vllm" and item.effective["quantization"] == "int8_weight_only"


def test_an_item_has_what_host_and_driver_count_and_says_that_its_card_was_hot():
    process = ProcessMemory(rss_bytes=1, rss_peak_bytes=2, driver_peak_bytes=GIB, context_bytes=GIB // 2)
    hot = Telemetry(seconds=2.0, energy_j=500.0, throttling={"hardware slowdown": 0.25, "power cap": 1.0})
    made = record(8, process=process, stage_processes={"diffuse": process}, telemetry=hot)
    item, warning = document.item(made), "the card was throttled: hardware slowdown 25% of the time"
    assert (item.card.process, item.card.stage_processes) == (process, {"diffuse": process})
    assert item.typical.telemetry == hot and item.warnings[-1] == warning in item.card.notes
    assert label(made) == label(record(8))  # of memory it says nothing
    assert msgspec.json.decode(msgspec.json.encode(item), type=Item) == item
    without = msgspec.to_builtins(document.item(record(8)))
    assert not {"process", "stage_processes"} & without["card"].keys()
    assert "telemetry" not in without["samples"][0]


def test_an_item_says_how_its_engine_ran():
    for ran in (False, True):
        effective = document.item(record(8, compile=ran, graphs=ran)).effective
        assert effective["compile"] is effective["graphs"] is ran


def test_a_failure_is_an_item_with_its_reason(tmp_path):
    item = document.item(record(4, "oom", 3.9))
    assert (item.status, item.error, item.samples, item.rtf) == ("oom", "it was oom", (), None)
    assert document.item(record(4, "refused")).status == "refused"
    assert document.item(record(4, "skip")).card.cap is None


def test_the_file_reads_back(tmp_path):
    written(tmp_path, "a.json", MADE, record(4, "oom"))
    header, items = output.load(tmp_path / "a.json")
    assert (header.mode, header.source, header.argv) == ("tier-test", "synthetic-tiny", ("--tiers", "8"))
    assert items[0] == document.item(MADE) and len(items) == 2


def test_old_readers_find_upstreams_names(tmp_path):
    passed, failed = json.loads(written(tmp_path, "a.json", MADE, record(4, "oom", 3.9), json_compat=True))
    assert passed == {
        "tier_gb": 12, "tier": "tier5", "test_variant": "default", "use_lm": True,
        "lm_model": "acestep-5Hz-lm-1.7B", "lm_backend": "vllm", "offload": True, "offload_dit": False,
        "quantization": "int8_weight_only", "duration": 30.0, "batch_size": 1, "init_success": True,
        "gen_success": True, "wall_time": 12.5, "error": None, "peak_vram_gb": MADE.peak_bytes / 2**30,
        "lm_time": 2.0, "dit_time": 6.0, "vae_time": 4.0,
    }  # fmt: skip
    assert (failed["init_success"], failed["gen_success"], failed["error"]) == (True, False, "it was oom")


def test_a_row_of_a_spreadsheet_and_of_a_table(tmp_path):
    (row,) = csv.DictReader(written(tmp_path, "a.csv", MADE).splitlines())
    assert (row["tier_gb"], row["tier_lm"], row["status"]) == ("12", "acestep-5Hz-lm-1.7B", "ok")
    assert int(row["peak_bytes"]) == MADE.peak_bytes
    table = written(tmp_path, "a.md", record(4, "oom", reason="<b>|no|</b>"))
    assert "| tier1 |" in table and "\\<b\\>\\|no" in table


def test_what_a_worker_wrote_gives_no_orders_in_any_form(tmp_path):
    """Markup, marks that reverse text, controls, the end of a block, and a million characters."""
    rude = "\u202e\x1b[2J|<b>\n```\n# [x](y)\u2028" + "x" * 10**6
    made = record(8, "error", reason=rude, peak_source=rude, log=rude)
    for name in ("a.md", "a.csv"):
        text = written(tmp_path, name, made)
        assert not UNSAFE.search(text.replace("\n", "")) and len(text) < 20_000
        rows = text.splitlines()[2:] if name == "a.md" else list(csv.reader(io.StringIO(text)))[:-1]
        assert len(rows) == (3 if name == "a.md" else 1)
    assert msgspec.json.decode(written(tmp_path, "a.json", made))["items"][0]["error"] == rude
    assert forms.fenced("a\n````\n# b").splitlines()[1::4] == ["`````text", "`````"]
