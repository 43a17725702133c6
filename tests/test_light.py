"""What answers at once imports nothing heavy: help of every entry point, and what only decides or reads."""

import pytest
from fresh import Answer, run_each
from places import ZOO

# A way in, or a use of what is to stay light, and what it may not import.
TORCH = ("torch", "numpy")
HELP = (*TORCH, "rich", "msgspec", "pynvml", "soundfile", "tokenizers")
SCRIPT = """
import runpy, sys
sys.argv[1:] = ["--help"]
runpy.run_path("profile_inference.py", run_name="__main__")
"""
LIGHT = {
    "acestep, of the card": ("from acestep.__main__ import main; main([])", TORCH),
    "acestep --help": ("from acestep.__main__ import main; main(['--help'])", HELP),
    "acestep generate --help": ("from acestep.__main__ import main; main(['generate', '--help'])", HELP),
    "acestep fits --help": ("from acestep.__main__ import main; main(['fits', '--help'])", HELP),
    "acestep fits, refused": (
        "from acestep.__main__ import main; assert main(['fits', 'rtx9999']) == 2\n"
        "assert main(['fits', '8', '--duration', '900']) == 2",
        TORCH,
    ),
    "acestep.costs --help": (
        "from acestep.costs.__main__ import main; main(['--help'])",
        (*HELP, "acestep.costs.command"),
    ),
    "subjects.qwen3_tts --help": (
        "from subjects.qwen3_tts.__main__ import main; main(['--help'])",
        (*HELP, "subjects.qwen3_tts.bench"),
    ),
    "subjects.qwen3_tts bench --help": (
        "from subjects.qwen3_tts.__main__ import main; main(['bench', '--help'])",
        HELP,
    ),
    "subjects.rvc --help": (
        "from subjects.rvc.__main__ import main; main(['--help'])",
        (*HELP, "subjects.rvc.bench"),
    ),
    "subjects.rvc components --help": (
        "from subjects.rvc.__main__ import main; main(['components', '--help'])",
        HELP,
    ),
    "rvc, resolved": (
        "from subjects.rvc.subject import SUBJECT as s\n"
        "s.resolve(s.request(), s.setup('synthetic-full', device='cpu', model='40k'))",
        ("torch", "soundfile"),
    ),
    "qwen3_tts, resolved": (
        "from subjects.qwen3_tts.subject import SUBJECT as s\n"
        "s.resolve(s.request(), s.setup('synthetic-full', device='cpu', model='1.7B-VoiceDesign'))",
        ("torch", "tokenizers"),
    ),
    "tiersim --help": ("from tiersim.__main__ import main; main(['--help'])", HELP),
    "scripts.gpu --help": ("from scripts.gpu.__main__ import main; main(['--help'])", HELP),
    "scripts.gpu --dry-run": ("from scripts.gpu.__main__ import main; main(['--dry-run'])", TORCH),
    "calibrations": (
        "import harness.cards as c, harness.trace.calibration as k; k.find(c.cards()[0])",
        TORCH,
    ),
    "profile_inference.py --help": (SCRIPT, (*HELP, "tiersim")),
    "acestep": ("import acestep", HELP),
    "gpu_config": ("import acestep.gpu_config, harness.accelerators as a; a.detect()", ("torch",)),
    "memory": (
        "import harness.memory as m, harness.tiling, acestep.audio.tile_size as t\n"
        "m.MemoryBudget('cpu'); t.vae_overrides(); m.hand_back()",
        ("torch",),
    ),
    "cards": ("import harness.cards as c; c.cards()", ("torch",)),
    "streaming": ("import harness.streaming as s; s.Arrivals((1.0,), (1.0,)).silences_s", ("torch",)),
    "records": ("import harness.records.writer", TORCH),
    "allocator": ("import harness.trace.allocator", ("torch",)),
    "quantization": (
        "from harness.quantization import QUANTIZATIONS, unavailable\n"
        "[unavailable(n, d) for n in QUANTIZATIONS for d in ('cpu', 'cuda:0', 'mps')]",
        ("torch", "torchao"),
    ),
    "resolver": (
        "from acestep import resolver as r; from acestep.setup import Setup\n"
        "from acestep.request import GenerationConfig, GenerationParams\n"
        "r.resolve(GenerationParams(), GenerationConfig(), Setup.choose('synthetic-full', device='cpu'))",
        ("torch",),
    ),
    "a recording": (
        "from acestep import resolver as r; from acestep.setup import Setup\n"
        "r.resolve_recording('examples/audio/loop.flac', Setup.choose('synthetic-tiny', device='cpu'))",
        ("torch", "soxr"),
    ),
    "files": ("import acestep.audio.files", ("torch", "numpy", "soundfile", "soxr")),
    "probe": ("import acestep.audio.files as f; f.probe('examples/audio/loop.flac', 'f')", ("torch",)),
    "formats": ("import acestep.audio.writing as w; [w.unavailable(n) for n in w.FORMATS]", ("torch", "av")),
    "tables": ("import acestep.profiler.tables, acestep.profiler.devices", ("torch",)),
    "sources": (
        "from acestep.weights.layout import DITS\n"
        "from acestep.weights.sources import choose_dit, dit_config\n"
        "full = 'synthetic-full'\n"
        "assert sum(dit_config(full, choose_dit(full, d)).is_xl for d in DITS) == 3",
        ("torch",),
    ),
    "a supervised case": (
        "import sys, tiersim.command; from tiersim import Case, run_case\n"
        f"run = run_case(Case(8, lm=True, device='cpu'), worker=(sys.executable, {str(ZOO)!r}, 'ok'))\n"
        "assert run.status == 'ok', run",
        ("torch",),
    ),
}
CONTROL = "import acestep.engine"
REPORT = """
import sys
try:
    exec({code!r}, {{"__name__": "__main__"}})
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *sorted({modules!r} & sys.modules.keys()))
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, Answer]:
    rows = LIGHT | {"the control": (CONTROL, ("torch",))}
    programs = [REPORT.format(code=code, modules=set(modules)) for code, modules in rows.values()]
    return dict(zip(rows, run_each(programs), strict=True))


@pytest.mark.parametrize("name", LIGHT)
def test_nothing_heavy_is_imported(answers, name):
    code, out, err = answers[name]
    assert code == 0, err
    assert out.splitlines()[-1] == "imported:"
    assert "--help" not in name or out.startswith("usage: ")


def test_the_control_imports_torch(answers):
    assert answers["the control"].out.splitlines()[-1] == "imported: torch"
