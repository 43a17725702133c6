"""RVC in MLX: its networks beside golden values and beside torch's, a whole conversion beside torch's, in
this process and in one of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_rvc import (
    AUDIO,
    AUDIO_LIMIT,
    CNN,
    FP32,
    HUBERT,
    HUBERT_9,
    LATENT_MEAN,
    LATENTS,
    SALIENCE,
    drawn,
    golden_tensors,
)
from tiny_decoder12hz import loaded
from tiny_rvc import golden_network, inputs
from torch import Tensor, nn

from harness.checkpoint import on_meta
from harness.errors import UsageError
from harness.nn.folded import stored_shapes
from harness.parity import compare
from subjects.rvc import networks
from subjects.rvc.__main__ import main
from subjects.rvc.accuracy import accuracy
from subjects.rvc.backends import mlx_process
from subjects.rvc.config import RATES, SYNTHESIZERS, HubertConfig, RMVPEConfig
from subjects.rvc.engine import Engine
from subjects.rvc.models.hubert import Hubert
from subjects.rvc.models.rmvpe import RMVPE
from subjects.rvc.models.synthesizer import Synthesizer
from subjects.rvc.plan import resolve
from subjects.rvc.request import request
from subjects.rvc.result import Result
from subjects.rvc.setup import Setup
from subjects.rvc.weights import Synthetic, write

pytestmark = pytest.mark.skipif(find_spec("mlx") is None, reason="mlx is not installed: make test-backends")
LIMIT, WAVES_LIMIT = 1e-5, 1e-3  # of the relative RMS: of a network; of a conversion, with the same draws
FRAMES = 45
COMPONENTS = ("rmvpe", "hubert", "encoder", "flow", "generator")

State = dict[str, Tensor]
Damage = Callable[[State], Any]


def in_mlx(network: nn.Module, config: Any) -> Any:
    from subjects.rvc.backends.mlx_networks import hosted

    return hosted(network, config)


def golden_rmvpe() -> tuple[Tensor, Tensor]:
    config = RMVPEConfig()
    network = in_mlx(golden_network(on_meta(lambda: RMVPE(config)), torch.float32), config)
    features = network.features((2 * drawn(4, 128, 32) - 4).T[None].float())
    return features, network.salience(features)


def test_rmvpe_gives_the_golden_values() -> None:
    features, salience = golden_rmvpe()
    assert CNN.error(features) < FP32
    assert SALIENCE.error(salience) < FP32


def test_without_the_output_paddings_products_the_golden_values_are_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mlx.core as mx

    from subjects.rvc.backends.mlx_ops import Doubling

    def edge_of_zeros(self: Any, x: Any) -> Any:
        y = doubled(self, x)
        edge = mx.zeros_like(y[:, -1:]), mx.zeros_like(y[:, :, -1:])
        return mx.concatenate((mx.concatenate((y[:, :-1], edge[0]), axis=1)[:, :, :-1], edge[1]), axis=2)

    doubled = Doubling.__call__
    monkeypatch.setattr(Doubling, "__call__", edge_of_zeros)
    assert CNN.error(golden_rmvpe()[0]) > 10 * FP32


def test_hubert_gives_the_golden_values() -> None:
    config, samples = HubertConfig(), 0.1 * drawn(5, 1, 1_600).float()
    network = in_mlx(golden_network(on_meta(lambda: Hubert(config)), torch.float32), config)
    assert HUBERT.error(network(samples)) < FP32
    nine = in_mlx(golden_network(on_meta(lambda: Hubert(config)), torch.float32), replace(config, layers=9))
    assert HUBERT_9.error(nine(samples)) < FP32


@pytest.mark.parametrize("rate", RATES)
def test_the_synthesizer_gives_the_golden_values(rate: str) -> None:
    config = SYNTHESIZERS[rate]
    network = in_mlx(golden_network(on_meta(lambda: Synthesizer(config)), torch.float32), config)
    x = inputs(config, 16, 3, torch.float32)
    if rate == "32k":
        mean, _ = network.enc_p(x.phone, x.pitch)
        latents = network.flow(network.latents(x.phone, x.pitch, x.e1), network.voice(x.speaker))
        assert LATENT_MEAN.error(mean.transpose(1, 2)) < FP32
        assert LATENTS.error(latents.transpose(1, 2)) < FP32
    assert AUDIO[rate].error(network(*x)) < AUDIO_LIMIT


def setup(rate: str = "48k", source: str = "synthetic-tiny") -> Setup:
    return Setup.choose(source, model=rate, device="cpu")


def distance(name: str, one: Setup, frames: int = FRAMES, damage: Damage | None = None) -> float:
    """Of MLX from torch, whose weights have `damage`, of a component with golden tensors of its shapes."""
    part = networks.of(one)[name]
    network: Any = part.build(torch.device("cpu"), torch.float32)
    tensors = golden_tensors(stored_shapes(network))

    def filled() -> nn.Module:
        return loaded(on_meta(lambda: type(network)(part.config)), tensors, torch.float32)

    theirs = in_mlx(filled(), part.config)
    if damage:
        damage(tensors)
    x = part.inputs(frames, torch.Generator().manual_seed(1))
    return compare(part.run(filled(), *x), part.run(theirs, *x)).relative_rms


@pytest.mark.parametrize("name", COMPONENTS)
def test_networks_agree_with_torch(name: str) -> None:
    rates = RATES if name == "generator" else RATES[:1]
    for rate in rates:
        assert distance(name, setup(rate)) <= LIMIT


@pytest.mark.nightly
@pytest.mark.parametrize("name", COMPONENTS)
def test_networks_of_true_shapes_agree_with_torch(name: str) -> None:
    assert distance(name, setup(source="synthetic-full"), 100) <= LIMIT


def zeroed(name: str) -> Damage:
    return lambda tensors: tensors[name].zero_()


def of_ones(name: str) -> Damage:
    """As v alone, weight norm left in."""
    return lambda tensors: tensors[name].copy_(
        torch.linalg.vector_norm(tensors[name.replace("weight_g", "weight_v")], dim=(1, 2), keepdim=True)
    )


CONTROLS: dict[str, tuple[str, Damage]] = {
    "a convolution's bias": ("rmvpe", zeroed("cnn.bias")),
    "a state's bias": ("rmvpe", zeroed("fc.0.gru.bias_hh_l0_reverse")),
    "the norm over time": ("hubert", zeroed("feature_extractor.conv_layers.0.layer_norm.bias")),
    "positions": ("hubert", zeroed("encoder.pos_conv_embed.conv.bias")),
    "relative keys": ("encoder", zeroed("encoder.attn_layers.1.emb_rel_k")),
    "relative values": ("encoder", zeroed("encoder.attn_layers.1.emb_rel_v")),
    "a coupling's bias": ("flow", zeroed("flows.2.post.bias")),
    "weight norm left in the flow": ("flow", of_ones("flows.2.enc.in_layers.1.weight_g")),
    "a block's bias": ("generator", zeroed("resblocks.7.convs1.1.bias")),
    "weight norm left in the generator": ("generator", of_ones("ups.1.weight_g")),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_damage_is_noticed(control: str) -> None:
    name, damage = CONTROLS[control]
    assert distance(name, setup(), damage=damage) > 10 * LIMIT


def test_a_mel_axis_the_other_way_is_noticed() -> None:
    part = networks.of(setup())["rmvpe"]
    network: Any = part.build(torch.device("cpu"), torch.float32)
    (mel,) = part.inputs(FRAMES, torch.Generator().manual_seed(1))
    flipped = in_mlx(network, part.config).features(mel.flip(-1))
    assert compare(network.features(mel), flipped).relative_rms > 10 * LIMIT


@pytest.fixture(scope="module")
def converted() -> dict[str, Result]:
    """A second of a made-up voice by torch, by MLX, and by MLX with another seed's noise."""
    from subjects.rvc.backends.mlx_networks import engine

    one = setup("40k")
    plan, other = (resolve(request(1.0, seed=seed), one) for seed in (1, 2))
    mlx = engine(one)
    return {"torch": Engine.from_setup(one).run(plan), "mlx": mlx.run(plan), "other": mlx.run(other)}


def waves_off(converted: dict[str, Result], name: str) -> float:
    return compare(*(torch.from_numpy(converted[which].waves) for which in ("torch", name))).relative_rms


def test_a_conversion_agrees_with_torch(converted: dict[str, Result]) -> None:
    ours, theirs = converted["torch"], converted["mlx"]
    assert waves_off(converted, "mlx") <= WAVES_LIMIT
    errors = accuracy(torch.from_numpy(theirs.f0.copy()), torch.from_numpy(ours.f0.copy()))
    assert errors.voiced_f1 is None or errors.voiced_f1 == 1
    assert theirs.counts == ours.counts
    steps = abs(theirs.audios[0].samples.astype(int) - ours.audios[0].samples.astype(int))
    assert steps.max() <= 2
    assert {*theirs.stages_s} == {*ours.stages_s}
    assert theirs.environment["backend"] == "mlx-cpu" and theirs.environment["device"] == "cpu"


def test_other_noise_is_told_apart(converted: dict[str, Result]) -> None:
    assert waves_off(converted, "other") > WAVES_LIMIT


def test_a_process_of_its_own() -> None:
    one = setup("32k")
    part = networks.of(one)["generator"]
    x = part.inputs(FRAMES, torch.Generator().manual_seed(1))
    expected = part.run(part.build(torch.device("cpu"), torch.float32), *x)
    with mlx_process.Mlx(one, threads=1) as mlx:
        named = "mlx-cpu-openblas" if mlx_process.find_openblas() else "mlx-cpu"
        assert mlx.backend == named and (mlx.note is None) == named.endswith("openblas")
        call = mlx.call("generator", x)
        assert call.cpu_s > 0 and compare(expected, call.output).relative_rms <= LIMIT
        plan = resolve(request(1.0), one)
        assert mlx.run(plan).environment["backend"] == named
        hz = mlx.call("pitch", (torch.zeros(1, 4_000),)).output
        assert hz.shape == (1, 25)
        with pytest.raises(UsageError, match="too short"):
            mlx.call("pitch", (torch.zeros(1, 100),))


def test_a_process_without_openblas_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx_process, "find_openblas", lambda: None)
    monkeypatch.delenv(mlx_process.PRELOAD, raising=False)
    with mlx_process.Mlx(setup(), threads=1) as mlx:
        assert mlx.backend == "mlx-cpu" and mlx.note and "OpenBLAS" in mlx.note
        assert mlx.environment["blas"] is None


COMMANDS = {
    "components --component flow --duration 0.2": [
        "flow: mlx-cpu",
        "relative RMS",
        "processor time of torch-cpu",
    ],
    "rmvpe --duration 1": ["1 s: mlx-cpu", "cents from torch", "voiced F1 1.0000"],
    "full --duration 0.2": ["20 frames: mlx-cpu", "relative RMS", "no measure of MLX"],
    "audio-parity --duration 0.5": ["with the same draws, at most 0.001 and 2 steps away", "correlation"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("only", [False, True], ids=["beside torch", "alone"])
def test_commands_have_mlx(command: str, only: bool, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*command.split(), "--source", "synthetic-tiny", "--runs", "2", "--threads", "1"]
    assert main([*words, "--mlx-only"] if only else words) == 0
    output = capsys.readouterr().out
    assert "mlx-cpu" in output and ("torch-cpu" in output) is not only
    assert only or all(words in output for words in COMMANDS[command])


@pytest.mark.parametrize("only", [False, True], ids=["beside torch", "alone"])
def test_a_fresh_process_of_mlx(only: bool, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["e2e", "--duration", "0.5", "--source", "synthetic-tiny", "--threads", "1"]
    code = main([*words, "--mlx-only"] if only else words)
    content = json.loads(capsys.readouterr().out)
    problems = [run["problem"] for runs in (content["mlx"], content.get("runs", [])) for run in runs]
    assert code == int(any(problems)) and all(
        "time is spent" in problem for problem in filter(None, problems)
    )
    assert ("runs" in content) is not only and content["absent"] == {}
    (mlx,) = content["mlx"]
    named = "mlx-cpu-openblas" if mlx_process.find_openblas() else "mlx-cpu"
    assert (mlx["environment"]["backend"], mlx["environment"]["device"]) == (named, "cpu")
    assert mlx["note"] == "a CPU's: no measure of MLX"
    phases = ("import_s", "load_s", "first_call_s", "second_call_s")
    assert all(mlx[phase] > 0 for phase in phases) and mlx["import_s"] > 0.01  # mlx itself
    assert mlx["peak_rss_bytes"] > 2**26


def test_other_weights_have_no_ratio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(Synthetic("synthetic-tiny", "48k", seed=1), tmp_path / "other")
    words = "components --component flow --duration 0.2 --runs 1 --source synthetic-tiny --mlx-model".split()
    assert main([*words, str(tmp_path / "other" / "48k.pth")]) == 1  # and they are far apart
    assert "no ratio of unequal work" in capsys.readouterr().out
