"""Offloading: models are on the device only while they are used, so the largest stage decides the memory.

A request runs its models one after another, and each has to be on the device only while it works. Offloaded,
a part's home is the host; `using` gives its tensors device copies and afterwards points them back at the
host's. Weights never change, so nothing travels back.

    residency = Residency(torch.device("cuda"), parts=("encoder", "vae"), offloaded=("vae",))
    materialise(vae, read, device=residency.home("vae"), dtype=dtype)
    residency.adopt("vae", vae)
    with residency.using("vae"):
        ...

Parts may have devices of their own (`placed`). What one makes goes to the next by `brought`, at the boundary
of a stage.

The price is the way over: at the 25 GB/s of PCIe 4.0, 0.15 s per use of a 3.7 GB language model.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from harness.memory import GIB, MemoryBudget, hand_back
from harness.spans import span

HOST = torch.device("cpu")
UNPINNED_BYTES = 4 * GIB  # of host memory left alone: pinned pages cannot be swapped out


@dataclass(slots=True, eq=False)
class _Weight:
    """A parameter or buffer or a part of one, its values in `home`, and how many uses want it on `device`.

    `views`: other tensors that lie within its memory.
    """

    tensor: Tensor
    views: Sequence[Tensor]
    part: str
    home: Tensor
    device: torch.device
    offloaded: bool
    users: int = 0

    @property
    def on_device(self) -> bool:
        return self.users > 0 or not self.offloaded

    def point(self, data: Tensor) -> None:
        """Have the tensor's values be `data`, and the views' where they lie in it."""
        start = self.tensor.storage_offset()
        for view in self.views:
            offset = data.storage_offset() + view.storage_offset() - start
            view.data = data.as_strided(view.shape, view.stride(), offset)
        self.tensor.data = data


class Residency:
    """Where the models of an engine live.

    `parts`: names of all that may be adopted. `offloaded`: those that come to the device only while used; the
    others stay there. On a CPU device it is without effect, as there is one memory. `placed`: devices of
    parts that are not on `device`.
    """

    def __init__(
        self,
        device: torch.device,
        parts: Sequence[str],
        offloaded: Collection[str] = (),
        placed: Mapping[str, torch.device] = MappingProxyType({}),
    ):
        self.device = device
        self.parts = tuple(parts)
        self.offloaded = frozenset(offloaded)
        self._devices = dict.fromkeys(self.parts, device) | dict(placed)
        self._used_on: dict[str, torch.device] = {}
        self._weights: dict[int, _Weight] = {}  # by the identity of the tensor
        self._parts: dict[str, list[_Weight]] = {}
        # Their keys never change, so other threads read them without the lock.
        self._resident = dict.fromkeys(self.parts, 0)
        self._host = dict.fromkeys(self.parts, 0)
        self._lock = threading.RLock()

    def device_of(self, part: str) -> torch.device:
        """Where `part` computes. Raises ValueError for a name that is none of `parts`."""
        if part not in self.parts:
            raise ValueError(f"part: {part!r} is not known; use one of {', '.join(self.parts)}")
        return self._devices[part]

    def home(self, part: str) -> torch.device:
        """Where to materialise `part`. Raises as `device_of` does."""
        device = self.device_of(part)
        return HOST if part in self.offloaded and device.type != HOST.type else device

    def adopt(self, part: str, *modules: nn.Module) -> None:
        """Take charge of the parameters and buffers of `modules`, which are where the part is kept.

        A tensor that modules or parts share is counted once, for the part that came first, and is on
        the device while any of them needs it. So is memory that several tensors of `modules` are views of:
        it moves as one. What is still on the meta device is left alone.
        """
        stays = self.home(part) == self.device_of(part)
        owned = [t for module in modules for t in (*module.parameters(), *module.buffers())]
        tensors = {id(t): t for tensor in owned if not tensor.is_meta for t in stored(tensor)}
        with self._lock:
            for whole, *views in _by_memory(t for key, t in tensors.items() if key not in self._weights):
                weight = self._register(part, whole, views, stays)
                self._weights |= dict.fromkeys(map(id, (whole, *views)), weight)
            weights = list(dict.fromkeys(self._weights[key] for key in tensors))
            self._parts.setdefault(part, []).extend(weights)
            if stays:
                self._bring(weights)

    @contextmanager
    def using(self, *parts: str) -> Iterator[None]:
        """Inside, `parts` are on the device. Uses nest; the last one to leave drops the device copies.

        What moves is charged to a span `offload`, a stage of its own outside of other stages. Raises
        ValueError for a part that was never adopted; out of memory on the way, what came goes back.
        """
        for part in parts:
            if part not in self._parts:
                raise ValueError(f"part: {part!r} is not loaded; loaded are {', '.join(self._parts)}")
        weights = [weight for part in parts for weight in self._parts[part]]
        self._bring(weights)
        try:
            yield
        finally:
            self._leave(weights)

    def resident(self) -> dict[str, int]:
        """Bytes of weights on the device now, per part that has any there. For any thread."""
        return {part: nbytes for part, nbytes in self._resident.items() if nbytes}

    def host(self) -> dict[str, int]:
        """Bytes kept on the host for offloaded parts, whether in use or not. For any thread."""
        return {part: nbytes for part, nbytes in self._host.items() if nbytes}

    def used_on(self) -> dict[str, torch.device]:
        """The device that each part was on when it was last used, or came, read back from its weights."""
        return dict(self._used_on)

    @property
    def resident_bytes(self) -> int:
        """Bytes of weights on `device` now. For any thread."""
        return sum(size for part, size in self._resident.items() if self._devices[part] == self.device)

    def _register(self, part: str, tensor: Tensor, views: Sequence[Tensor], stays: bool) -> _Weight:
        (self._resident if stays else self._host)[part] += tensor.nbytes
        weight = _Weight(tensor, views, part, tensor.data, self.device_of(part), offloaded=not stays)
        if not stays:
            weight.home = self._keep(tensor.data, weight.device)
            weight.point(weight.home)
        return weight

    def _keep(self, tensor: Tensor, device: torch.device) -> Tensor:
        """`tensor` as it stays on the host: pinned for CUDA, to be sent at link speed and asynchronously.

        The pinning allocator rounds up to a power of two; where memory is short, pageable has to do.
        """
        room = 2 * tensor.nbytes + UNPINNED_BYTES
        pin = device.type == "cuda" and MemoryBudget("cpu").free_bytes() > room
        return tensor.pin_memory() if pin else tensor

    def _send(self, host: Tensor, device: torch.device) -> Tensor:
        return host.to(device, non_blocking=host.is_pinned())

    def _bring(self, weights: list[_Weight]) -> None:
        """Count one more user of each; send over those that had none."""
        with self._lock, _moving(any(not weight.on_device for weight in weights)):
            for index, weight in enumerate(weights):
                try:
                    if not weight.on_device:
                        weight.point(self._send(weight.home, weight.device))
                        self._resident[weight.part] += weight.home.nbytes
                except BaseException:
                    self._leave(weights[:index])
                    raise
                weight.users += 1
            for weight in {weight.part: weight for weight in weights}.values():
                self._used_on[weight.part] = weight.tensor.device

    def _leave(self, weights: list[_Weight]) -> None:
        """Count one user of each less; drop the device copies of those that have none."""
        with self._lock:
            for weight in weights:
                weight.users -= 1
            left = [weight for weight in dict.fromkeys(weights) if not weight.on_device]
            with _moving(bool(left)):
                for weight in left:
                    weight.point(weight.home)
                    self._resident[weight.part] -= weight.home.nbytes
                if left:
                    hand_back()


def brought(device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
    """`tensors` on `device`: themselves where they are there, else copies, of which the host waits for none
    between cards. What moves is charged to a span `transfer`, a stage of its own outside of other stages."""
    if all(same_device(tensor.device, device) for tensor in tensors):
        return tensors
    with span("transfer"):
        return tuple(tensor.to(device) for tensor in tensors)


def same_device(one: torch.device, other: torch.device) -> bool:
    """Whether two devices are one: a card without a number is the first."""
    return one.type == other.type and (one.index or 0) == (other.index or 0)


def _by_memory(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """`tensors` in groups, of each the one first in whose memory the others lie."""
    storages: dict[int, list[Tensor]] = {}
    for tensor in tensors:
        storages.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
    for sharing in storages.values():
        groups: list[list[Tensor]] = []
        for tensor in sorted(sharing, key=lambda tensor: -tensor.nbytes):
            group = next((group for group in groups if _holds(group[0], tensor)), None)
            group.append(tensor) if group else groups.append([tensor])
        yield from groups


def _holds(whole: Tensor, tensor: Tensor) -> bool:
    """Whether `tensor`, of the same storage, is within the memory of `whole`."""
    start, first = (t.storage_offset() * t.element_size() for t in (tensor, whole))
    return whole.is_contiguous() and first <= start and start + tensor.nbytes <= first + whole.nbytes


def stored(tensor: Tensor) -> list[Tensor]:
    """What holds the values of `tensor`: itself, or the tensors that a quantized one is made of.

    Those are what has bytes and what moves: a quantized tensor's own `nbytes` are those of the dtype that it
    stands for, and giving it other `data` leaves its parts where they are.
    """
    if not is_traceable_wrapper_subclass(tensor):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [part for name in names for part in stored(getattr(tensor, name))]


def move(module: nn.Module, device: torch.device) -> None:
    """Have the values of all parameters and buffers of `module` on `device`; none may share memory."""
    for tensor in (*module.parameters(), *module.buffers()):
        for part in stored(tensor):
            if part.device != device:
                part.data = part.to(device)


def _moving(moves: bool) -> AbstractContextManager[None]:
    return span("offload") if moves else nullcontext()
