"""What is written is read back; what is wrong in a file is one clear line, and no pickle runs."""

import json
import re
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.checkpoint_writing import save
from harness.errors import CheckpointError, UsageError
from subjects.rvc import checkpoint, weights
from subjects.rvc.layout import HUBERT, RMVPE
from subjects.rvc.plan import resolve
from subjects.rvc.request import request
from subjects.rvc.setup import Setup
from subjects.rvc.weights import NETWORKS, SYNTHESIZER, Synthetic

TINY = "synthetic-tiny"
CPU = torch.device("cpu")


class Runs:
    """A pickle of it would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return weights.write(Synthetic(TINY, "40k"), tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy to spoil."""
    copy = tmp_path / "model"
    for path in written.rglob("*.*"):
        place = copy / path.relative_to(written)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    return copy


def load(folder: Path, network: str = SYNTHESIZER) -> Any:
    setup = Setup.choose(str(folder), device="cpu")
    return weights.network(weights.open_source(setup), setup.configs, network, CPU, torch.float32)


def spoil(path: Path, change: Any) -> None:
    content = torch.load(path, weights_only=True)
    torch.save(change(content) or content, path)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_written_is_read_back(written, name):
    setup = Setup.choose(TINY, model="40k", device="cpu")
    assert Setup.choose(str(written), device="cpu").configs == setup.configs
    made = weights.network(weights.open_source(setup), setup.configs, name, CPU, torch.float32)
    read = load(written, name)
    held = dict(read.named_parameters())
    for parameter, value in made.named_parameters():
        assert torch.equal(value, held[parameter]), parameter


def test_what_training_begins_with_is_nowhere_in_made_up_weights():
    source = Synthetic(TINY, "48k")
    pitch, voice = source.weights(RMVPE), source.weights(SYNTHESIZER)
    for names, held in ((pitch.shapes(), pitch), (voice.shapes(), voice)):
        for name in names:
            if name.endswith(("running_mean", ".post.weight", "gamma", "beta")):
                value = held.read(name)
                assert value.numel() == 1 or value.float().std() > 0, name


def test_a_folder_of_something_else_is_not_overwritten(written, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="would be lost"):
        weights.write(Synthetic(TINY, "40k"), tmp_path)
    weights.write(Synthetic(TINY, "48k"), written)
    try:
        with pytest.raises(UsageError, match="more than one; use one of 40k, 48k"):
            Setup.choose(str(written), device="cpu")
        assert Setup.choose(str(written), model="48k", device="cpu").configs.synthesizer.hop == 480
    finally:
        (written / "48k.pth").unlink()


def test_other_forms_of_the_same_files_are_read(folder):
    before = dict(load(folder, RMVPE).named_parameters())

    def nested(content):
        counters = {"unet.encoder.bn.num_batches_tracked": torch.tensor(3), "unet.tf.x": torch.ones(2)}
        return {"model": OrderedDict(content) | counters}

    spoil(folder / "rmvpe.pt", nested)
    assert all(torch.equal(value, before[name]) for name, value in load(folder, RMVPE).named_parameters())
    (folder / "rmvpe.pt").unlink()
    source = Synthetic(TINY, "40k").weights(RMVPE)
    wide = weights.RandomWeights(
        source.where, source.shapes(), torch.float32, 0, weights.Law(source.shapes())
    )
    save(folder / "rmvpe.safetensors", wide, list(wide.shapes()))
    assert load(folder, RMVPE)

    def respelled(content):
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            for name in [name for name in content["weight"] if name.endswith(old)]:
                spelled = name.replace(old, f"parametrizations.weight.{new}")
                content["weight"][spelled] = content["weight"].pop(name)

    held = dict(load(folder).named_parameters())
    spoil(folder / "40k.pth", respelled)
    assert all(torch.equal(value, held[name]) for name, value in load(folder).named_parameters())


def change_config(place: int, value: Any) -> Any:
    return lambda content: content["config"].__setitem__(place, value)


def change_weight(name: str, value: Any) -> Any:
    return lambda content: content["weight"].__setitem__(name, value)


VOICES = {
    "no version": (lambda content: content.pop("version") and None, "version: 'v1' is not supported; use v2"),
    "no pitch": (lambda content: content.update(f0=0), "f0: 0 is not supported"),
    "pitch of no number": (
        lambda content: content.update(f0=torch.ones(2)),
        "f0: tensor.* is not supported; use 1",
    ),
    "a short config": (lambda content: content["config"].pop() and None, "config: must be a list of 18"),
    "no weights": (lambda content: content.update(weight=3), "weight: must be the tensors by name"),
    "another rate": (change_config(17, 44_100), "config: sr: 44100 is not allowed"),
    "rates of another hop": (change_config(12, [10, 10, 2, 4]), "upsample_rates: make 800 samples"),
    "rates that are odd": (
        change_config(12, [16, 5, 5, 1]),
        "upsample_rates: .* make odd numbers of samples",
    ),
    "rates of no number": (change_config(12, "10"), "config: upsample_rates: '10' is not allowed"),
    "a kernel too many": (change_config(14, [16, 16, 4]), "upsample_kernel_sizes: 3 for 4"),
    "no layers": (change_config(6, 0), "n_layers: 0 is not allowed"),
    "dilations that differ": (change_config(11, [[1, 3, 5], [1, 3, 5], [1, 2, 3]]), "must be one list"),
    "another width": (change_weight("enc_p.emb_phone.weight", torch.ones(16, 64)), "features of 64"),
    "a tensor over": (change_weight("enc_q.pre.weight", torch.ones(2)), "enc_q.pre.weight is not of this"),
    "no number": (change_weight("emb_g.weight", torch.full((4, 8), torch.nan)), "emb_g.weight has values"),
    "no tensor": (change_weight("emb_g.weight", [1.0]), "emb_g.weight is a list"),
    "another shape": (change_weight("dec.conv_pre.bias", torch.ones(3)), r"dec.conv_pre.bias is \(3,\)"),
}


@pytest.mark.parametrize("label", ["48k", 32_000, "", [40], torch.ones(2), 10**40])
def test_a_rate_that_the_networks_do_not_make_is_told_and_theirs_is_taken(folder, label):
    spoil(folder / "40k.pth", lambda content: content.update(sr=label))
    plan = resolve(request(1.0), Setup.choose(str(folder), device="cpu", strict=True))
    (note,) = [warning for warning in plan.warnings if warning.startswith("voice: ")]
    assert re.fullmatch(r"voice: sr of .*40k\.pth is .{2,60}; its networks make 40,000 Hz, .*", note)
    assert plan.sample_rate == 40_000


@pytest.mark.parametrize("label", ["40k", 40_000, "40000", None])
def test_a_rate_that_they_make_is_not(folder, label):
    spoil(folder / "40k.pth", lambda content: content.update(sr=label))
    assert not Setup.choose(str(folder), device="cpu").configs.notes


@pytest.mark.parametrize("name", VOICES)
def test_a_voice_that_is_wrong_is_one_line(folder, name):
    change, message = VOICES[name]
    spoil(folder / "40k.pth", change)
    with pytest.raises(CheckpointError, match=message) as raised:
        load(folder)
    assert "\n" not in str(raised.value) and "40k.pth" in str(raised.value)


def test_a_pickle_that_would_run_something_is_refused_and_does_not(folder, tmp_path):
    place = tmp_path / "ran"
    torch.save({"weight": {}, "config": Runs(place)}, folder / "40k.pth")
    with pytest.raises(CheckpointError, match=r"not read: it holds .*only tensors and plain values"):
        load(folder)
    assert not place.exists()
    torch.load(folder / "40k.pth", weights_only=False)
    assert place.exists()  # the control


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 broken", b"\x80\x04N.", b"not a pickle"])
def test_what_is_no_file_of_tensors_is_unreadable(folder, data):
    (folder / "rmvpe.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"rmvpe.pt: (unreadable|holds a NoneType)") as raised:
        checkpoint._rmvpe(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("conv_stride", [5, 2, 2, 2, 2, 2, 4], "a frame is 640 samples"),
        (
            "conv_kernel",
            [10, 3, 3, 3, 3, 2, 3],
            "conv_kernel: a frame is made of 560 samples; 400 are needed",
        ),
        ("feat_extract_norm", "layer", "feat_extract_norm: 'layer' is not allowed"),
        ("do_stable_layer_norm", True, "use false, HuBERT base"),
        ("hidden_size", 10**9, "hidden_size: 1000000000 is not allowed"),
        ("model_type", "wav2vec2", "model_type is 'wav2vec2'"),
    ],
)
def test_a_hubert_of_another_kind_is_one_line(folder, field, value, message):
    path = folder / HUBERT / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(CheckpointError, match=message):
        Setup.choose(str(folder), device="cpu")


def test_a_variance_below_zero_is_refused(folder):
    spoil(folder / "rmvpe.pt", lambda content: content["unet.encoder.bn.running_var"].fill_(-1) and None)
    with pytest.raises(CheckpointError, match="running_var is below zero"):
        load(folder, RMVPE)


def level(content, number: int) -> None:
    content[f"unet.encoder.layers.{number}.conv.0.conv.0.weight"] = torch.ones(1, 1, 1, 1)


def without(content, part: str) -> None:
    for name in [name for name in content if name.startswith(part)]:
        del content[name]


PITCH = {
    "too many levels": (
        lambda content: [level(content, number) for number in range(5, 8)] and None,
        "levels: 8 is not allowed; use a whole number from 1 to 7",
    ),
    "nothing between": (
        lambda content: without(content, "unet.intermediate."),
        "intermediate: 0 is not allowed",
    ),
    "too many blocks": (
        lambda content: content.update(
            {f"unet.encoder.layers.0.conv.{number}.x": torch.ones(1) for number in range(129)}
        ),
        "blocks: 129 is not allowed",
    ),
    "no first level": (
        lambda content: without(content, "unet.encoder.layers.0."),
        "is missing; is this another",
    ),
}


@pytest.mark.parametrize("name", PITCH)
def test_an_rmvpe_that_cannot_be_is_one_line(folder, name):
    change, message = PITCH[name]
    spoil(folder / "rmvpe.pt", change)
    with pytest.raises(CheckpointError, match=message) as raised:
        Setup.choose(str(folder), device="cpu")
    assert "\n" not in str(raised.value) and "rmvpe.pt" in str(raised.value)


def test_what_is_not_there_is_told_before_torch_is_needed(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "harness.pickled", None)  # whose import fails
    for gone in (folder / "40k.pth", folder / HUBERT / "config.json", folder / "rmvpe.pt"):
        content = gone.read_bytes()
        gone.unlink()
        with pytest.raises(CheckpointError, match="is the download complete"):
            Setup.choose(str(folder), device="cpu")
        gone.write_bytes(content)
    with pytest.raises(ImportError):  # the control
        Setup.choose(str(folder), device="cpu")
