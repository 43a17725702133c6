"""Checkpoint folders from anybody: one line tells what is wrong, before anything is built.

The cases are generated from the schemas: of each field each kind of value that it does not allow.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hostile import NO_FILES, VALUES, hostile_fields, schemas, unbounded
from msgspec import inspect, structs
from roots import checkpoint, cut

from acestep.__main__ import main
from acestep.models.configs import DiTConfig, VAEConfig
from acestep.weights import loading
from acestep.weights.checkpoint import Folder
from acestep.weights.layout import DEFAULT_DIT, LMS, TEXT_ENCODER, VAE
from acestep.weights.sources import check_source
from acestep.weights.synthetic import Synthetic
from acestep.weights.synthetic_configs import CONFIGS
from harness.errors import CheckpointError
from harness.nn.config import BlockConfig, Qwen3Config, Schema, StackConfig, parse_config
from harness.tensor_files import Entry

TINY = CONFIGS["synthetic-tiny"]
LM = LMS[0]
KINDS = {DEFAULT_DIT: DiTConfig, VAE: VAEConfig, TEXT_ENCODER: Qwen3Config, LM: Qwen3Config}
ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
RIGHT: dict[type[Schema], dict[str, Any]] = {
    DiTConfig: TINY[DEFAULT_DIT],
    VAEConfig: TINY[VAE],
    Qwen3Config: TINY[LM],
    Entry: ENTRY,
}
CASES = [(kind, *case) for kind, right in RIGHT.items() for case in hostile_fields(kind, right)]


def one_line(error: pytest.ExceptionInfo[CheckpointError]) -> str:
    message = str(error.value)
    assert "\n" not in message and len(message) < 400
    return message


# Fields


def test_every_schema_is_tried():
    parts = {Schema, BlockConfig, StackConfig}  # of others
    ours = {kind for kind in schemas() if not kind.__module__.startswith("subjects.")}
    assert ours - parts == RIGHT.keys()


@pytest.mark.parametrize("kind", RIGHT, ids=lambda kind: kind.__name__)
def test_every_field_has_a_range(kind: type[Schema]):
    parse_config(RIGHT[kind], kind, "x")
    assert not [f.name for f in structs.fields(kind) if unbounded(inspect.type_info(f.type))]


def test_a_field_without_a_range_is_noticed():
    """The control of the test above."""
    bare = (int, float, str, list[int], int | None, dict[str, int])
    assert all(unbounded(inspect.type_info(kind)) for kind in bare)


def test_no_value_outside_a_fields_range_is_taken():
    assert len(CASES) > 800
    for kind, field, name, data in CASES:
        with pytest.raises(CheckpointError) as error:
            parse_config(data, kind, "x/config.json")
        wrong = rf"{field}(\[\d+\])?: .+ not allowed; use .|{field} is missing; it must be .|model_type is "
        assert re.match(f"x/config.json: ({wrong})", one_line(error)), (field, name, error.value)


# Whole folders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkpoint to be spoilt."""
    return checkpoint(tmp_path, LM)


def write_config(root: Path, folder: str, config: object) -> Path:
    path = root / folder / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def generate(root: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """The one line that a generation ends with, at exit code 3."""
    code = main(["generate", "--source", str(root), "--lm", LM, "--device", "cpu", "--caption", "x", *flags])
    output = capsys.readouterr()
    assert code == 3 and not output.out, output
    assert output.err.count("\n") == 1 and output.err.isascii(), output.err
    return output.err


def test_a_right_folder_is_let_through(root: Path, capsys: pytest.CaptureFixture[str]):
    check_source(str(root), DEFAULT_DIT, LM)
    (root / VAE / "config.json").write_bytes(b"\xef\xbb\xbf" + (root / VAE / "config.json").read_bytes())
    flags = ["--source", str(root), "--device", "cpu", "--caption", "x", "--dry-run"]
    assert main(["generate", *flags]) == 0 and not capsys.readouterr().err


@pytest.mark.parametrize("folder", KINDS)
def test_a_hostile_configuration_ends_a_command_in_one_line_before_anything_is_built(
    folder: str, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loading, "on_meta", lambda build: pytest.fail("something was built"))
    cases = list(hostile_fields(KINDS[folder], TINY[folder]))
    for field, name, data in cases[::7]:  # every field, and in turn every kind
        if not name.startswith("longer than Python reads"):  # or writes
            path = write_config(root, folder, data)
            assert f": {path}: {field}" in generate(root, capsys)


QWEN3 = '{"model_type": "qwen3", "hidden_size": '
LONG, LONG_TEXT = "9" * 5000, '"' + "x" * 10**5 + '"'
JSON = {
    QWEN3 + LONG: "hidden_size: 999.* is not allowed; use a whole number",
    QWEN3 + "-" + LONG: "hidden_size: -999.* is not allowed; use a whole number",
    QWEN3 + "NaN": "hidden_size: nan is not allowed; use a whole number",
    QWEN3 + "1e999": "hidden_size: inf is not allowed; use a whole number",
    QWEN3 + '1, "hidden_size": 1': "not JSON: key 'hidden_size' is there twice",
    QWEN3 + '{"a": 1, "a": 1}': "not JSON: key 'a' is there twice",
    QWEN3 + "{" + LONG_TEXT + ": 1, " + LONG_TEXT + ": 2}": "not JSON: key 'xxx.* is there twice",
    QWEN3 + "[" * 10**5: "nested too deep",
    '{"a": ' * 10**5: "nested too deep",
    '{"model_type": ' + LONG_TEXT: "model_type is 'xxx.*, expected 'qwen3'; wrong folder",
    " " * 2**20: "has more than the 1,048,576 bytes it may have",
}


@pytest.mark.parametrize("text", JSON, ids=[message[:30] for message in JSON.values()])
def test_json_that_is_hardly_one(root: Path, text: str):
    path = write_config(root, LM, text + "}")
    with pytest.raises(CheckpointError, match=JSON[text]) as error:
        check_source(str(root), DEFAULT_DIT, LM)
    assert one_line(error).startswith(f"{path}: ")


Read = Callable[[Path], object]


def test_a_download_that_stopped_is_told(root: Path, capsys: pytest.CaptureFixture[str]):
    cut(root / TEXT_ENCODER / "model.safetensors")
    assert f"{TEXT_ENCODER}/model.safetensors: unreadable (its tensors end at byte " in generate(root, capsys)


READS: dict[str, tuple[str, Read]] = {
    "config": (f"{VAE}/config.json", lambda root: Folder(root).config(VAE)),
    "weights": (f"{LM}/model.safetensors", lambda root: Folder(root).weights(LM)),
    "index": (f"{LM}/model.safetensors.index.json", lambda root: Folder(root).weights(LM)),
    "tokenizer": (f"{LM}/tokenizer.json", lambda root: Folder(root).tokenizer(LM)),
    "silence": (f"{DEFAULT_DIT}/silence_latent.pt", lambda root: Folder(root).silence_latent(DEFAULT_DIT)),
}


@pytest.mark.parametrize("place", NO_FILES)
@pytest.mark.parametrize("name", READS)
def test_what_is_no_file_is_told_and_never_waited_for(name: str, place: str, root: Path):
    file, read = READS[name]
    path = root / file
    path.unlink(missing_ok=True)
    NO_FILES[place](path)
    if (name, place) == ("index", "nothing"):
        return
    with pytest.raises(
        CheckpointError, match=r"download|wrong file\?|not JSON|not a tokenizer file"
    ) as error:
        read(root)
    assert one_line(error).startswith(f"{path}: ")


@pytest.mark.parametrize("name", READS)
def test_a_pipe_is_told_before_anything_is_built(name: str, root: Path, capsys: pytest.CaptureFixture[str]):
    path = root / READS[name][0]
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert f": {path}: unreadable (it is a pipe or a device" in generate(root, capsys, "--dry-run")


# Agreement


TOO_FEW = "describes at least .* weights, .* holds .*; is this another architecture"
TOGETHER = [
    (DEFAULT_DIT, {"num_attention_heads": 7}, "num_attention_heads: 7 is no multiple of .*, 2"),
    (
        DEFAULT_DIT,
        {"encoder_num_key_value_heads": 4},
        "of the encoder, num_attention_heads: 6 is no mult.*, 4",
    ),
    (DEFAULT_DIT, {"layer_types": ["full_attention"]}, "layer_types names 1 layers, .* says 8"),
    (DEFAULT_DIT, {"fsq_dim": 64}, "fsq_dim: 64 is not allowed; use 192"),
    (DEFAULT_DIT, {"fsq_input_levels": [8, 8]}, "fsq_input_levels: their product, 64, is not allowed"),
    (DEFAULT_DIT, {"text_hidden_dim": 65}, "text_hidden_dim: 65 is not allowed; use 64, the hidden_size of"),
    (DEFAULT_DIT, {"intermediate_size": 5760}, TOO_FEW),
    (DEFAULT_DIT, {"num_lyric_encoder_hidden_layers": 128}, TOO_FEW),
    (VAE, {"decoder_channels": 1024}, TOO_FEW),
    (
        VAE,
        {"downsampling_ratios": [2, 4, 4, 6, 12]},
        "downsampling_ratios: their product is 2304, exp.* 1920",
    ),
    (VAE, {"channel_multiples": [1]}, "channel_multiples has 1 values, downsampling_ratios has 5"),
    (TEXT_ENCODER, {"vocab_size": 151_668}, "vocab_size: 151668 is not allowed; its tokenizer has 151669"),
    (LM, {"vocab_size": 151_669}, "vocab_size: 151669 is not allowed; its tokenizer has 217204"),
    (LM, {"num_hidden_layers": 128, "intermediate_size": 4096}, TOO_FEW),
]


@pytest.mark.parametrize(("folder", "change", "message"), TOGETHER)
def test_what_is_right_by_itself_and_not_together(
    root: Path, folder: str, change: dict[str, Any], message: str
):
    path = write_config(root, folder, TINY[folder] | change)
    with pytest.raises(CheckpointError, match=message) as error:
        check_source(str(root), DEFAULT_DIT, LM)
    assert one_line(error).startswith(f"{path}: ")


def test_the_size_that_is_compared_is_a_little_below_the_files():
    for source in ("synthetic-tiny", "synthetic-full"):
        for folder, kind in KINDS.items():
            shapes = Synthetic(source).weights(folder).shapes()
            weights = parse_config(CONFIGS[source][folder], kind, folder).weights
            assert 0.5 < weights / sum(map(prod, shapes.values())) < 1, (source, folder)


def test_values_are_of_every_kind():
    """What the cases are generated from: losing a row would make the tests above say less."""
    assert {"negative", "zero", "huge", "text", "not a number", "null", "an object"} <= VALUES.keys()
