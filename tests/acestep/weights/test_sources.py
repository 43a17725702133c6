"""The variants of the DiT: which are there, which is chosen, and what a configuration says one is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from acestep.models.configs import DiTConfig
from acestep.weights.layout import DEFAULT_DIT, DEFAULT_ROOT, DITS, SYNTHETIC, VAE
from acestep.weights.sources import choose_dit, choose_source, dit_config
from acestep.weights.synthetic import Synthetic
from acestep.weights.synthetic_configs import CONFIGS
from harness.errors import CheckpointError, MissingPrerequisite, UsageError
from harness.nn.config import parse_config

TURBO = {dit for dit in DITS if "turbo" in dit}
XL = {dit for dit in DITS if "-xl-" in dit}


def root_with(root: Path, *folders: str) -> str:
    for folder in folders:
        (root / folder).mkdir(parents=True)
    return str(root)


def test_nine_variants_are_published() -> None:
    assert len(set(DITS)) == 9 and DITS[0] == DEFAULT_DIT == "acestep-v15-turbo"
    assert (len(TURBO), len(XL), len(TURBO & XL)) == (5, 3, 1)


# Which is chosen


@pytest.mark.parametrize(
    ("there", "asked", "chosen"),
    [
        (["acestep-v15-base", DEFAULT_DIT, VAE], None, DEFAULT_DIT),
        (["acestep-v15-base", DEFAULT_DIT, VAE], "acestep-v15-base", "acestep-v15-base"),
        (["acestep-v15-xl-sft", "acestep-5Hz-lm-0.6B", VAE], None, "acestep-v15-xl-sft"),
        (["acestep-v15-mine", VAE], None, "acestep-v15-mine"),
        (["my-own", DEFAULT_DIT], "my-own", "my-own"),
    ],
)
def test_what_is_asked_for_then_the_default_then_the_only_one(
    tmp_path: Path, there: list[str], asked: str | None, chosen: str
) -> None:
    assert choose_dit(root_with(tmp_path, *there), asked) == chosen


@pytest.mark.parametrize(
    ("there", "asked", "message"),
    [
        (
            [VAE, DEFAULT_DIT],
            "acestep-v15-base",
            f"no folder 'acestep-v15-base'; it has {DEFAULT_DIT}, {VAE}",
        ),
        ([], "acestep-v15-base", "no folder 'acestep-v15-base'; it has none"),
        ([VAE], None, r"has no folder acestep-v15-\*; name the one to use"),
        (
            ["acestep-v15-sft", "acestep-v15-base"],
            None,
            r"has 2 DiT folders \(acestep-v15-base, acestep-v15-sft\); name the one to use",
        ),
        ([DEFAULT_DIT], f"../{DEFAULT_DIT}", "no folder"),
        ([DEFAULT_DIT], ".", "no folder"),
    ],
)
def test_a_choice_there_is_not(tmp_path: Path, there: list[str], asked: str | None, message: str) -> None:
    with pytest.raises(MissingPrerequisite, match=message) as caught:
        choose_dit(root_with(tmp_path / "root", *there) if there else str(tmp_path), asked)
    assert "\n" not in str(caught.value)


def test_a_root_of_many_folders_is_told_in_a_line(tmp_path: Path) -> None:
    root = root_with(tmp_path, *(f"acestep-v15-{number:03}" for number in range(300)))
    for choice in (None, "x"):
        with pytest.raises(MissingPrerequisite, match=r"acestep-v15-011 and 288 more") as caught:
            choose_dit(root, choice)
        assert len(str(caught.value)) < 400 + len(root)


def test_a_root_that_goes_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match=r"nowhere: unreadable \(No such file or directory\)"):
        choose_dit(str(tmp_path / "nowhere"), None)


@pytest.mark.parametrize("source", SYNTHETIC)
def test_synthetic_sources_have_them_all(source: str) -> None:
    assert choose_dit(source, None) == DEFAULT_DIT
    assert all(choose_dit(source, dit) == dit for dit in DITS)
    with pytest.raises(UsageError, match="no folder 'vae'; it has acestep-v15-turbo, "):
        choose_dit(source, VAE)


def test_any_variant_makes_the_folder_here_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ACESTEP_SOURCE", raising=False)
    (DEFAULT_ROOT / VAE).mkdir(parents=True)
    assert choose_source(None, accelerator=False) == ("synthetic-tiny", "default")
    (DEFAULT_ROOT / "acestep-v15-xl-base").mkdir()
    assert choose_source(None, accelerator=False) == (str(DEFAULT_ROOT), "default")


# What it is


@pytest.mark.parametrize("source", SYNTHETIC)
@pytest.mark.parametrize("dit", DITS)
def test_a_synthetic_configuration_says_what_the_variant_is(source: str, dit: str) -> None:
    config = dit_config(source, dit)
    assert config.is_turbo == (dit in TURBO)
    assert config.is_xl == (dit in XL)


def test_a_name_says_nothing(tmp_path: Path) -> None:
    """A base XL model in a folder called turbo is a base XL model."""
    config = CONFIGS["synthetic-tiny"]["acestep-v15-xl-base"]
    (tmp_path / DEFAULT_DIT).mkdir()
    (tmp_path / DEFAULT_DIT / "config.json").write_text(json.dumps(config))
    variant = dit_config(str(tmp_path), DEFAULT_DIT)
    assert variant.is_xl and not variant.is_turbo


def test_what_is_not_said_is_not_so() -> None:
    """Published base and sft files may leave `is_turbo` out; 2B files leave the encoder's widths out."""
    keys = ("is_turbo", "model_version")
    config = {k: v for k, v in CONFIGS["synthetic-full"]["acestep-v15-base"].items() if k not in keys}
    variant = parse_config(config, DiTConfig, "x")
    assert not variant.is_turbo and not variant.is_xl
    assert not parse_config(config | {"encoder_hidden_size": 2048}, DiTConfig, "x").is_xl
    assert parse_config(config | {"encoder_hidden_size": 1024}, DiTConfig, "x").is_xl


def test_a_folder_that_is_no_dit(tmp_path: Path) -> None:
    root = root_with(tmp_path, VAE, DEFAULT_DIT)
    (tmp_path / VAE / "config.json").write_text(json.dumps(CONFIGS["synthetic-tiny"][VAE]))
    with pytest.raises(CheckpointError, match=r"vae/config\.json: model_type is None, expected 'acestep'"):
        dit_config(root, VAE)
    with pytest.raises(CheckpointError, match=rf"{DEFAULT_DIT}/config\.json: no such file"):
        dit_config(root, DEFAULT_DIT)


# Its shapes


@pytest.mark.parametrize(
    ("dits", "tensors", "parameters"),
    [(set(DITS) - XL, 677, 2_393_872_518), (XL, 829, 4_987_310_726)],
    ids=["2B", "XL"],
)
def test_published_counts(dits: set[str], tensors: int, parameters: int) -> None:
    for dit in dits:
        shapes = Synthetic("synthetic-full").weights(dit).shapes()
        assert (len(shapes), sum(map(math.prod, shapes.values()))) == (tensors, parameters)


@pytest.mark.parametrize(
    ("prefix", "tensors", "parameters"),
    [
        ("decoder.", 628, 4_168_897_088),
        ("decoder.layers.0.", 19, 127_163_392),
        ("decoder.time_embed.", 6, 46_551_040),
        ("encoder.timbre_encoder.", 48, 201_481_216),
        ("tokenizer.", 32, 105_032_198),
        ("detokenizer.", 28, 105_011_776),
    ],
)
def test_published_counts_of_the_parts_of_xl(prefix: str, tensors: int, parameters: int) -> None:
    shapes = Synthetic("synthetic-full").weights("acestep-v15-xl-sft").shapes()
    part = [shape for name, shape in shapes.items() if name.startswith(prefix)]
    assert (len(part), sum(map(math.prod, part))) == (tensors, parameters)


def test_the_tiny_xl_differs_from_the_tiny_2b_as_the_full_one_does() -> None:
    for source in SYNTHETIC:
        small, xl = (dit_config(source, dit) for dit in (DEFAULT_DIT, "acestep-v15-xl-turbo"))
        assert xl.encoder == small.encoder
        assert xl.encoder.hidden_size < xl.hidden_size < xl.num_attention_heads * xl.head_dim
        assert xl.num_hidden_layers > small.num_hidden_layers
        assert xl.layer_types[:2] == small.layer_types[:2]
    assert Synthetic("synthetic-full").config("acestep-v15-xl-turbo")["torch_dtype"] == "float32"
    assert Synthetic("synthetic-full").config("acestep-v15-base")["torch_dtype"] == "bfloat16"


def test_variants_have_weights_of_their_own() -> None:
    name = "decoder.proj_in.1.bias"
    turbo, base = (Synthetic("synthetic-tiny").weights(dit).read(name) for dit in DITS[:5:4])
    assert not turbo.equal(base)
