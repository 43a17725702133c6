"""What is on the device when, and that it computes the same there."""

import gc

import pytest
import torch
from torch import Tensor, nn

from acestep import components
from acestep.components import COMPONENTS
from harness.residency import Residency
from harness.spans import record

CUDA = torch.device("cuda")
ALL_BUT_DIT = components.offloaded(True, False)
WEIGHTS = (3 * 3 + 3 + 2) * 4  # bytes of a `module()`


class FakeCard(Residency):
    """Bookkeeping of a card that is not here: what is sent over is another tensor in host memory."""

    room = 10**9

    def _keep(self, tensor: Tensor, device: torch.device) -> Tensor:
        return tensor

    def _send(self, host: Tensor, device: torch.device) -> Tensor:
        if self.resident_bytes + host.nbytes > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return host.clone()


def module() -> nn.Module:
    linear = nn.Linear(3, 3).requires_grad_(False)
    linear.register_buffer("offset", torch.ones(2))
    return linear


def addresses(part: nn.Module) -> list[int]:
    return [t.data_ptr() for t in (*part.parameters(), *part.buffers())]


@pytest.mark.parametrize(
    ("device", "offload", "offload_dit", "on_host", "words"),
    [
        ("cuda", False, False, set(), "every part stays on cuda"),
        ("cuda", True, False, set(COMPONENTS) - {"dit"}, "every part but the DiT is on the host until used"),
        ("cuda", True, True, set(COMPONENTS), "every part is on the host until used"),
        ("cuda", False, True, {"dit"}, "the DiT is on the host until used"),
        ("cpu", True, True, set(COMPONENTS), "nothing is offloaded: the device is the host"),
    ],
)
def test_homes(device, offload, offload_dit, on_host, words):
    offloaded = components.offloaded(offload, offload_dit)
    residency = Residency(torch.device(device), COMPONENTS, offloaded)
    assert {part for part in COMPONENTS if residency.home(part).type == "cpu"} >= on_host
    if device == "cuda":
        assert {part for part in COMPONENTS if residency.home(part).type == "cpu"} == on_host
    assert components.describe(offloaded, device) == words


def test_an_offloaded_part_is_on_the_device_while_used():
    card = FakeCard(CUDA, COMPONENTS, ALL_BUT_DIT)
    dit, vae = module(), module()
    card.adopt("dit", dit)
    card.adopt("vae", vae)
    home, expected = addresses(vae), vae(torch.ones(1, 3))
    assert card.resident() == {"dit": WEIGHTS}
    assert card.host() == {"vae": WEIGHTS}
    with torch.inference_mode(), card.using("vae", "dit"):
        assert card.resident() == {"dit": WEIGHTS, "vae": WEIGHTS}
        assert card.resident_bytes == 2 * WEIGHTS
        assert not set(addresses(vae)) & set(home)
        assert torch.equal(vae(torch.ones(1, 3)), expected)
    assert addresses(vae) == home
    assert card.resident() == {"dit": WEIGHTS}
    assert torch.equal(vae(torch.ones(1, 3)), expected)  # and outside of inference mode


def views() -> nn.Module:
    """Two weights that are halves of a buffer of 24 bytes."""
    whole, part = torch.arange(6.0).view(2, 3), nn.Module()
    for name, row in zip("ab", whole, strict=True):
        part.register_parameter(name, nn.Parameter(row, requires_grad=False))
    part.register_buffer("whole", whole)
    return part


def test_memory_that_is_shared_moves_once_and_stays_shared():
    card = FakeCard(CUDA, COMPONENTS, ALL_BUT_DIT)
    part = views()
    card.adopt("vae", part)
    home = addresses(part)
    assert card.host() == {"vae": 24}
    with card.using("vae"):
        assert card.resident() == {"vae": 24}
        assert addresses(part) == [(start := part.whole.data_ptr()), start + 12, start] != home
        assert part.b.tolist() == [3.0, 4.0, 5.0]
    assert addresses(part) == home
    assert card.resident() == {}


def test_tensors_side_by_side_with_none_that_holds_both_move_by_themselves():
    card = FakeCard(CUDA, COMPONENTS, ALL_BUT_DIT)
    part = views()
    del part.whole
    card.adopt("vae", part)
    with card.using("vae"):
        assert card.resident() == {"vae": 24}
        assert (part.a.tolist(), part.b.tolist()) == ([0.0, 1.0, 2.0], [3.0, 4.0, 5.0])


def test_uses_nest_and_the_last_to_leave_drops():
    card = FakeCard(CUDA, COMPONENTS, ALL_BUT_DIT)
    vae = module()
    card.adopt("vae", vae)
    with card.using("vae"):
        there = addresses(vae)
        with card.using("vae", "vae"):
            assert addresses(vae) == there
        assert (addresses(vae), card.resident()) == (there, {"vae": WEIGHTS})
    assert card.resident() == {}


def test_an_error_inside_cleans_up():
    card = FakeCard(CUDA, COMPONENTS, ALL_BUT_DIT)
    card.adopt("lm", module())
    with pytest.raises(KeyError), card.using("lm"):
        raise KeyError
    assert card.resident() == {}


def test_no_room_on_the_way_leaves_nothing_behind():
    card = FakeCard(CUDA, COMPONENTS, ALL_BUT_DIT)
    lm, vae = module(), module()
    card.adopt("vae", vae)
    card.adopt("lm", lm)
    home = addresses(lm), addresses(vae)
    card.room = WEIGHTS + 40  # the other part's matrix fits, its bias does not
    with pytest.raises(torch.OutOfMemoryError), card.using("vae", "lm"):
        pytest.fail("there is no room for both")
    assert (addresses(lm), addresses(vae)) == home
    assert card.resident() == {}
    with card.using("lm"):
        assert card.resident() == {"lm": WEIGHTS}


def test_shared_tensors_are_counted_and_moved_once():
    head, table = module(), module()
    head.weight = table.weight  # tied, as in the language model
    card = FakeCard(CUDA, COMPONENTS, ALL_BUT_DIT)
    card.adopt("lm", table, head)
    with card.using("lm"):
        assert head.weight is table.weight
        assert card.resident() == {"lm": 2 * WEIGHTS - head.weight.nbytes}


def test_parts_may_share_a_tensor():
    quantizer, pooler = module(), module()
    card = FakeCard(CUDA, COMPONENTS, ALL_BUT_DIT)
    card.adopt("detokenizer", quantizer)
    card.adopt("tokenizer", quantizer, pooler)
    with card.using("tokenizer"):
        assert card.resident() == {"detokenizer": WEIGHTS, "tokenizer": WEIGHTS}
        with card.using("detokenizer"):
            pass
        assert card.resident() == {"detokenizer": WEIGHTS, "tokenizer": WEIGHTS}
    assert card.resident() == {}
    card.adopt("dit", quantizer)  # the DiT stays, and what it shares with it
    assert card.resident() == {"detokenizer": WEIGHTS}
    with card.using("tokenizer"):
        assert card.resident_bytes == 2 * WEIGHTS
    assert card.resident() == {"detokenizer": WEIGHTS}


def test_moves_are_a_stage_and_nothing_else_is():
    card = FakeCard(CUDA, COMPONENTS, ALL_BUT_DIT)
    card.adopt("vae", module())
    card.adopt("dit", module())
    with record() as times:
        with card.using("dit"):
            pass
        assert times.samples("offload") == []
        with card.using("vae"), card.using("vae"):
            pass
    assert len(times.samples("offload")) == 2  # there, and the memory given back


def test_on_a_cpu_nothing_moves():
    residency = Residency(torch.device("cpu"), COMPONENTS, COMPONENTS)
    vae = module()
    residency.adopt("vae", vae)
    home = addresses(vae)
    with record() as times, residency.using("vae"):
        assert addresses(vae) == home
    assert (residency.resident(), residency.host()) == ({"vae": WEIGHTS}, {})
    assert times.stages().keys() == {"other"}


def test_what_is_on_meta_is_left_alone():
    card = FakeCard(CUDA, COMPONENTS, ALL_BUT_DIT)
    encoder = nn.Sequential(module(), module().to("meta"))
    card.adopt("condition", encoder)
    with card.using("condition"):
        assert card.resident() == {"condition": WEIGHTS}
        assert encoder[1].weight.is_meta


def test_unknown_parts_are_refused():
    card = FakeCard(CUDA, COMPONENTS, ALL_BUT_DIT)
    card.adopt("dit", module())
    with pytest.raises(ValueError, match=r"'ema' is not known; use one of dit, condition"):
        card.home("ema")
    with pytest.raises(ValueError, match="'lm' is not loaded; loaded are dit"), card.using("lm"):
        pass


@pytest.mark.gpu
@pytest.mark.parametrize("inference", [True, False])
def test_on_a_real_card(inference: bool):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    layer = nn.Sequential(nn.Linear(1024, 1024), nn.BatchNorm1d(1024)).requires_grad_(False).eval()
    with torch.inference_mode(inference):
        staying = Residency(CUDA, COMPONENTS)
        x = torch.randn(4, 1024, device=CUDA)
        there = nn.Sequential(nn.Linear(1024, 1024), nn.BatchNorm1d(1024)).eval()
        there.load_state_dict(layer.state_dict())
        staying.adopt("vae", there.to(CUDA))
        with staying.using("vae"):
            expected = there(x)
        residency = Residency(CUDA, COMPONENTS, ALL_BUT_DIT)
        residency.adopt("vae", layer)
        gc.collect()
        before = torch.cuda.memory_allocated()
        with residency.using("vae"):
            assert layer[0].weight.is_cuda
            assert torch.cuda.memory_allocated() - before >= residency.resident_bytes > 4 * 2**20
            assert torch.equal(layer(x), expected)
        assert torch.cuda.memory_allocated() == before
        assert layer[0].weight.device.type == "cpu"
        with residency.using("vae"):
            assert torch.equal(layer(x), expected)
