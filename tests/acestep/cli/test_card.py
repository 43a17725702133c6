"""`acestep` without arguments: what the card here is, for each size of the guide, and what to do next."""

import re
import shlex

import pytest

from acestep.__main__ import main
from acestep.cli import card
from acestep.setup import Setup
from harness import cards
from harness.accelerators import Accelerator, TorchBuild, torch_build
from tiersim.__main__ import arguments as tiersim_arguments

# Published: tier, seconds and batch with a language model and without, its sizes, offloaded, quantized.
GUIDE = {
    4: ("tier1", None, (180, 1), None, "every part is", "int8_weight_only"),
    6: ("tier2", None, (360, 1), None, "every part is", "int8_weight_only"),
    8: ("tier4", (240, 2), (360, 4), "0.6B; by default 0.6B", "every part is", "int8_weight_only"),
    12: ("tier5", (240, 2), (360, 4), "0.6B, 1.7B; by default 1.7B", "every part but", "int8_weight_only"),
    16: (
        "tier6a",
        (480, 4),
        (480, 8),
        "0.6B, 1.7B, 4B; by default 1.7B",
        "every part but",
        "int8_weight_only",
    ),
    24: ("unlimited", (600, 8), (600, 8), "0.6B, 1.7B, 4B; by default 4B", "every part stays", "nothing"),
}


@pytest.fixture
def page(monkeypatch, capsys):
    """A function that gives the page's facts by name, and its commands, on a machine with `size_gb`."""

    def read(size_gb=None, words=(), code=0):
        monkeypatch.delenv("UV", raising=False)
        monkeypatch.setattr("sys.argv", ["/venv/bin/acestep"])
        if size_gb is not None:
            monkeypatch.setenv("MAX_CUDA_VRAM", str(size_gb))
        assert main(words) == code
        facts, _, commands = capsys.readouterr().out.partition("\nnext\n")
        lines = re.findall(r"^(.{10})(.+)$", facts, re.MULTILINE)
        return {name.strip(): text for name, text in lines}, re.findall("^  (.+?)   ", commands, re.M)

    return read


@pytest.mark.parametrize("size_gb", GUIDE)
def test_a_simulated_card_has_the_limits_of_the_guide(page, size_gb):
    tier, with_lm, without, sizes, offload, quantized = GUIDE[size_gb]
    facts, _ = page(size_gb)
    assert facts["card"].endswith(f"{size_gb}.00 GiB (MAX_CUDA_VRAM) → {cards.of_size(size_gb)}, {tier}")
    assert "MAX_CUDA_VRAM says the memory" in facts["detected"]
    if with_lm:
        assert facts["limits"] == "with LM {} s of audio, batch {}".format(*with_lm)
        assert facts[""] == "without {} s of audio, batch {}".format(*without)
        assert facts["LM"].startswith(sizes)
    else:
        assert facts["limits"] == "{} s of audio, batch {}".format(*without)
        assert facts["LM"].startswith("none")
    assert facts["defaults"].startswith(offload) and quantized in facts["defaults"]


@pytest.mark.parametrize(
    ("size_gb", "words"),
    [(8, "none: of an XL"), (12, "every part but the DiT is on the host until used; the DiT in int8"),
     (16, "every part but the DiT is on the host until used; nothing is quantized"),
     (24, "every part stays on card; nothing is quantized")],
)  # fmt: skip
def test_what_a_tier_does_with_xl(page, size_gb, words):
    assert page(size_gb)[0]["XL"].startswith(words)


@pytest.mark.parametrize("words", [[], ["card", "--policy", "upstream-2026"]])
@pytest.mark.parametrize("size_gb", [4, 8, 24])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(size_gb, words, monkeypatch, capsys):
    monkeypatch.setenv("MAX_CUDA_VRAM", str(size_gb))
    pages = []
    for columns in (80, 1000):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(words) == 0
        pages.append(capsys.readouterr().out)
    narrow, wide = ([line for line in page.splitlines() if line] for page in pages)
    facts = [line for line in narrow if not line.startswith("  MAX_CUDA_VRAM")]  # a command stays a line
    assert max(map(len, facts)) <= 80 < max(map(len, wide))
    assert "".join(narrow).replace(" ", "") == "".join(wide).replace(" ", "")


def test_the_page_by_another_policy(page):
    facts, commands = page(8, ["card", "--policy", "upstream-2026"])
    assert facts["card"].endswith("8 GB (RTX 4060), tier3 of upstream-2026")
    assert facts["limits"] == "with LM 480 s of audio, batch 2" and "loaded only" not in facts["LM"]
    assert len(commands) == 3 and all(command.endswith(" --policy upstream-2026") for command in commands)
    assert page(8, ["card"]) == page(8)  # the guides', as without a word


@pytest.mark.parametrize("size_gb", [None, *GUIDE])
def test_the_next_commands_are_commands(page, capsys, monkeypatch, size_gb):
    _, commands = page(size_gb)
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command)
        while "=" in words[0]:
            assert words.pop(0) == f"MAX_CUDA_VRAM={size_gb}"
        assert words[0] in ("acestep", "tiersim")
        if words[0] == "tiersim":
            tiersim_arguments().parse_args(words[1:])
        else:
            dry = [] if "--dry-run" in words else ["--dry-run"]
            assert main([*words[1:], *dry, "--source", "synthetic-tiny", "--no-thinking"]) == 0


@pytest.mark.parametrize(
    ("program", "uv", "start"),
    [
        ("/venv/bin/acestep", None, "acestep generate"),
        ("/project/acestep/__main__.py", None, "python -m acestep generate"),
        ("/venv/bin/acestep", "/usr/bin/uv", "uv run acestep generate"),
    ],
)
def test_the_next_commands_are_spelled_as_this_one_was(monkeypatch, program, uv, start):
    monkeypatch.setattr("sys.argv", [program])
    monkeypatch.delenv("UV", raising=False)
    if uv:
        monkeypatch.setenv("UV", uv)
    assert next(iter(card._next(Accelerator("cpu", "CPU", 16.0)))).startswith(start)


@pytest.mark.parametrize(
    ("there", "build", "words"),
    [
        (Accelerator("cuda", "RTX 4060", 7.66), TorchBuild("2.13.0", "13.0"), "2.13.0, built for CUDA 13.0"),
        (Accelerator("cuda", "RTX 4060", 7.66), TorchBuild("2.13.0+cpu", None), "this card needs it"),
        (Accelerator("cpu", "CPU", 16.0), TorchBuild("2.13.0+cpu", None), "2.13.0+cpu, not built for CUDA"),
        (Accelerator("mps", "Apple silicon", 12.0), None, "not installed"),
    ],
)
def test_what_was_detected_and_by_whom(page, monkeypatch, there, build, words):
    monkeypatch.setattr("harness.accelerators.detect", lambda device: there)
    monkeypatch.setattr(card, "torch_build", lambda: build)
    facts, _ = page()
    assert there.name in facts["card"] and words in facts["torch"]
    assert {"cuda": "NVIDIA driver, which", "cpu": "shows no card", "mps": "Apple"}[there.device] in facts[
        "detected"
    ]
    assert ("tier" in facts) == (there.device == "cpu")


def test_the_build_of_torch_is_what_torch_says():
    import torch

    assert torch_build() == (torch.__version__, torch.version.cuda)


def test_a_size_that_is_none_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("MAX_CUDA_VRAM", "much")
    assert main(()) == 2
    assert "MAX_CUDA_VRAM: 'much' is not allowed" in capsys.readouterr().err


def test_a_hidden_card_is_told(page, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("harness.accelerators.detect", lambda device: Accelerator("cpu", "CPU", 16.0))
    assert "CUDA_VISIBLE_DEVICES=" in page()[0]["detected"]


def test_the_setup_of_the_page_is_that_of_a_run(page):
    facts, _ = page(8)
    setup = Setup.choose("synthetic-tiny", want_lm=True)
    assert f"{setup.lm_backend} runs the LM" in facts["here"]
