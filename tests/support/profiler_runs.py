"""What tests of the profiler ask it for: as little as can be measured."""

from __future__ import annotations

from harness.records.schema import Item

SHORT = ("--duration", "10", "--inference-steps", "2")
ONE_CELL = ("--mode", "benchmark", *SHORT, "--batch-size", "1", "--repeats", "1")
DONE = Item(key="x", mode="benchmark", requested={}, status="ok")
