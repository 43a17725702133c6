"""Whole checkpoints: the published names and sizes, and made-up ones written to disk and read back."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from acestep import synthetic
from acestep.checkpoint import Folder, Shape
from acestep.errors import CheckpointError
from acestep.loading import Models
from acestep.sources import DIT, LMS, TEXT_ENCODER, VAE
from acestep.synthetic import Synthetic

CPU = torch.device("cpu")


def published_size(shapes: Mapping[str, Shape], prefix: str, metadata: bool) -> int:
    """Bytes of a bf16 safetensors file: 8, the JSON header padded to 8, the tensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}} if metadata else {}
    end = 0
    for name, shape in sorted(shapes.items()):
        start, end = end, end + 2 * math.prod(shape)
        header[prefix + name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-length // 8) * 8 + end


@pytest.mark.parametrize(
    ("folder", "tensors", "prefix", "metadata", "size"),
    [
        (DIT, 677, "", True, 4_787_825_604),
        (VAE, 365, "", True, 337_431_388),
        (TEXT_ENCODER, 310, "", True, 1_191_586_416),
        (LMS[0], 310, "model.", False, 1_325_804_024),
        (LMS[1], 310, "", True, 3_708_521_528),
    ],
)
def test_the_published_file_sizes_come_out_to_the_byte(
    folder: str, tensors: int, prefix: str, metadata: bool, size: int
) -> None:
    """One letter more in a name, one tensor or one element, and the size would not match."""
    shapes = Synthetic("synthetic-full").weights(folder).shapes()
    assert len(shapes) == tensors
    assert published_size(shapes, prefix, metadata) == size


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    synthetic.write(Synthetic("synthetic-tiny"), root)
    return root


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_same_bytes(written: Path, tmp_path: Path) -> None:
    synthetic.write(Synthetic("synthetic-tiny"), tmp_path)
    assert digests(written) == digests(tmp_path)
    assert f"{DIT}/silence_latent.pt" in digests(written)


def test_another_seed_other_weights() -> None:
    one, other = (
        Synthetic("synthetic-tiny", seed).weights(VAE).read("decoder.conv1.weight_v") for seed in (0, 1)
    )
    assert not torch.equal(one, other)


@pytest.mark.parametrize("folder", [DIT, VAE, TEXT_ENCODER, LMS[0]])
def test_a_written_component_reads_back_as_it_was(written: Path, folder: str) -> None:
    memory, disk = Synthetic("synthetic-tiny"), Folder(written)
    assert disk.config(folder) == memory.config(folder)
    ours, theirs = memory.weights(folder), disk.weights(folder)
    assert dict(theirs.shapes()) == dict(ours.shapes())
    for name in ours.shapes():
        assert torch.equal(theirs.read(name), ours.read(name)), name
    if folder in (TEXT_ENCODER, LMS[0]):
        text = "A slow waltz, 3/4.\n[verse]\nñandú, 你好"
        assert disk.tokenizer(folder).encode(text) == memory.tokenizer(folder).encode(text)


def test_a_written_checkpoint_makes_the_same_models(written: Path) -> None:
    """Through the ordinary loading path, with what it leaves unloaded left unloaded."""
    disk, memory = (
        Models.load(source, CPU, lambda stored: torch.float32, LMS[0])
        for source in (Folder(written), Synthetic("synthetic-tiny"))
    )
    assert torch.equal(disk.silence, memory.silence)
    assert torch.equal(disk.timbre, memory.timbre)
    assert disk.planner is not None
    assert memory.planner is not None
    pairs = [
        (disk.ace_step, memory.ace_step),
        (disk.vae, memory.vae),
        (disk.text_encoder, memory.text_encoder),
        (disk.planner.model, memory.planner.model),
    ]
    for one, other in pairs:
        for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
            assert a.device == b.device, name
            assert a.is_meta or torch.equal(a, b), name
    pooler = disk.ace_step.tokenizer.attention_pooler
    assert all(parameter.is_meta for parameter in pooler.parameters())


def test_a_component_in_the_wrong_place(written: Path, tmp_path: Path) -> None:
    """The text encoder's folder where the language model's belongs: its table is too short."""
    for folder in (DIT, VAE, TEXT_ENCODER):
        (tmp_path / folder).symlink_to(written / folder)
    lm = tmp_path / LMS[0]
    lm.mkdir()
    (lm / "config.json").symlink_to(written / LMS[0] / "config.json")
    (lm / "model.safetensors").symlink_to(written / TEXT_ENCODER / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"embed_tokens\.weight is \(151669, 64\), expected \(217204, 64\)"
    ):
        Models.load(Folder(tmp_path), CPU, lambda stored: torch.float32, LMS[0])
