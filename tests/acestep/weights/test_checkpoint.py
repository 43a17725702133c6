"""Checkpoint folders: what loads, and a one-line error for each way one can be wrong.

Small folders made here stand for each. Whole checkpoints are in test_written_checkpoint.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from acestep.models.configs import DiTConfig
from acestep.weights.checkpoint import Folder
from acestep.weights.layout import DEFAULT_DIT, TEXT_ENCODER, VAE
from acestep.weights.synthetic import Synthetic
from harness.checkpoint import SafetensorsFile, check_shapes, materialise, on_meta, parameter_shapes
from harness.errors import CheckpointError
from harness.nn.config import Qwen3Config, parse_config

CPU = torch.device("cpu")


class Toy(nn.Module):
    """A model of three tensors, one of them nested."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Sequential(nn.Linear(4, 3))


def toy_state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in parameter_shapes(Toy()).items()}


def load_toy(folder: Path, dtype: torch.dtype = torch.float32) -> Toy:
    """The ordinary path: names and shapes first, then one tensor after another."""
    toy = on_meta(Toy)
    weights = SafetensorsFile(folder, "model")
    check_shapes(parameter_shapes(toy), weights)
    materialise(toy, weights.read, device=CPU, dtype=dtype)
    return toy


def write_shards(folder: Path, index: Mapping[str, str]) -> None:
    """Save each tensor of the toy in the file that `index` names for it, and the index."""
    state = toy_state()
    for shard in set(index.values()):
        save_file({name: state[name] for name, home in index.items() if home == shard}, folder / shard)
    write_index(folder, index)


def write_index(folder: Path, weight_map: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


# What loads


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_prefix_is_optional(tmp_path: Path, prefix: str) -> None:
    state = toy_state()
    save_file({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "model.safetensors")
    loaded = load_toy(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_shards_are_found_by_their_index(tmp_path: Path) -> None:
    write_shards(
        tmp_path,
        {
            "embed.weight": "model-00001-of-00002.safetensors",
            "head.0.weight": "model-00002-of-00002.safetensors",
            "head.0.bias": "model-00001-of-00002.safetensors",
        },
    )
    loaded = load_toy(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in toy_state().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_tensors_are_cast_on_the_way_in(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file(toy_state(), tmp_path / "model.safetensors")
    loaded = load_toy(tmp_path, dtype)
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, toy_state()[name].to(dtype))
        assert not parameter.requires_grad
    assert not loaded.training


def resident_file_bytes() -> int:
    """Bytes of mapped files this process has touched and not given back."""
    status = Path("/proc/self/status").read_text()
    return sum(int(status.split(f"{kind}:")[1].split()[0]) * 1024 for kind in ("RssFile", "RssShmem"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux what is resident")
def test_a_file_never_becomes_resident_as_a_whole(tmp_path: Path) -> None:
    """64 MiB in 16 tensors, one after another: at most a few of them are in memory together."""
    tensor_bytes = 4 * 2**20
    state = {f"layers.{i}.weight": torch.full((tensor_bytes // 4,), float(i)) for i in range(16)}
    save_file(state, tmp_path / "model.safetensors")
    del state
    weights = SafetensorsFile(tmp_path, "model")
    assert weights.read("layers.0.weight").to(torch.bfloat16).isfinite().all()  # maps in what torch needs
    before = most = resident_file_bytes()
    for name in weights.shapes():
        assert weights.read(name).to(torch.bfloat16).isfinite().all()
        most = max(most, resident_file_bytes())
    assert most - before < 3 * tensor_bytes
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:  # the control: kept open
        for name in weights.shapes():
            assert file.get_tensor(name).isfinite().all()
        assert resident_file_bytes() - before > 12 * tensor_bytes


# What does not


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no such file; is the download complete"):
        load_toy(tmp_path)


def test_a_missing_shard(tmp_path: Path) -> None:
    write_shards(tmp_path, dict.fromkeys(toy_state(), "a.safetensors"))
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"a\.safetensors: no such file"):
        load_toy(tmp_path)


def test_a_corrupt_shard(tmp_path: Path) -> None:
    names = list(toy_state())
    write_shards(tmp_path, {name: f"{i}.safetensors" for i, name in enumerate(names)})
    path = tmp_path / "1.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"1\.safetensors: unreadable .*download it again") as caught:
        load_toy(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_shard_that_goes_away_before_it_is_read(tmp_path: Path) -> None:
    write_shards(tmp_path, dict.fromkeys(toy_state(), "a.safetensors"))
    weights = SafetensorsFile(tmp_path, "model")
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"a\.safetensors: no such file"):
        weights.read("embed.weight")


WrongState = Callable[[dict[str, Tensor]], dict[str, Tensor]]
WRONG_STATES: dict[str, tuple[WrongState, str]] = {
    "missing key": (
        lambda state: {k: v for k, v in state.items() if k != "head.0.bias"},
        r"head\.0\.bias is missing; is this another architecture\?",
    ),
    "missing keys": (
        lambda state: {"embed.weight": state["embed.weight"]},
        r"head\.0\.bias and 1 more are missing",
    ),
    "unexpected key": (
        lambda state: state | {"extra": torch.zeros(1)},
        r"extra is not of this architecture",
    ),
    "wrong shape": (
        lambda state: state | {"embed.weight": torch.zeros(5, 3)},
        r"embed\.weight is \(5, 3\), expected \(5, 4\)",
    ),
    "transposed": (
        lambda state: state | {"embed.weight": torch.zeros(4, 5)},
        r"embed\.weight is \(4, 5\), expected \(5, 4\)",
    ),
}


@pytest.mark.parametrize("case", WRONG_STATES)
def test_wrong_names_and_shapes(tmp_path: Path, case: str) -> None:
    change, message = WRONG_STATES[case]
    save_file(change(toy_state()), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_toy(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_a_truncated_file(tmp_path: Path, keep: int) -> None:
    """Empty, cut in the header's length, in the header, and in the last tensor."""
    path = tmp_path / "model.safetensors"
    save_file(toy_state(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"unreadable .*download it again"):
        load_toy(tmp_path)


def test_an_index_of_nothing(tmp_path: Path) -> None:
    write_index(tmp_path, {})
    with pytest.raises(CheckpointError, match="missing"):
        load_toy(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1, 2]", "holds a list, expected an object"),
    ],
)
def test_a_config_that_is_none(tmp_path: Path, content: bytes | None, message: str) -> None:
    (tmp_path / VAE).mkdir()
    if content is not None:
        (tmp_path / VAE / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"config\.json: {message}"):
        Folder(tmp_path).config(VAE)


def test_a_missing_component_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / TEXT_ENCODER).mkdir()
    with pytest.raises(CheckpointError, match=f"{VAE}: no such folder; .* holds {TEXT_ENCODER}"):
        Folder(tmp_path).config(VAE)
    with pytest.raises(CheckpointError, match="holds nothing"):
        Folder(tmp_path / "nowhere").config(VAE)


def test_a_config_of_another_architecture() -> None:
    dit, text = (Synthetic("synthetic-tiny").config(folder) for folder in (DEFAULT_DIT, TEXT_ENCODER))
    with pytest.raises(CheckpointError, match="x: model_type is 'qwen3', expected 'acestep'; wrong folder"):
        parse_config(text, DiTConfig, "x")
    with pytest.raises(CheckpointError, match="x: model_type is 'acestep', expected 'qwen3'"):
        parse_config(dit, Qwen3Config, "x")
    with pytest.raises(CheckpointError, match="x: hidden_size is missing; it must be a whole number"):
        parse_config({k: v for k, v in dit.items() if k != "hidden_size"}, DiTConfig, "x")
    with pytest.raises(CheckpointError, match="x: num_hidden_layers: 'four' is not allowed; use a whole num"):
        parse_config(dit | {"num_hidden_layers": "four"}, DiTConfig, "x")
    with pytest.raises(CheckpointError, match="x: layer_types names 8 layers, num_hidden_layers says 9"):
        parse_config(dit | {"num_hidden_layers": 9}, DiTConfig, "x")
    with pytest.raises(CheckpointError, match=r"x: layer_types\[0\]: 'causal' is not allowed; use .* or "):
        parse_config(dit | {"layer_types": ["causal"] * 8}, DiTConfig, "x")
