"""Whole checkpoints: the published names and sizes, and made-up ones written to disk and read back."""

from __future__ import annotations

import hashlib
import json
import math
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from at_home import CPU, XL, AtHome, load, networks
from safetensors.torch import save_file

from acestep.weights import synthetic
from acestep.weights.checkpoint import Folder
from acestep.weights.layout import DEFAULT_DIT, LMS, TEXT_ENCODER, VAE
from acestep.weights.loading import Models
from acestep.weights.synthetic import Synthetic
from harness.checkpoint import SafetensorsFile, Shape
from harness.checkpoint_writing import shards
from harness.errors import CheckpointError, UsageError
from harness.random_weights import RandomWeights

INDEX = "model.safetensors.index.json"


def published_size(
    shapes: Mapping[str, Shape], prefix: str = "", metadata: bool = True, width: int = 2
) -> int:
    """Bytes of a safetensors file: 8, the JSON header padded to 8, the tensors of `width` bytes each."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}} if metadata else {}
    end = 0
    for name, shape in sorted(shapes.items()):
        start, end = end, end + width * math.prod(shape)
        header[prefix + name] = {
            "dtype": {2: "BF16", 4: "F32"}[width],
            "shape": shape,
            "data_offsets": [start, end],
        }
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-length // 8) * 8 + end


@pytest.mark.parametrize(
    ("folder", "tensors", "prefix", "metadata", "size"),
    [
        (DEFAULT_DIT, 677, "", True, 4_787_825_604),
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


def test_the_published_shards_of_xl_come_out_to_the_byte() -> None:
    """Which needs our modules in the order of the published file."""
    shapes = Synthetic("synthetic-full").weights(XL).shapes()
    assert (len(shapes), sum(map(math.prod, shapes.values()))) == (829, 4_987_310_726)
    runs = shards(shapes, 4)
    sizes = [published_size({name: shapes[name] for name in run}, width=4) for run in runs]
    assert sizes == [4_986_971_456, 4_986_942_776, 4_986_942_808, 4_988_483_464]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    synthetic.write(Synthetic("synthetic-tiny"), root, dits=(DEFAULT_DIT, XL))
    return root


def test_a_written_file_is_what_safetensors_would_write(written: Path, tmp_path: Path) -> None:
    """Its own writer holds a whole component in memory; ours one tensor."""
    weights = Synthetic("synthetic-tiny").weights(DEFAULT_DIT)
    state = {name: weights.read(name) for name in weights.shapes()}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    theirs, ours = (root / "model.safetensors" for root in (tmp_path, written / DEFAULT_DIT))
    assert ours.read_bytes() == theirs.read_bytes()


def test_xl_is_written_as_shards_and_an_index(written: Path) -> None:
    index = json.loads((written / XL / INDEX).read_text())
    shapes = Synthetic("synthetic-tiny").weights(XL).shapes()
    elements = sum(map(math.prod, shapes.values()))
    assert index["metadata"] == {"total_parameters": elements, "total_size": 4 * elements}
    assert index["weight_map"].keys() == shapes.keys()
    files = {path.name: path.stat().st_size for path in (written / XL).glob("*.safetensors")}
    assert sorted(files) == [f"model-0000{i}-of-00004.safetensors" for i in (1, 2, 3, 4)]
    for file, size in files.items():
        held = {name: shapes[name] for name, home in index["weight_map"].items() if home == file}
        assert size == published_size(held, width=4)
        assert 0.8 * elements < size < 1.2 * elements


def count_alive(read: Callable[..., torch.Tensor], most: list[int]) -> Callable[..., torch.Tensor]:
    """`read`, noting how many of the tensors it has given out are still there when it gives the next."""
    given: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()

    def reading(*arguments: object) -> torch.Tensor:
        tensor = read(*arguments)
        given.add(tensor)
        most[0] = max(most[0], len(given))
        return tensor

    return reading


def test_writing_holds_one_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = [0]
    monkeypatch.setattr(RandomWeights, "read", count_alive(RandomWeights.read, most))
    synthetic.write(Synthetic("synthetic-tiny"), tmp_path, dits=(XL,), lms=())
    assert most == [1]


def test_casting_on_load_holds_two_tensors_of_the_file(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two only where weight normalisation is folded: the direction and its length."""
    most = [0]
    monkeypatch.setattr(SafetensorsFile, "read", count_alive(SafetensorsFile.read, most))
    models = load(Folder(written), XL, torch.bfloat16)
    models.need(*models.parts)
    assert most == [2]
    weights = Folder(written).weights(XL)
    kept = [weights.read(name) for name in weights.shapes()]  # the control: a state dict
    assert most[0] >= len(kept) > 300


def test_an_unknown_folder_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="synthetic-tiny has no acestep-v16; it has acestep-v15-turbo, "):
        synthetic.write(Synthetic("synthetic-tiny"), tmp_path, dits=("acestep-v16",))
    assert not list(tmp_path.iterdir())


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("name", ["config.json", "diffusion_pytorch_model.safetensors"])
def test_another_checkpoint_is_not_written_over(tmp_path: Path, name: str) -> None:
    """Gigabytes of a download, also where only the weights of it are there."""
    (tmp_path / VAE).mkdir()
    (tmp_path / VAE / name).write_bytes(b"{}")
    with pytest.raises(UsageError, match="vae' is there and would be lost: it holds another checkpoint"):
        synthetic.write(Synthetic("synthetic-tiny"), tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in files] == [b"{}"]


def test_what_was_begun_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(synthetic, "write_weights", stop)
        synthetic.write(Synthetic("synthetic-tiny"), tmp_path, lms=())
    (tmp_path / DEFAULT_DIT / ".left.part").touch()
    synthetic.write(Synthetic("synthetic-tiny"), tmp_path, lms=())
    synthetic.write(Synthetic("synthetic-tiny", 1), tmp_path, lms=())  # other values


def test_same_seed_same_bytes(written: Path, tmp_path: Path) -> None:
    synthetic.write(Synthetic("synthetic-tiny"), tmp_path, dits=(DEFAULT_DIT, XL))
    assert digests(written) == digests(tmp_path)
    assert {f"{dit}/silence_latent.pt" for dit in (DEFAULT_DIT, XL)} <= digests(written).keys()


def test_another_seed_other_weights() -> None:
    one, other = (
        Synthetic("synthetic-tiny", seed).weights(VAE).read("decoder.conv1.weight_v") for seed in (0, 1)
    )
    assert not torch.equal(one, other)


@pytest.mark.parametrize("folder", [DEFAULT_DIT, XL, VAE, TEXT_ENCODER, LMS[0]])
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


@pytest.mark.parametrize("dit", [DEFAULT_DIT, XL])
def test_a_written_checkpoint_makes_the_same_models(written: Path, dit: str) -> None:
    """Through the ordinary loading path, with what it leaves unloaded left unloaded."""
    disk, memory = (load(source, dit) for source in (Folder(written), Synthetic("synthetic-tiny")))
    assert torch.equal(disk.silence, memory.silence)
    assert torch.equal(disk.timbre_of_silence, memory.timbre_of_silence)
    assert disk.lm is not None and memory.lm is not None
    for one, other in zip(networks(disk), networks(memory), strict=True):
        for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
            assert a.device == b.device, name
            assert a.is_meta or torch.equal(a, b), name


def test_fp32_shards_are_cast_as_they_are_read(written: Path) -> None:
    stored: list[str] = []

    def choose(dtype: str) -> torch.dtype:
        stored.append(dtype)
        return torch.bfloat16

    models = Models.open(Folder(written), XL, CPU, choose, None, AtHome())
    models.need("dit")
    assert stored == ["float32"]
    loaded = dict(models.ace_step.decoder.named_parameters())
    assert {tensor.dtype for tensor in loaded.values()} == {torch.bfloat16}
    read = Folder(written).weights(XL).read
    assert all(torch.equal(tensor, read(f"decoder.{name}").bfloat16()) for name, tensor in loaded.items())


@pytest.mark.parametrize(("there", "belongs"), [(DEFAULT_DIT, XL), (XL, DEFAULT_DIT)])
def test_a_dit_of_the_other_family(written: Path, tmp_path: Path, there: str, belongs: str) -> None:
    """The configuration says one family, the weights are the other's."""
    for folder in (VAE, TEXT_ENCODER, LMS[0]):
        (tmp_path / folder).symlink_to(written / folder)
    mixed = tmp_path / belongs
    mixed.mkdir()
    for path in (written / there).iterdir():
        (mixed / path.name).symlink_to(path)
    (mixed / "config.json").unlink()
    (mixed / "config.json").symlink_to(written / belongs / "config.json")
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: decoder\.layers\.8\..* more are"
    ) as caught:
        load(Folder(tmp_path), belongs)
    assert "\n" not in str(caught.value)


def test_an_incomplete_download_of_shards(written: Path, tmp_path: Path) -> None:
    (tmp_path / XL).mkdir()
    for path in (written / XL).iterdir():
        if "00003" not in path.name:
            (tmp_path / XL / path.name).symlink_to(path)
    with pytest.raises(
        CheckpointError, match=r"model-00003-of-00004\.safetensors: no such file; is the down"
    ):
        load(Folder(tmp_path), XL)


def test_a_component_in_the_wrong_place(written: Path, tmp_path: Path) -> None:
    """The text encoder's folder where the language model's belongs: its table is too short."""
    for folder in (DEFAULT_DIT, VAE, TEXT_ENCODER):
        (tmp_path / folder).symlink_to(written / folder)
    lm = tmp_path / LMS[0]
    lm.mkdir()
    (lm / "config.json").symlink_to(written / LMS[0] / "config.json")
    (lm / "model.safetensors").symlink_to(written / TEXT_ENCODER / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"embed_tokens\.weight is \(151669, 64\), expected \(217204, 64\)"
    ):
        load(Folder(tmp_path))
