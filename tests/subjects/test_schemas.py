"""What a subject reads from files of others has a range, field by field."""

from __future__ import annotations

import pytest
from hostile import schemas, unbounded
from msgspec import inspect, structs

from harness.nn.config import Schema
from subjects.qwen3_tts import checkpoint as qwen3_tts
from subjects.rvc import checkpoint as rvc

READ = [kind for kind in schemas() if kind.__module__.startswith("subjects.")]


def test_both_subjects_read_files():
    assert {qwen3_tts.Named, rvc.HubertFile, rvc.VoiceFile} <= set(READ)


@pytest.mark.parametrize("kind", sorted(READ, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_every_field_has_a_range(kind: type[Schema]):
    assert not [field.name for field in structs.fields(kind) if unbounded(inspect.type_info(field.type))]
