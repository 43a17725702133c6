"""Made-up weights have the published names and shapes and are read back; what is wrong is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.errors import CheckpointError, UsageError
from harness.nn.islands import islands
from subjects.qwen3_tts import checkpoint, weights
from subjects.qwen3_tts.layout import CODEC, FULL, TINY, VARIANTS
from subjects.qwen3_tts.weights import Folder, Synthetic

CPU = torch.device("cpu")
MODEL = "0.6B-Base"
# Of the published files: tensors and parameters of model.safetensors, and of the codec's decoder.
PUBLISHED = {
    "0.6B-Base": (478, 914_643_008),
    "0.6B-CustomVoice": (402, 905_788_672),
    "1.7B-Base": (480, 1_928_677_440),
    "1.7B-CustomVoice": (404, 1_916_676_352),
    "1.7B-VoiceDesign": (404, 1_916_676_352),
}
DECODER = (271, 114_323_137)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return weights.write(Synthetic(TINY, MODEL), tmp_path_factory.mktemp("written") / "model")


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy of the written folder, to be spoiled."""
    return shutil.copytree(written, tmp_path / "model")


def size(shapes) -> tuple[int, int]:
    return len(shapes), sum(torch.Size(shape).numel() for shape in shapes.values())


@pytest.mark.parametrize("model", VARIANTS)
def test_names_and_shapes_are_as_many_as_published(model):
    source = Synthetic(FULL, model)
    assert size(source.model().shapes()) == PUBLISHED[model]
    assert size(source.codec().shapes()) == DECODER
    assert source.model().dtype == torch.bfloat16 and source.codec().dtype == torch.float32


def load(source: weights.Source, model: str = MODEL) -> weights.Networks:
    configs = checkpoint.read(TINY, model)
    return weights.load(source, configs, CPU, torch.float32)


def test_a_written_folder_is_read_back_as_it_was_drawn(written):
    configs = checkpoint.read(str(written))
    assert configs == checkpoint.read(TINY, MODEL)
    drawn, read = load(Synthetic(TINY, MODEL)), load(Folder(written))
    for (name, one), (_, other) in zip(drawn.modules(), read.modules(), strict=True):
        pairs = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for (_, a), b in pairs), name
    assert not torch.equal(
        drawn.talker.codec_head.weight, load(Synthetic(TINY, MODEL, seed=1)).talker.codec_head.weight
    )
    assert not list(islands(drawn.decoder, torch.float32))


def test_the_same_folder_may_be_written_again_and_another_may_not(written):
    before = (written / "model.safetensors").read_bytes()
    weights.write(Synthetic(TINY, MODEL), written)
    assert (written / "model.safetensors").read_bytes() == before
    with pytest.raises(UsageError, match="holds another checkpoint"):
        weights.write(Synthetic(TINY, "1.7B-Base"), written)


def spoil(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_the_codecs_encoder_is_let_be_and_nothing_else(folder):
    codec = folder / CODEC / "model.safetensors"
    spoil(codec, lambda tensors: tensors.update({"encoder.layers.0.conv.weight": torch.zeros(2)}))
    load(Folder(folder))
    spoil(codec, lambda tensors: tensors.update({"decoder.more": torch.zeros(2)}))
    with pytest.raises(CheckpointError, match=r"decoder\.more is not of this architecture"):
        load(Folder(folder))


WRONG = {
    "a bias is missing": ("talker.text_projection.linear_fc1.bias", None, "missing"),
    "another width": ("talker.code_predictor.lm_head.3.weight", torch.zeros(2048, 65), r"expected \(2048"),
    "one too many": ("talker.code_predictor.lm_head.15.weight", torch.zeros(2), "not of this architecture"),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_architecture_is_refused(folder, name):
    tensor, value, message = WRONG[name]

    def change(tensors: dict) -> None:
        tensors.pop(tensor, None)
        if value is not None:
            tensors[tensor] = value

    spoil(folder / "model.safetensors", change)
    with pytest.raises(CheckpointError, match=message):
        load(Folder(folder))


def test_a_file_that_is_cut_short_is_known_before_it_is_read(folder):
    model = folder / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="download it again"):
        checkpoint.read(str(folder))
    config = json.loads((folder / "config.json").read_text())
    assert checkpoint.read(TINY, MODEL).kind == config["tts_model_type"]
