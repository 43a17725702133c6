"""What a download lacks is refused before torch is imported, and a dry run refuses what a run would."""

import shutil

import pytest
from fresh import Answer, run_each
from roots import NEEDED, checkpoint, cut

from acestep.__main__ import main
from acestep.weights.layout import DEFAULT_DIT, LMS, TEXT_ENCODER, VAE, weights_stem

LM = LMS[1]
FILES = {
    DEFAULT_DIT: ("config.json", "model.safetensors", "silence_latent.pt"),
    VAE: ("config.json", "diffusion_pytorch_model.safetensors"),
    TEXT_ENCODER: ("config.json", "model.safetensors", "tokenizer.json"),
    LM: ("config.json", "model.safetensors", "tokenizer.json"),
}
DAMAGES = {
    **{f"no {folder}": (shutil.rmtree, folder) for folder in (*NEEDED, LM)},
    **{f"no {folder}/{name}": (lambda path: path.unlink(), f"{folder}/{name}")
       for folder, names in FILES.items() for name in names},
    **{f"half of {folder}": (cut, f"{folder}/{weights_stem(folder)}.safetensors") for folder in FILES},
    **{f"half of the configuration of {folder}": (cut, f"{folder}/config.json") for folder in FILES},
    **{f"half of what lies beside the weights of {folder}": (cut, f"{folder}/{names[2]}")
       for folder, names in FILES.items() if len(names) > 2},
}  # fmt: skip
SCRIPT = """
import sys
from acestep.__main__ import main
print(main({words!r} + ["--dry-run"]), main({words!r}), "torch" in sys.modules)
"""


def words(root) -> list[str]:
    return ["generate", "--source", str(root), "--device", "cpu", "--thinking", "--out", f"{root}-out"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, Answer]:
    """What a dry run and a run say to each damage."""
    scripts = []
    for damage, place in DAMAGES.values():
        root = checkpoint(tmp_path_factory.mktemp("roots") / "root", LM)
        damage(root / place)
        scripts.append(SCRIPT.format(words=words(root)))
    return dict(zip(DAMAGES, run_each(scripts, first="import acestep.__main__"), strict=True))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_and_its_dry_run_refuse_alike_before_torch(answers, damage):
    code, out, err = answers[damage]
    assert (code, out) == (0, "3 3 False\n")
    dry_run, run = err.splitlines()
    assert dry_run == run
    assert run.startswith("acestep: ") and "/root" in run


def test_the_control_is_whole(tmp_path, capsys):
    root = checkpoint(tmp_path / "root", LM)
    assert main([*words(root), "--dry-run"]) == 0
    assert f"lm                 {LM}" in capsys.readouterr().out
