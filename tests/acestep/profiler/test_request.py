"""What of a request is its file's, and what is not."""

from __future__ import annotations

import hashlib

import pytest

from acestep import resolver
from acestep.cli.examples import INPUTS
from acestep.profiler import matrix, prepare
from acestep.profiler.options import parse
from harness.records import performance_plan


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ((), "short"),
        (("--seed", "101", "--duration", "10", "--no-thinking"), "short"),  # as the file says
        (("--thinking", "--duration", "20"), "short duration=20 thinking=on"),
        (("--batch-size", "2"), "short batch_size=2"),
        (("--seed", "7"), "short seed=7"),
        (("--preset", "upstream"), "short preset=upstream"),
        (("--quantization", "none", "--no-limits"), "short"),  # which are no part of the input
    ],
)
def test_an_input_is_its_file_and_what_is_not_the_files(flags, name):
    """One name and one hash are one request, whatever flags it was asked for by."""
    options = parse(["--example", "short", "--source", "synthetic-tiny", "--device", "cpu", *flags], {})
    plan = resolver.resolve(options.params, options.config, prepare.setup(options))
    row = matrix.Row(options.params, options.config, plan, options.engine)
    source = options.request_file.input_of(row.requested)  # type: ignore[union-attr]
    assert performance_plan.named(source) == name
    assert source.sha256 == hashlib.sha256((INPUTS / "short.json").read_bytes()).hexdigest()
