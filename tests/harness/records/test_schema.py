"""What is written is what is read, is what the schema says, and nothing else is read."""

import codecs
import json
from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT
from profiles import header, item, sample

from harness import registry
from harness.adjustments import Adjustment, Fallback
from harness.errors import MissingPrerequisite
from harness.records import schema as record
from harness.records.card import TierResult, Used
from harness.records.memory import Boundary, MemoryByStage, ProcessMemory
from harness.records.schema import (
    SCHEMA,
    AudioFacts,
    Cold,
    Header,
    Item,
    Profile,
    Sample,
    Streamed,
)
from harness.records.telemetry import Reading, Telemetry

seconds = st.floats(0, 1e6)
words = st.text(max_size=8)
whole = st.integers(0, 2**62)
plain = st.recursive(
    st.none() | st.booleans() | whole | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
values = st.dictionaries(words, plain, max_size=3)
times = st.dictionaries(words, seconds, max_size=3)
streams = st.builds(
    Streamed,
    time_to_first_code_ms=st.none() | seconds,
    time_to_latents_ms=st.none() | seconds,
    time_to_first_chunk_ms=seconds,
    chunk_latencies_ms=st.lists(seconds, max_size=3).map(tuple),
    underruns=whole,
    silence_ms=seconds,
    offline_error=st.none() | seconds,
)
share = st.floats(0, 1)
telemetries = st.builds(
    Telemetry,
    seconds=share,
    energy_j=st.none() | share,
    throttling=st.none() | st.dictionaries(words, share, max_size=2),
    readings=st.tuples(
        st.builds(
            Reading,
            share,
            st.none() | share,
            *[st.none() | st.integers(0, 9999)] * 3,
            st.none() | st.tuples(words),
        )
    ),
)
samples = st.builds(
    Sample,
    wall_s=seconds,
    stages_s=times,
    details_s=times,
    steps_s=st.lists(seconds, max_size=3).map(tuple),
    first_audio_s=st.none() | seconds,
    stream=st.just(msgspec.UNSET) | streams,
    telemetry=st.just(msgspec.UNSET) | telemetries,
)
processes = st.builds(
    ProcessMemory,
    rss_bytes=whole,
    rss_peak_bytes=whole,
    swap_bytes=st.none() | whole,
    driver_bytes=st.none() | whole,
)
cards = st.builds(
    TierResult,
    tier_gb=seconds,
    tier=words,
    class_gb=seconds,
    variant=words,
    cap_bytes=st.none() | whole,
    peak_bytes=st.none() | whole,
    stage_peaks_bytes=st.dictionaries(words, whole, max_size=3),
    process=st.just(msgspec.UNSET) | processes,
    stage_processes=st.just(msgspec.UNSET) | st.dictionaries(words, processes, max_size=2),
    timeline=st.tuples(st.builds(Used, t_s=seconds, phase=words, used_bytes=whole)),
    exit_code=st.none() | st.integers(-64, 255),
    notes=st.tuples(words),
)
boundaries = st.builds(
    Boundary,
    stage=words,
    rss_bytes=whole,
    rss_peak_bytes=whole,
    allocated_bytes=st.none() | whole,
    weights_bytes=whole,
)
memories = st.builds(
    MemoryByStage, boundaries=st.lists(boundaries, max_size=2).map(tuple), rss_source=words, error=words
)
items = st.builds(
    Item,
    key=words,
    mode=words,
    requested=values,
    effective=values,
    adjustments=st.tuples(st.builds(Adjustment, words, plain, plain, words)),
    status=st.sampled_from(
        ["ok", "oom", "host-oom", "timeout", "crash", "error", "invalid", "refused", "skip"]
    ),
    error=words,
    samples=st.lists(samples, max_size=3).map(tuple),
    cold=st.none() | st.builds(Cold, load_s=seconds, first_call_s=st.none() | seconds),
    counts=st.dictionaries(words, whole | seconds, max_size=3),
    memory_bytes=st.dictionaries(words, whole, max_size=3),
    memory_by_stage=st.just(msgspec.UNSET) | memories,
    audio=st.none()
    | st.builds(AudioFacts, items=whole, audio_s=seconds, peak=seconds, rms=seconds, silent=whole),
    text=st.none() | values,
    card=st.none() | cards,
    rtf=st.none() | seconds,
    fallbacks=st.tuples(st.builds(Fallback, words, words, words)),
    warnings=st.tuples(words),
)
moments = st.datetimes(timezones=st.just(UTC))
headers = st.builds(
    header,
    id=words,
    started_utc=moments,
    ended_utc=st.none() | moments,
    argv=st.lists(words, max_size=3).map(tuple),
    commit=st.none() | words,
    dirty=st.none() | st.booleans(),
    origins=st.dictionaries(words, words, max_size=3),
)
profiles = st.builds(Profile, run=headers, items=st.lists(items, max_size=2).map(tuple))

KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def fits(value: Any, rule: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether `value` obeys as much of JSON Schema as records use."""
    if "$ref" in rule:
        return fits(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root)
    if "anyOf" in rule:
        return any(fits(value, other, root) for other in rule["anyOf"])
    if "enum" in rule:
        return value in rule["enum"]
    kind = rule.get("type")
    if kind in ("integer", "number"):
        number = int if kind == "integer" else (int, float)
        return isinstance(value, number) and not isinstance(value, bool)
    if kind and not isinstance(value, KINDS[kind]):
        return False
    if isinstance(value, list):
        return all(fits(of, rule.get("items", {}), root) for of in value)
    if isinstance(value, dict):
        known, other = rule.get("properties", {}), rule.get("additionalProperties", {})
        rules = {name: known.get(name, other) for name in value}
        return set(rule.get("required", ())) <= value.keys() and all(
            rules[name] is not False and fits(value[name], rules[name] or {}, root) for name in value
        )
    return True


@settings(max_examples=60, deadline=None)
@given(profiles)
def test_what_is_written_is_read_and_obeys_the_schema(profile):
    data = record.encode(profile)
    assert record.decode(data) == record.decode(codecs.BOM_UTF8 + data) == profile
    schema = record.json_schema()
    assert fits(msgspec.json.decode(data), schema, schema)


def test_a_record_of_before_drivers_were_asked_is_read():
    stage = Boundary(stage="diffuse", rss_bytes=1, rss_peak_bytes=2, driver_bytes=3, weights_bytes=0)
    card = TierResult(tier_gb=8.0, tier="tier4", class_gb=8.0, variant="default", peak_bytes=4)
    by_stage = MemoryByStage(boundaries=(stage,), rss_source="VmHWM")
    one = Profile(run=header(), items=(item(memory_by_stage=by_stage, card=card),))
    old = msgspec.json.decode(record.encode(one))
    [boundary] = old["items"][0]["memory_by_stage"]["boundaries"]
    for name in ("swap_bytes", "driver_peak_bytes", "context_bytes", "spilled_bytes"):
        assert boundary.pop(name) is None
    assert not {"process", "stage_processes"} & old["items"][0]["card"].keys()
    assert "telemetry" not in old["items"][0]["samples"][0]
    assert record.decode(msgspec.json.encode(old)) == one


def spoil_a_type(made):
    made["items"][0]["samples"][0]["wall_s"] = "3"


def spoil_a_name(made):
    made["items"][0]["wall_seconds"] = 3


def spoil_by_leaving_out(made):
    del made["run"]["mode"]


def spoil_a_status(made):
    made["items"][0]["status"] = "fine"


@pytest.mark.parametrize("spoil", [spoil_a_type, spoil_a_name, spoil_by_leaving_out, spoil_a_status])
def test_what_the_schema_forbids_is_not_read(spoil):
    schema = record.json_schema()
    made = msgspec.json.decode(record.encode(Profile(run=header(), items=(item(),))))
    assert fits(made, schema, schema)
    spoil(made)
    assert not fits(made, schema, schema)
    with pytest.raises(MissingPrerequisite, match=f"not a valid {SCHEMA} record"):
        record.decode(msgspec.json.encode(made))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"schema": "acestep-profile/2", "run": {"new": 1}}', "acestep-profile/2.*not the version"),
        (record.encode(Profile(run=header()))[:-9], "not a whole JSON file"),
        (b"", "not a whole JSON file"),
        (b"\xff\xfe", "not a whole JSON file"),
        (b"[]", "no record of this profiler"),
        (b'{"schema": "tiersim/1"}', "no record of this profiler"),
        (b'{"schema": 1}', "no record of this profiler"),
        (b'{"a":' * 100_000, "not a whole JSON file"),
    ],
)
def test_what_is_no_record_is_refused_in_one_line(data, why):
    with pytest.raises(MissingPrerequisite, match=why) as refused:
        record.decode(data)
    assert "\n" not in str(refused.value)


def test_what_is_said_of_samples():
    measured = item(samples=(sample(3.0), sample(2.5), sample(4.0)))
    assert (measured.median_s, measured.min_s, measured.max_s) == (3.0, 2.5, 4.0)
    assert measured.spread == 0.5
    assert sum(measured.typical.stages_s.values()) == measured.median_s
    assert item(samples=(sample(3.0), sample(2.5))).median_s == 3.0
    assert item(samples=(sample(3.0),)).spread is None
    failed = item(samples=(), status="oom")
    assert (failed.typical, failed.median_s, failed.min_s, failed.max_s, failed.spread) == (None,) * 5


def test_stages_of_a_sample_go_by_part():
    columns = registry.subject().columns
    assert list(columns) == ["lm_s", "dit_s", "vae_s"]
    assert [sample(3.0).seconds(stages) for stages in columns.values()] == [0.75, 1.0, 0.5]
    assert Sample(wall_s=1.0).seconds(columns["lm_s"]) == 0


def test_a_key_follows_from_the_content():
    key = record.key_of("benchmark", {"duration": 30.0, "steps": (1, 2)})
    assert key == record.key_of("benchmark", {"steps": [1, 2], "duration": 30.0})
    others = [("profile", {"duration": 30.0, "steps": [1, 2]}), ("benchmark", {"duration": 30.0})]
    assert key not in {record.key_of(*other) for other in others}


def test_names_that_are_not_text_are_spelled_out():
    written = record.encode(header(argv=("d\udcff/x.json", "é")))
    assert msgspec.json.decode(written, type=Header).argv == ("d\\udcff/x.json", "é")


def test_the_published_schema_is_this_codes():
    path = ROOT / "docs" / "acestep-profile-1.schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(record.json_schema()))
