"""The card made of host memory: what is on it, to the byte, and that it refuses what a card would."""

import gc
import threading

import pytest
import torch
from torch import Tensor, nn

from harness.device import VIRTUAL, resolve_device, resolve_dtype
from harness.memory import MemoryBudget
from harness.oom import attempt, classify
from harness.residency import Residency, brought, stored
from harness.spans import record
from harness.virtual_card import VirtualCard

MIB = 2**20
CPU = torch.device("cpu")


@pytest.fixture
def card():
    with VirtualCard(64 * MIB) as card:
        yield card


def on_card(mib: int) -> Tensor:
    return torch.zeros(mib * MIB, dtype=torch.uint8, device=VIRTUAL)


def test_a_file_is_read_whole_and_not_byte_by_byte(card, tmp_path, monkeypatch):
    """As a checkpoint's silence is: megabytes of it would take minutes."""
    torch.save(torch.ones(64), tmp_path / "silence.pt")
    monkeypatch.setattr(torch.UntypedStorage, "__getitem__", lambda *_: pytest.fail("went through a storage"))
    assert torch.equal(torch.load(tmp_path / "silence.pt"), torch.ones(64))


def test_a_card_knows_what_is_on_it(card):
    here, there = torch.ones(4), torch.ones(4, device=VIRTUAL)
    assert (here.device, there.device) == (CPU, card.device)
    assert torch.equal(there, here) and there.device.type == VIRTUAL
    for made in (there + 1, there[1:], there.view(2, 2), torch.zeros_like(there), there.new_zeros(3)):
        assert made.device == card.device
    assert (
        here.to(VIRTUAL).device == here.to(there).device == here.to(device=card.device).device == card.device
    )
    assert there.cpu().device == there.to("cpu", torch.float64).device == there.to(here).device == CPU
    assert there.cpu().data_ptr() != there.data_ptr()
    assert there.to(card.device) is there and here.cpu() is here
    assert (here + 1).device == CPU
    assert torch.randn(3, generator=torch.Generator(card.device), device=VIRTUAL).device == card.device
    assert torch.Generator(card.device).device == card.device


def test_torch_forks_and_seeds_as_before(card):
    """Which it asks every device it knows of about."""
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            drawn = torch.rand(2)
    assert torch.equal(drawn, torch.rand(2, generator=torch.Generator().manual_seed(3)))


def test_the_count_is_that_of_tensors_alive(card):
    kept = on_card(3)
    view = kept[: 2 * MIB]
    assert card.used_bytes() == 3 * MIB
    del kept
    assert card.used_bytes() == 3 * MIB  # the view holds all of it
    host = view.cpu()
    assert card.used_bytes() == 3 * MIB and host.nbytes == 2 * MIB
    del view
    assert (card.used_bytes(), card.peak_bytes()) == (0, 3 * MIB)
    card.reset_peak()
    on_card(1)
    assert (card.used_bytes(), card.peak_bytes(), card.available_bytes()) == (0, MIB, 64 * MIB)


def test_a_leaked_tensor_shows(card):
    leaked = []

    def work(leak: bool) -> None:
        x = on_card(2)
        if leak:
            leaked.append(x + x)

    work(leak=False)
    assert card.used_bytes() == 0
    work(leak=True)
    assert card.used_bytes() == 2 * MIB


def network() -> nn.Module:
    layers = (nn.Conv1d(1, 8, 5, padding=2), nn.GELU(), nn.Conv1d(8, 4, 5, padding=2))
    return nn.Sequential(*layers).requires_grad_(False)


def test_the_peak_is_what_an_independent_count_says(card):
    """By hand: weights, the input, and at the second layer both of the widest activations."""
    model, length = network(), 10_000
    weights = sum(p.nbytes for p in model.parameters())
    x = torch.randn(1, 1, length, device=VIRTUAL)
    model.to(VIRTUAL)
    assert card.used_bytes() == weights + x.nbytes
    with torch.inference_mode():
        y = model(x)
    channel = length * 4
    assert y.device == card.device
    assert card.used_bytes() == weights + channel + 4 * channel
    assert card.peak_bytes() == weights + channel + 2 * 8 * channel


def test_a_card_computes_what_the_cpu_does():
    torch.manual_seed(0)
    model, x = network(), torch.randn(2, 1, 100)
    expected = model(x)
    with VirtualCard(MIB):
        assert torch.equal(model.to(VIRTUAL)(x.to(VIRTUAL)).cpu(), expected)


def test_too_much_is_refused_before_it_costs_anything(card):
    kept = on_card(60)
    failure = attempt(lambda: on_card(2**24))  # 16 TiB
    assert failure is not None and (failure.kind, failure.error) == ("device", "OutOfMemoryError")
    assert failure.requested_bytes == 2**44
    assert "64.00 MiB of which 4.00 MiB is free" in failure.message
    with pytest.raises(torch.OutOfMemoryError):
        kept + 1
    assert card.used_bytes() == 60 * MIB  # what did not fit is gone
    more = on_card(4)
    with pytest.raises(torch.OutOfMemoryError) as refused:
        torch.zeros(1, device=VIRTUAL)
    assert classify(refused.value).requested_bytes == int(0.004 * 1024) or "KiB" in str(refused.value)
    assert card.peak_bytes() == kept.nbytes + more.nbytes == 64 * MIB


def test_what_is_written_to_stays_where_it_is(card):
    host, there = torch.zeros(4), torch.ones(4, device=VIRTUAL)
    host[:2] = there[:2]
    host.copy_(there)
    assert host.device == CPU and card.used_bytes() == there.nbytes
    there.add_(1)
    assert card.used_bytes() == there.nbytes


def test_another_thread_has_no_card(card):
    found = []

    def work() -> None:
        found.append(torch.ones(MIB, dtype=torch.uint8).device)
        try:
            torch.ones(1, device=VIRTUAL)
        except Exception as error:
            found.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0] == CPU and len(found) == 2
    assert card.used_bytes() == 0


def test_outside_nothing_is_counted_and_nothing_stays_behind():
    plain = torch.Generator
    card = VirtualCard(MIB)
    with card:
        kept = torch.ones(10, device=VIRTUAL)
    assert torch.Generator is plain
    torch.ones(10)
    assert card.used_bytes() == 40
    del kept
    assert card.used_bytes() == 0


def test_devices_resolve_by_name_only():
    VirtualCard(MIB)
    assert resolve_device(VIRTUAL).type == VIRTUAL
    assert resolve_dtype("auto", resolve_device(VIRTUAL), "float32") == torch.bfloat16  # as on cuda


def test_offloaded_parts_take_room_only_while_used(card):
    """Control: the same parts kept on the card take it all the time."""
    part = nn.Linear(512, 512, bias=False).requires_grad_(False)
    stays = nn.Linear(512, 512, bias=False).requires_grad_(False).to(VIRTUAL)
    residency = Residency(card.device, ("dit", "vae"), ("vae",))
    residency.adopt("vae", part)
    residency.adopt("dit", stays)
    assert card.used_bytes() == MIB
    with residency.using("vae"):
        assert card.used_bytes() == 2 * MIB
        assert part.weight.device == card.device
    gc.collect()
    assert (card.used_bytes(), part.weight.device) == (MIB, CPU)


def test_a_quantized_matrix_takes_its_own_bytes(card):
    pytest.importorskip("torchao", reason="torchao is not installed")
    from harness.quantization import quantize

    x = torch.randn(3, 256)
    layer = nn.Linear(256, 512, bias=False)
    there = nn.Linear(256, 512, bias=False, device=VIRTUAL)
    there.weight.data.copy_(layer.weight.data)
    assert card.used_bytes() == 4 * 256 * 512
    for module in (layer, there):
        module.requires_grad_(False)
        quantize(nn.Sequential(module), "int8_weight_only")
    gc.collect()
    assert card.used_bytes() == sum(part.nbytes for part in stored(layer.weight)) < 1.1 * 256 * 512
    made = there(x.to(VIRTUAL))
    assert made.device == card.device and torch.equal(made.cpu(), layer(x))


SECOND = f"{VIRTUAL}:1"


@pytest.fixture
def pair():
    with VirtualCard(64 * MIB, beside=[VirtualCard(8 * MIB)]) as card:
        yield card.cards


def test_two_cards_count_each_its_own(pair):
    first, second = pair
    here = on_card(1)
    there = here.to(SECOND)
    assert (first.used_bytes(), second.used_bytes()) == (MIB, MIB)
    assert (here.device, there.device) == (torch.device(VIRTUAL), torch.device(SECOND))
    assert torch.equal(there.cpu(), here.cpu()) and there.cpu().device == CPU
    made = [there + 1, there[1:], torch.zeros_like(there), here.to(there), there.to(first.device).to(SECOND)]
    assert {tensor.device for tensor in made} == {second.device}
    assert here.to(f"{VIRTUAL}:0") is here and there.to(SECOND) is there
    del here
    assert first.used_bytes() == 0 < second.used_bytes()
    assert MemoryBudget(SECOND).used_bytes() == second.used_bytes()
    assert MemoryBudget(VIRTUAL).total_bytes() == 64 * MIB


def test_a_card_that_is_full_does_not_ask_the_other(pair):
    first, second = pair
    kept = on_card(7).to(SECOND)
    with pytest.raises(torch.OutOfMemoryError, match=r"capacity of 8\.00 MiB"):
        kept + 1
    assert (kept.to(VIRTUAL) + 1).device == first.device
    assert (first.peak_bytes(), second.peak_bytes()) == (14 * MIB, 7 * MIB)


def test_tensors_of_two_cards_meet_in_a_copy_only(pair):
    here, there = torch.ones(4, device=VIRTUAL), torch.zeros(4, device=SECOND)
    for meet in (lambda: here + there, lambda: torch.cat((here, there)), lambda: there.add_(here)):
        with pytest.raises(RuntimeError, match="expected all tensors on one device"):
            meet()
    assert torch.equal(there.copy_(here).cpu(), torch.ones(4)) and there.device == pair[1].device
    with pytest.raises(RuntimeError, match="there is no virtual:2"):
        here.to(f"{VIRTUAL}:2")


def test_a_part_lives_on_its_own_card_and_leaves_it_when_it_is_offloaded(pair):
    first, second = pair
    places = {"lm": second.device, "vae": second.device}
    residency = Residency(first.device, ("dit", "lm", "vae"), ("vae",), places)
    for part in residency.parts:
        module = nn.Linear(256, 256, bias=False, device=residency.home(part))
        residency.adopt(part, module)
    assert [residency.home(part) for part in residency.parts] == [first.device, second.device, CPU]
    assert (first.used_bytes(), second.used_bytes()) == (256 * 1024, 256 * 1024)
    assert residency.resident_bytes == 256 * 1024  # of the first card, which the other's are not on
    with residency.using("vae"):
        assert second.used_bytes() == 2 * 256 * 1024
    assert residency.used_on() == {"dit": first.device, "lm": second.device, "vae": second.device}


def test_what_goes_from_card_to_card_is_a_stage_and_what_stays_is_itself(pair):
    first, second = pair
    kept = on_card(1)
    with record() as times:
        assert brought(first.device, kept) == (kept,)
        assert "transfer" not in times.stages()
        (moved,) = brought(second.device, kept)
    assert "transfer" in times.stages() and moved.device == second.device
