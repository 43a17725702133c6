"""Parts on different devices: what a placement says, what it comes to, and music that is the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from short_music import METADATA, SEEDED

from acestep import components, resolver
from acestep.engine import Engine
from acestep.models.rates import SAMPLE_RATE
from acestep.placement import PARTS, parse
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams
from acestep.setup import Setup
from harness import accelerators
from harness.accelerators import Accelerator
from harness.errors import MissingPrerequisite, UsageError
from harness.graphs import unavailable
from harness.memory import GIB
from harness.nn.sampling import Sampling
from harness.virtual_card import VirtualCard

TINY = "synthetic-tiny"
ADA = Accelerator("cuda", "RTX 4090", 23.6, simulated=True, capability=(8, 9))
SMALL = Accelerator("cuda", "RTX 4060", 7.7, simulated=True, capability=(8, 9))
TURING = Accelerator("cuda", "T4", 14.6, simulated=True, capability=(7, 5))
EVERYWHERE = ",".join(f"{part}=cuda:1" for part in PARTS)


def setup(place: str | None = None, **choices) -> Setup:
    choices = {"accelerator": ADA, "compile": False, "quantization": "none"} | choices
    return Setup.choose(TINY, place=place, **choices)


def plan(setup: Setup, **fields) -> dict:
    return resolver.resolve(GenerationParams(**METADATA | fields), GenerationConfig(), setup).as_dict()


@pytest.fixture
def three(monkeypatch):
    """A machine of three cards."""
    cards = {"auto": ADA, "cuda": ADA, "cuda:0": ADA, "cuda:1": SMALL, "cuda:2": TURING}

    def detect(device="auto", environ=None):
        if device in cards:
            return replace(cards[device], simulated=False)
        if device.startswith("cuda"):
            raise MissingPrerequisite(f"device: {device} is not available here")
        return Accelerator("cpu", "CPU", 16.0)

    monkeypatch.setattr(accelerators, "detect", detect)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vocoder=cuda:1", "'vocoder' is no part; use dit, condition, vae, text_encoder, lm"),
        ("dit", "'dit=' is on no device; use cuda, cuda:N, mps or cpu"),
        ("lm=gpu1", "'lm=gpu1' is on no device"),
        ("lm=cpu:1", "'lm=cpu:1' is on no device"),
        ("lm=auto", "'lm=auto' is on no device"),
        ("", "'' is no part"),
        ("dit=cuda:0,", "'' is no part"),
        ("lm=cuda:0,lm=cuda:1", "lm is named twice"),
        ("timbre=cuda:1", "timbre is always with condition"),
        ("vae_encoder=cpu", "vae_encoder is always with vae"),
    ],
)
def test_what_is_no_placement_is_refused(text, message):
    with pytest.raises(UsageError, match="place: ") as error:
        parse(text)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_card_without_a_number_is_the_first():
    assert parse(" dit = cuda , lm=cuda:01,vae=cpu") == {"dit": "cuda:0", "lm": "cuda:1", "vae": "cpu"}


def test_a_device_that_is_not_there_is_missing(three):
    with pytest.raises(
        MissingPrerequisite,
        match="place: lm=cuda:3: there is no cuda:3 here; python -m acestep --list-devices",
    ):
        setup("lm=cuda:3", accelerator=None)


@pytest.mark.parametrize("place", ["dit=cuda:0", ",".join(f"{part}=cuda" for part in PARTS)])
def test_everything_on_the_engines_device_is_no_placement(three, place):
    for accelerator in (None, ADA):
        plain = setup(accelerator=accelerator, lm="acestep-5Hz-lm-0.6B")
        assert setup(place, accelerator=accelerator, lm="acestep-5Hz-lm-0.6B") == plain
    assert "place" not in plan(plain)


def test_all_on_one_card_is_the_engine_there(three):
    assert setup(EVERYWHERE, accelerator=None) == setup(device="cuda:1", accelerator=None)
    assert setup(EVERYWHERE, accelerator=None, device="cuda:0").device == "cuda:0"  # which is named


def test_a_plan_says_what_is_elsewhere():
    choice = setup("vae=cuda:1,lm=cuda:0,text_encoder=cpu")
    assert plan(choice)["place"] == {"vae": "cuda:1", "text_encoder": "cpu"}
    assert json.loads(json.dumps(plan(choice)))["device"] == "cuda"


def test_each_card_has_its_say(three):
    """The language model is chosen by its own card, and takes no room of the other; one format suits all."""
    small = setup(accelerator=SMALL, want_lm=True)
    large = setup("lm=cuda:1", accelerator=SMALL, beside=lambda device: ADA, want_lm=True)
    assert (small.lm, large.lm) == ("acestep-5Hz-lm-0.6B", "acestep-5Hz-lm-4B")
    assert (small.max_batch, large.max_batch) == (small.limits.max_batch_with_lm, large.limits.max_batch)
    assert large.whose().endswith("without LM")
    assert setup("lm=cuda:2", accelerator=None).dtype == "fp16" != setup(accelerator=None).dtype
    offloaded = setup("lm=cuda:1,condition=cpu", offload_to_cpu=True).offloaded
    assert set(offloaded) == {"vae", "vae_encoder", "text_encoder"}
    assert setup("vae=cpu").graphs and not unavailable("cuda")
    compiled = replace(setup("vae=cpu,lm=cuda:1", lm="acestep-5Hz-lm-0.6B"), compile=True).compiled
    assert compiled == ("dit", "lm")


@pytest.mark.parametrize("backend", ["vllm", "mlx"])
def test_a_backend_that_cannot_be_placed_is_refused_or_left(backend):
    with pytest.raises(UsageError, match=f"lm_backend: {backend} runs where it will"):
        setup("lm=cuda:1", lm="acestep-5Hz-lm-0.6B", lm_backend=backend)
    auto = setup("lm=cuda:1", lm="acestep-5Hz-lm-0.6B")
    assert (auto.lm_backend, auto.lm_backend_reason) == ("pt", "the one that can be placed")


def test_a_part_that_is_not_loaded_is_told():
    changes = plan(setup("lm=cuda:1,vae=cuda:1", lm=None), thinking=False)["adjustments"]
    assert [(each["field"], each["requested"], each["applied"]) for each in changes] == [
        ("place", "lm=cuda:1", None)
    ]
    with pytest.raises(UsageError, match="does not load; leave it out"):
        plan(setup("lm=cuda:1", lm=None, strict=True), thinking=False)
    _, changes = resolver.resolve_description(
        DescriptionParams(query="a waltz"), "create", setup("dit=cuda:1,lm=cuda:1", want_lm=True)
    )
    assert [each.requested for each in changes if each.field == "place"] == ["dit=cuda:1"]


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("placed") / "song.wav"
    wave = np.sin(np.arange(3 * SAMPLE_RATE) / 20)
    soundfile.write(path, np.stack((wave, wave), 1) * 0.3, SAMPLE_RATE)
    return str(path)


def made(place: str | None, song: str) -> tuple[torch.Tensor, dict, list[int], tuple[str, ...]]:
    """The waveform of a cover, the environment, the peaks of three cards, and the stages."""
    choice = setup(place, device="virtual", dtype="fp32", graphs=False)
    params = GenerationParams(
        **METADATA, task_type="cover", src_audio=song, inference_steps=1, cover_noise_strength=0.3
    )
    with VirtualCard(GIB, beside=[VirtualCard(GIB), VirtualCard(GIB)]) as card:
        engine = Engine.from_setup(choice, preload=())
        result = engine.run(resolver.resolve(params, SEEDED, choice))
        [item] = result.audios
        peaks = [one.peak_bytes() for one in card.cards]
        return item.tensor.clone(), dict(result.environment), peaks, tuple(result.stages_s)


def test_music_made_on_several_cards_is_that_of_one(song):
    """Whatever one part gives to another goes to another card here."""
    alone, environment, peaks, stages = made(None, song)
    assert not {"placed", "peak_bytes_virtual"} & environment.keys()
    assert peaks[0] > 0 == peaks[1] and "transfer" not in stages
    audio, environment, peaks, stages = made("condition=cuda:1,dit=cuda:2", song)
    assert torch.equal(audio, alone)
    assert "transfer" in stages
    read_back = dict(entry.split("=") for entry in environment["placed"].split(", "))
    assert read_back == {
        **dict.fromkeys((components.CONDITION, components.TOKENIZER, components.DETOKENIZER), "virtual:1"),
        **dict.fromkeys((components.VAE, components.VAE_ENCODER, components.TEXT_ENCODER), "virtual"),
        components.DIT: "virtual:2",
    }
    devices = ("virtual", "virtual:1", "virtual:2")
    assert {device: environment[f"peak_bytes_{device}"] for device in devices} == dict(
        zip(devices, peaks, strict=True)
    )
    assert all(peaks)


def test_a_language_model_writes_on_its_own_card():
    choice = setup("lm=cuda:1", device="virtual", dtype="fp32", lm="acestep-5Hz-lm-0.6B", graphs=False)
    with VirtualCard(GIB, beside=[VirtualCard(GIB)]) as card, torch.inference_mode():
        engine = Engine.from_setup(choice, preload=components.TEXT)
        assert engine.planner and engine.budgets.keys() == {one.device for one in card.cards}
        with engine.planner.backend.using():
            [codes] = engine.planner.backend.decode_loop(Sampling(0.85), [1]).codes([[1, 2, 3]], [3])
        assert codes.device == card.cards[1].device
        assert engine.planner.backend.facts()["device"] == "virtual:1"
        assert card.used_bytes() < card.cards[1].used_bytes()


def test_a_step_on_another_card_than_its_tensors_is_seen(song, monkeypatch):
    """The control: what is not brought to its card meets a tensor of another there."""
    monkeypatch.setattr("acestep.diffusion.stages.brought", lambda device, *tensors: tensors)
    with pytest.raises(RuntimeError, match="expected all tensors on one device"):
        made("dit=cuda:1", song)


def test_a_dry_run_names_no_module_of_torch(capsys):
    from acestep.__main__ import main

    folder = Path("unused")
    assert main(["generate", "--dry-run", "--source", TINY, "--place", "lm=cpu", "--out", str(folder)]) == 0
    assert "place" not in capsys.readouterr().out  # a CPU is where it is anyway
