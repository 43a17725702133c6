"""RMVPE against its golden values, with damage that has to show; the published names; pieces; work."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from golden_rvc import CNN, FP32, FP64, SALIENCE, drawn
from tiny_rmvpe import DEEP, TINY, log_mel, network, tensors
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from harness.checkpoint import on_meta
from harness.errors import UsageError
from harness.nn.folded import stored_shapes
from harness.parity import compare
from subjects.rvc import closed_form
from subjects.rvc.config import RMVPEConfig
from subjects.rvc.models.conv2d import POOL, STATISTICS, Conv
from subjects.rvc.models.rmvpe import RMVPE

LIMIT = 1e-12  # of the relative RMS, in fp64
GATE = 1e-5  # what a gate would let pass, in fp32
FRAMES = 24


def test_the_published_network_gives_the_golden_values(monkeypatch: pytest.MonkeyPatch) -> None:
    mel = (2 * drawn(4, 128, 32) - 4).T[None]
    rmvpe = network(RMVPEConfig())
    features = rmvpe.features(mel)
    assert CNN.error(features) < FP64
    assert SALIENCE.error(rmvpe.salience(features)) < FP64
    with monkeypatch.context() as patch:
        patch.setattr(Conv, "forward", zeros_for_output_padding)
        assert CNN.error(rmvpe.features(mel)) > GATE
    rmvpe.float()
    features = rmvpe.features(mel.float())
    assert CNN.error(features) < FP32
    assert SALIENCE.error(rmvpe.salience(features)) < FP32


def test_names_and_shapes_are_the_published_ones() -> None:
    shapes = stored_shapes(on_meta(lambda: RMVPE(RMVPEConfig())))
    counters = {
        name for name in shapes if name.endswith("running_mean")
    }  # each norm has one, which is unused
    assert len(shapes) + len(counters) == 741 and len(counters) == 118
    trained = {name: math.prod(shape) for name, shape in shapes.items() if "running" not in name}
    parts = ("unet.encoder", "unet.intermediate", "unet.decoder", "cnn", "fc.0.gru", "fc.1")
    counts = [sum(n for name, n in trained.items() if name.startswith(f"{part}.")) for part in parts]
    assert counts == [5_943_442, 74_482_176, 8_826_320, 435, 986_112, 184_680]
    assert sum(counts) == sum(trained.values()) == 90_423_165
    named = {
        "unet.encoder.bn.running_var": (1,),
        "unet.encoder.layers.0.conv.0.conv.0.weight": (16, 1, 3, 3),
        "unet.encoder.layers.4.conv.3.conv.4.bias": (256,),
        "unet.intermediate.layers.0.conv.0.shortcut.weight": (512, 256, 1, 1),
        "unet.decoder.layers.0.conv1.0.weight": (512, 256, 3, 3),
        "unet.decoder.layers.0.conv1.1.running_mean": (256,),
        "unet.decoder.layers.4.conv2.0.shortcut.bias": (16,),
        "cnn.weight": (3, 16, 3, 3),
        "fc.0.gru.weight_hh_l0_reverse": (768, 256),
        "fc.1.weight": (360, 512),
    }
    assert named == {name: shapes[name] for name in named}
    assert sum("shortcut.weight" in name for name in shapes) == 11


def test_norms_folded_are_norms_left_in() -> None:
    left_in = network(folded=False)
    assert {name: tuple(p.shape) for name, p in left_in.named_parameters() if "running" in name}
    assert stored_shapes(left_in) == stored_shapes(network())
    mel = log_mel(FRAMES, batch=2)
    assert compare(left_in.features(mel), network().features(mel)).relative_rms < LIMIT


def zeros_for_output_padding(conv: Conv, x: Tensor) -> Tensor:
    """The row and column that `output_padding` adds, as zeros: they are products, too."""
    kernel = conv.weight.permute(0, 3, 1, 2)
    if not conv.up:
        return F.conv2d(x, kernel, conv.bias, padding=conv.padding)
    return F.pad(F.conv_transpose2d(x, kernel, conv.bias, POOL, conv.padding), (0, 1, 0, 1))


def without(held: dict[str, Tensor], *names: str) -> None:
    for name in names:
        held[name] = torch.ones_like(held[name]) if name.endswith("var") else torch.zeros_like(held[name])


CONTROLS: dict[str, Callable[[dict[str, Tensor]], None]] = {
    "the convolution's bias dropped": lambda held: without(held, "cnn.bias"),
    "a shortcut's bias dropped": lambda held: without(held, "unet.encoder.layers.1.conv.0.shortcut.bias"),
    "a norm's bias dropped": lambda held: without(held, "unet.intermediate.layers.1.conv.0.conv.4.bias"),
    "batch norm at its defaults": lambda held: without(
        held, *(name for name in held if name.endswith(STATISTICS[2:]))
    ),
    "a transposed kernel by its output": lambda held: held.update(
        {"unet.decoder.layers.0.conv1.0.weight": held["unet.decoder.layers.0.conv1.0.weight"].flip(0)}
    ),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_damage_is_noticed_before_the_sigmoid(control: str) -> None:
    held, mel = tensors(), log_mel(FRAMES)
    whole = network(held=held).features(mel)
    CONTROLS[control](held)
    assert compare(whole, network(held=held).features(mel)).relative_rms > GATE


def test_wrong_edges_and_axes_are_noticed_before_the_sigmoid(monkeypatch: pytest.MonkeyPatch) -> None:
    mel, rmvpe = log_mel(FRAMES), network()
    features = rmvpe.features(mel)
    assert compare(features, rmvpe.features(mel.flip(-1))).relative_rms > GATE
    channels = features.unflatten(-1, (TINY.out_channels, -1))
    assert compare(features, channels.transpose(-1, -2).flatten(2)).relative_rms > GATE
    monkeypatch.setattr(Conv, "forward", zeros_for_output_padding)
    assert compare(features, rmvpe.features(mel)).relative_rms > GATE


def test_a_row_is_what_it_is_alone() -> None:
    rmvpe, mel = network(), log_mel(FRAMES, batch=3)
    for row, alone in zip(rmvpe(mel), mel, strict=True):
        assert compare(rmvpe(alone[None])[0], row).relative_rms < LIMIT


def test_frames_off_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="25 frames are not a multiple of 4"):
        network().features(log_mel(25))
    with pytest.raises(UsageError, match="chunk: 6 frames; use a positive multiple of 4"):
        network().features_chunked(log_mel(FRAMES), 6)


def test_the_published_network_sees_1552_frames_before_and_1583_behind() -> None:
    for config in (RMVPEConfig(), DEEP):
        rmvpe = on_meta(lambda config=config: RMVPE(config))
        fields = [rmvpe.field(frame, frame) for frame in range(32)]
        assert min(first - frame for frame, (first, _) in enumerate(fields)) == -1552
        assert max(last - frame for frame, (_, last) in enumerate(fields)) == 1583
        assert rmvpe.context == (1536, 1568)


def test_a_frame_depends_on_its_field_and_nothing_else() -> None:
    rmvpe, frames = network(), 96
    mels = log_mel(frames).repeat(frames, 1, 1)
    mels[range(frames), range(frames)] = torch.nan  # of each row another frame
    changed = rmvpe.features(mels).isnan().any(-1)
    for frame in range(frames):
        first, last = rmvpe.field(frame, frame)
        within = [first <= cause <= last for cause in range(frames)]
        assert changed[:, frame].tolist() == within, frame


@pytest.mark.parametrize("size", [4, 16, 64])
@pytest.mark.parametrize("frames", [4, 8, 60, 64, 68, 128, 132])
def test_pieces_are_the_whole(frames: int, size: int) -> None:
    rmvpe, mel = network(), log_mel(frames)
    whole, pieces = rmvpe.features(mel), rmvpe.features_chunked(mel, size)
    assert compare(whole, pieces).relative_rms < LIMIT
    assert compare(rmvpe(mel), rmvpe.salience(pieces)).relative_rms < LIMIT
    if frames > size:
        assert compare(whole, rmvpe.features_chunked(mel, size, (0, 0))).relative_rms > 1e-3


def test_pieces_with_less_context_are_not_the_whole() -> None:
    rmvpe, mel = network(), log_mel(132)
    whole, (left, right) = rmvpe.features(mel), rmvpe.context
    for context in ((left - 4, right), (left, right - 4)):
        assert compare(whole, rmvpe.features_chunked(mel, 4, context)).relative_rms > LIMIT


@pytest.mark.parametrize(
    ("dtype", "limit", "frames"),
    [(torch.float64, LIMIT, 32), (torch.float64, LIMIT, 1056), (torch.float32, 1e-5, 2080)],
)
def test_pieces_of_the_published_depth_are_the_whole(dtype: torch.dtype, limit: float, frames: int) -> None:
    rmvpe, mel = network(DEEP, dtype=dtype), log_mel(frames, DEEP).to(dtype)
    whole = rmvpe.features(mel)
    assert compare(whole, rmvpe.features_chunked(mel, 1024)).relative_rms < limit
    if frames > 1024:
        assert compare(whole, rmvpe.features_chunked(mel, 1024, (0, 0))).relative_rms > 1e-3


@pytest.mark.parametrize(("config", "frames"), [(RMVPEConfig(), 32), (TINY, 4), (TINY, 12)])
def test_work_on_paper_is_work_counted(config: RMVPEConfig, frames: int) -> None:
    rmvpe = on_meta(lambda: RMVPE(config))
    mel = torch.zeros(1, frames, config.mels, device="meta")
    with FlopCounterMode(display=False) as counter:
        features = rmvpe.features(mel)
    matrices = sum(p.numel() for p in rmvpe.parameters() if p.ndim > 1)
    of_salience = sum(p.numel() for p in rmvpe.fc.parameters() if p.ndim > 1)
    work = closed_form.rmvpe_features_work(config, frames)
    assert work == (counter.get_total_flops(), matrices - of_salience + mel.numel() + features.numel())
    with FlopCounterMode(display=False) as counter:
        salience = rmvpe.salience(features)
    more = closed_form.rmvpe_salience_work(config, frames)
    assert more == (counter.get_total_flops(), of_salience + features.numel() + salience.numel())
    whole = closed_form.rmvpe_work(config, frames)
    assert whole == (work.flop + more.flop, matrices + mel.numel() + salience.numel())


def test_a_second_of_audio_is_seven_gigaflop() -> None:
    assert round(closed_form.rmvpe_work(RMVPEConfig(), 3200).flop / 32e9, 2) == 7.17
