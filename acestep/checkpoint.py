"""Checkpoint folders as published, and how a model takes its weights from one.

    <root>/acestep-v15-*/         config.json, model.safetensors (or an index and shards), silence_latent.pt
    <root>/vae/                   config.json, diffusion_pytorch_model.safetensors
    <root>/Qwen3-Embedding-0.6B/  config.json, model.safetensors, tokenizer.json
    <root>/acestep-5Hz-lm-*/      likewise

A model is built on the meta device, its names and shapes are held against the file, and then each
tensor is read, cast and moved by itself. So the host never holds a second copy of a component, and of the
XL family's 20 GB in fp32 never more than one tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from acestep.errors import CheckpointError
from acestep.models.configs import read_json
from acestep.sources import TEXT_ENCODER, VAE
from acestep.tokenizer import Tokenizer

SILENCE_FRAMES = 15_000  # 600 s at 25 Hz

Shape = tuple[int, ...]


class Weights(Protocol):
    """Named tensors of one component."""

    where: str  # for messages

    def shapes(self) -> Mapping[str, Shape]: ...

    def read(self, name: str) -> Tensor: ...


class Source(Protocol):
    """Where models come from: a checkpoint folder, or weights made up at the same names and shapes."""

    name: str

    def config(self, folder: str) -> dict[str, Any]: ...

    def weights(self, folder: str) -> Weights: ...

    def tokenizer(self, folder: str) -> Tokenizer: ...

    def silence_latent(self, dit: str) -> Tensor: ...


class SafetensorsFile:
    """Tensors of one safetensors file, or of the shards an index names.

    A file is open, and thereby mapped, only while one tensor is copied out of it: of a mapping that
    stays, every page ever read counts as resident, and in the end that is the whole file.
    """

    def __init__(self, folder: Path, stem: str):
        self.where = str(folder / f"{stem}.safetensors")
        self._home: dict[str, Path] = {}
        found: dict[str, Shape] = {}
        for path in self._paths(folder, stem):
            with _opened(path) as file:
                for name in file.keys():  # noqa: SIM118  # not a dict: it has no iterator
                    self._home[name] = path
                    found[name] = tuple(file.get_slice(name).get_shape())
        # Published language models carry a prefix or not, depending on who saved them.
        prefixed = bool(found) and all(name.startswith("model.") for name in found)
        self._prefix = "model." if prefixed else ""
        self._shapes = {name.removeprefix(self._prefix): shape for name, shape in found.items()}

    @staticmethod
    def _paths(folder: Path, stem: str) -> list[Path]:
        index = folder / f"{stem}.safetensors.index.json"
        if not index.exists():
            return [folder / f"{stem}.safetensors"]
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not all(map(_is_shard, names.values())):
            raise CheckpointError(f"{index}: weight_map must name files of its own folder")
        return [folder / name for name in sorted(set(names.values()))]

    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def read(self, name: str) -> Tensor:
        """The tensor, in memory of its own. Raises CheckpointError when its bytes cannot be read."""
        name = self._prefix + name
        with _opened(self._home[name]) as file:
            return file.get_tensor(name).clone()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is the download complete?") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: unreadable ({error}); download it again") from None


def _is_shard(name: Any) -> bool:
    """Whether `name` is a plain file name: an index may not point outside its folder."""
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name


class Folder:
    """A checkpoint root on disk."""

    def __init__(self, root: Path):
        self.root = root
        self.name = str(root)

    def config(self, folder: str) -> dict[str, Any]:
        return read_json(self._component(folder) / "config.json")

    def weights(self, folder: str) -> Weights:
        return SafetensorsFile(
            self._component(folder), "diffusion_pytorch_model" if folder == VAE else "model"
        )

    def tokenizer(self, folder: str) -> Tokenizer:
        return Tokenizer.from_folder(self._component(folder), audio_codes=folder != TEXT_ENCODER)

    def silence_latent(self, dit: str) -> Tensor:
        """`[1, 15000, 64]` fp32: what the VAE encodes silence to, as the folder `dit` keeps it."""
        path = self._component(dit) / "silence_latent.pt"
        try:
            latent = torch.load(path, weights_only=True, map_location="cpu")
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such file; is the download complete?") from None
        except Exception as error:  # the unpickler lets a dozen kinds escape, KeyError and struct.error too
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{path}: unreadable ({reason}); download it again") from None
        if not isinstance(latent, Tensor) or tuple(latent.shape) != (1, 64, SILENCE_FRAMES):
            found = tuple(latent.shape) if isinstance(latent, Tensor) else type(latent).__name__
            raise CheckpointError(f"{path}: holds {found}, expected a tensor (1, 64, {SILENCE_FRAMES})")
        return latent.float().transpose(1, 2)

    def _component(self, folder: str) -> Path:
        path = self.root / folder
        if not path.is_dir():
            folders = self.root.iterdir() if self.root.is_dir() else ()
            there = ", ".join(sorted(p.name for p in folders if p.is_dir())) or "nothing"
            raise CheckpointError(f"{path}: no such folder; {self.root} holds {there}")
        return path


def check_shapes(expected: Mapping[str, Shape], weights: Weights) -> None:
    """Hold a model's names and shapes against a file; CheckpointError for the first difference."""
    found = weights.shapes()
    if missing := expected.keys() - found.keys():
        raise CheckpointError(f"{weights.where}: {_some(missing)} missing; is this another architecture?")
    if unexpected := found.keys() - expected.keys():
        raise CheckpointError(f"{weights.where}: {_some(unexpected)} not of this architecture")
    for name, shape in expected.items():
        if tuple(found[name]) != tuple(shape):
            raise CheckpointError(f"{weights.where}: {name} is {found[name]}, expected {shape}")


def _some(names: set[str]) -> str:
    first = min(names)
    return f"{first} and {len(names) - 1} more are" if len(names) > 1 else f"{first} is"


def parameter_shapes(module: nn.Module, prefix: str = "") -> dict[str, Shape]:
    """Names and shapes of a module's parameters."""
    return {prefix + name: tuple(p.shape) for name, p in module.named_parameters()}


def on_meta(build: Callable[[], nn.Module]) -> Any:
    """Build a module without memory: shapes and names only."""
    with torch.device("meta"):
        return build()


def materialise(
    module: nn.Module,
    read: Callable[[str], Tensor],
    *,
    prefix: str = "",
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Give a meta module its tensors, one at a time: read, cast, move, assign. What has values keeps them."""
    for name in [name for name, tensor in module.named_parameters() if tensor.is_meta]:
        assign(module, name, read(prefix + name).to(device=device, dtype=dtype))
    module.eval()


def assign(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Put `tensor` where `module` has the parameter `name`, frozen."""
    owner, _, leaf = name.rpartition(".")
    parameter = nn.Parameter(tensor.contiguous(), requires_grad=False)
    setattr(module.get_submodule(owner), leaf, parameter)
