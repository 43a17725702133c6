"""Every field of every kind of event, with every value it must not have: generated from the schemas."""

import json
from typing import get_type_hints

import pytest

from tiersim.events import KINDS, parse

FIELDS = {
    "v": 1, "monotonic_s": 1.5, "used_bytes": 1, "ended_peak_bytes": 2, "pid": 3, "python": "3",
    "platform": "", "kind": "virtual", "bytes": 4, "verified": True, "name": "load/dit", "phase": "load",
    "i": 5, "n": None,
    "wall_s": 1.5, "stages_s": {"diffuse": 1.5, "other": -1e-17}, "generation_peak_bytes": 6,
    "load_peak_bytes": 7, "peak_source": "s", "counts": {"dit_steps": 8, "audio_s": 2.5},
    "fallbacks": [{"stage": "s", "reason": "r", "action": "a"}], "error": "E", "message": "m",
    "environment": {"lm": None, "compile": False, "threads": 2, "x": 0.5}, "requested_bytes": None,
    "free_bytes": 9, "total_bytes": None,
    "ended_process": {"rss_bytes": 8, "rss_peak_bytes": 9, "driver_bytes": None},
    "telemetry": {"seconds": 1.5, "energy_j": 2.5, "throttling": {"power cap": 1}, "readings": []},
}  # fmt: skip
MARK = "the value"
BAD = {
    "wrong type": "[{}]",
    "negative": "-1",
    "huge": f"1{'0' * 400}",
    "huge with thousands of digits": "9" * 5000,
    "infinite": "1e999",
    "NaN": "NaN",
    "-Infinity": "-Infinity",
    "nested": "[" * 100_000 + "]" * 100_000,
    "half a character": r'"\ud800"',
}
INSIDE = ("stages_s", "counts", "environment")
OF_MEMORY = {"requested_bytes", "free_bytes", "total_bytes"}
OF_FAILURES = {"kind", *OF_MEMORY, "generation_peak_bytes", "load_peak_bytes", "peak_source"}
OPTIONAL = {
    "result": {"load_peak_bytes", "counts", "fallbacks", "environment", "telemetry"},
    "oom": OF_FAILURES,
    "error": OF_FAILURES,
}


def valid(kind: str) -> dict:
    names = get_type_hints(KINDS[kind])
    return {"event": kind} | {name: FIELDS[name] for name in names if name != "event"}


def line(event: dict, value: str = "") -> bytes:
    """The event as JSON, with `value` as it is where the mark stands."""
    return json.dumps(event).replace(f'"{MARK}"', value).encode()


FIELDS_OF_KINDS = [(kind, field) for kind in KINDS for field in valid(kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_control_an_event_as_it_should_be(kind):
    event = parse(line(valid(kind)))
    assert event is not None and event.keys() == valid(kind).keys()
    assert parse(line(valid(kind) | {"of a later version": [1]})) == event


@pytest.mark.parametrize(("kind", "field"), FIELDS_OF_KINDS)
def test_no_field_has_a_value_it_must_not_have(kind, field):
    for name, value in BAD.items():
        assert parse(line(valid(kind) | {field: MARK}, value)) is None, name


@pytest.mark.parametrize(("kind", "field"), FIELDS_OF_KINDS)
def test_a_field_that_is_missing_is_one_that_may_be(kind, field):
    event = parse(line({name: value for name, value in valid(kind).items() if name != field}))
    may_be = {"used_bytes", "ended_peak_bytes", "ended_process"} | OPTIONAL.get(kind, set())
    assert (event is not None) == (field in may_be)


@pytest.mark.parametrize("field", INSIDE)
@pytest.mark.parametrize("bad", sorted(BAD.keys() - {"negative"}))
def test_nor_has_what_is_inside_one(field, bad):
    assert parse(line(valid("result") | {field: {"x": MARK}}, BAD[bad])) is None


@pytest.mark.parametrize(
    ("field", "inside"),
    [
        ("ended_process", {"rss_bytes": MARK, "rss_peak_bytes": 1}),
        ("ended_process", {"rss_bytes": 1, "rss_peak_bytes": 1, "driver_bytes": MARK}),
        ("telemetry", {"seconds": MARK}),
        ("telemetry", {"seconds": 1, "energy_j": MARK}),
        ("telemetry", {"seconds": 1, "throttling": {"power cap": MARK}}),
        ("telemetry", {"seconds": 1, "readings": [[1, MARK, 1, 1, 1, []]]}),
    ],
    ids=str,
)
def test_nor_has_a_figure_of_process_or_card(field, inside):
    event = valid("result") | {field: inside}
    assert parse(line(event, "1")) is not None
    for name, value in BAD.items():
        assert parse(line(event, value)) is None, name


NO_EVENTS = (b"", b"null", b"[1]", b"7", b'{"v": 1}', b'{"event": []}', b'{"event": "x"}', b"\xff",
             b'{"event": "hello"', b"[" * 100_000)  # fmt: skip


@pytest.mark.parametrize("line", NO_EVENTS)
def test_what_is_no_event_at_all_is_none(line):
    assert parse(line) is None
