"""Forms of a record: the names and the columns they have, and safe to open elsewhere."""

import csv
import json
from pathlib import Path

import pytest
from profiles import header, item

from harness.records.forms import form_of
from harness.records.schema import Header, Item, Profile


def shown(name: str, *items: Item, run: Header | None = None, json_compat: bool = False) -> str:
    return form_of(Path(name), json_compat)(Profile(run=run or header(), items=items)).decode()


def rows(*items: Item, run: Header | None = None) -> list[dict[str, str]]:
    """What a spreadsheet reads of a CSV."""
    return [*csv.DictReader(shown("R.CSV", *items, run=run).splitlines(keepends=True))]


def test_the_bare_list_has_the_old_names():
    failed = item(60.0, status="oom", error="no room", samples=(), audio=None)
    entries = json.loads(shown("r.json", item(), failed, json_compat=True))
    assert entries[0] == {
        "config": {"duration": 30.0, "batch_size": 2, "thinking": True, "inference_steps": 8},
        "wall_time": 3.0,
        "success": True,
        "error": None,
        "lm_time": 0.75,
        "dit_time": 1.0,
        "vae_time": 0.5,
        "n_audios": 2,
    }
    assert (entries[1]["success"], entries[1]["error"]) == (False, "no room")
    assert (entries[1]["wall_time"], entries[1]["n_audios"]) == (0.0, 0)


def test_a_csv_has_a_row_per_item_with_its_provenance():
    first, second = rows(item(), item(60.0, samples=(), memory_bytes={"driver": 30}))
    expected = {"duration_s": "30.0", "wall_s": "3.0", "spread": "0.5", "dit_s": "1.0", "min_s": "2.5"}
    expected |= {"commit": "c0ffee", "dirty": "False", "cpu": "AMD EPYC", "rss_bytes": "10"}
    assert expected.items() <= first.items()
    assert (second["wall_s"], second["rss_bytes"], second["driver_bytes"]) == ("", "", "30")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", "\x1b[31m=1"])
def test_no_cell_is_a_formula(text):
    (row,) = rows(item(status="error", error=text), run=header(source=text))
    for cell in (row["error"], row["source"]):
        assert cell[0] not in "=+-@\t\r\x1b"


def test_a_table_stays_a_table():
    failed = item(status="error", error="a|b\n<b>`[x](y)\\ \x1b[31m")
    facts, _, head, rule, row = shown("r.md", failed).splitlines()
    assert facts.startswith("acestep-profile/1, c0ffee, synthetic-tiny")
    assert rule.count("---") == head.count("|") - 1 == row.replace("\\|", "").count("|") - 1
    assert "| 3 | 0.5 | 0.75 | 1 | 0.5 | 0.1 | error | " in row
    assert "a\\|b \\<b\\>\\`\\[x\\](y)\\\\ \\\\x1b\\[31m" in row


def test_a_row_names_the_preset_where_the_record_does():
    of_upstream = item(requested={"duration": 30.0, "preset": "upstream"})
    assert [row["preset"] for row in rows(of_upstream, item())] == ["upstream", ""]
    lines = shown("r.md", of_upstream, item()).splitlines()
    head, _, first, second = ([cell.strip() for cell in line.split("|")] for line in lines[2:])
    assert (first[head.index("preset")], second[head.index("preset")]) == ("upstream", "")
