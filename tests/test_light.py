"""What answers at once imports nothing heavy: help of every entry point, and what only decides or reads."""

import pytest
from fresh import Answer, run_each
from places import ROOT, ZOO

# A way in, or a use of what is to stay light, and what it may not import.
TORCH = ("torch", "numpy")
HELP = (*TORCH, "rich", "msgspec", "pynvml", "soundfile", "tokenizers")
SCRIPT = """
import runpy, sys
sys.argv[1:] = ["--help"]
runpy.run_path("profile_inference.py", run_name="__main__")
"""
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__"): text
    for path in sorted((ROOT / "scripts").rglob("*.py"))
    if '__name__ == "__main__"' in (text := path.read_text("utf-8"))
}
COMMANDS = [name for name, text in MODULES.items() if "Parser(" in text]
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
    **{
        f"{name} --help": (
            f"import runpy, sys; sys.argv[1:] = ['--help']\nrunpy.run_module({name!r}, run_name='__main__')",
            (*HELP, "asv"),
        )
        for name in COMMANDS
    },
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
# Commands that cannot be run, and the exit codes that they end with.
RVC, TTS, HERE = "subjects.rvc", "subjects.qwen3_tts", "--source synthetic-tiny"
REFUSED = {
    **{
        f"{RVC} {command} {HERE} {flags}": code
        for command in ("rmvpe", "components", "full", "audio-parity", "e2e", "test")
        for flags, code in (
            ("--runs 0", 2),
            ("--device cuda:99", 3),
            ("--json /nowhere/a.json", 2),
            ("--mlx-only", 2 if command == "test" else 3),
        )
    },
    f"{RVC} full {HERE} --threads 0": 2,
    f"{RVC} full {HERE} --pytorch-only --mlx-only": 2,
    f"{RVC} full {HERE} --device tpu": 2,
    f"{RVC} full {HERE} --model 44k": 2,
    f"{RVC} components {HERE} --component vae": 2,
    f"{RVC} components {HERE} --duration 0": 2,
    f"{RVC} rmvpe {HERE} --quick --duration 1": 2,
    f"{RVC} rmvpe {HERE} --duration 0.01": 2,
    f"{RVC} full {HERE} --duration 1e9": 2,
    f"{RVC} full --source /nowhere": 3,
    f"{RVC} full {HERE} --pt-model /nowhere.pth": 3,
    f"{RVC} audio-parity {HERE} --audio /nowhere.wav": 3,
    f"{RVC} audio-parity {HERE} --output-dir a": 2,
    f"{RVC} audio-parity {HERE} --save-outputs --output-dir /dev/null/a": 3,
    f"{RVC} e2e {HERE} --audio /nowhere.wav": 3,
    f"{RVC} test {HERE} --frames 0": 2,
    f"{RVC} convert examples/audio/sung.ogg {HERE} --threads 0": 2,
    f"{RVC} convert examples/audio/sung.ogg {HERE} --out /dev/null/a": 3,
    f"{RVC} convert examples/audio/sung.ogg {HERE} --speaker 99": 2,
    f"{RVC} write-checkpoint synthetic-tiny docs": 2,
    f"{RVC} write-checkpoint synthetic-tiny /dev/null/a": 3,
    f"{RVC} write-checkpoint synthetic-tiny a --seed -1": 2,
    f"{TTS} bench {HERE} --iterations 0": 2,
    f"{TTS} bench {HERE} --device cuda:99": 3,
    f"{TTS} bench {HERE} --chunk 2": 2,
    f"{TTS} bench {HERE} --benchmark-output docs/rvc.md": 2,
    f"{TTS} generate {HERE}": 2,
    f"{TTS} generate hi {HERE} --threads 0": 2,
    f"{TTS} write-checkpoint synthetic-tiny docs": 2,
    f"{TTS} write-checkpoint synthetic-tiny /dev/null/a": 3,
    f"{TTS} write-checkpoint synthetic-tiny a --seed -1": 2,
}
READY = """
import subjects.qwen3_tts.__main__, subjects.qwen3_tts.bench
import subjects.rvc.__main__, subjects.rvc.bench.commands
from subjects.rvc.backends import mlx_process
mlx_process.absent = lambda: "mlx is not installed"
"""
REPORT = """
import sys
try:
    exec({code!r}, {{"__name__": "__main__"}})
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *sorted({modules!r} & sys.modules.keys()))
"""
COMMAND = """
import sys
from {module}.__main__ import main
code = main({words!r})
print("imported:", *sorted({{"torch"}} & sys.modules.keys()))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, Answer]:
    rows = LIGHT | {"the control": (CONTROL, ("torch",))}
    programs = [REPORT.format(code=code, modules=set(modules)) for code, modules in rows.values()]
    return dict(zip(rows, run_each(programs), strict=True))


@pytest.fixture(scope="module")
def refusals() -> dict[str, Answer]:
    programs = []
    for command in REFUSED:
        module, *words = command.split()
        programs.append(COMMAND.format(module=module, words=words))
    return dict(zip(REFUSED, run_each(programs, READY), strict=True))


@pytest.mark.parametrize("command", REFUSED)
def test_what_cannot_be_run_is_refused_before_torch(refusals, command):
    code, out, err = refusals[command]
    lines = [line for line in err.splitlines() if "warning: " not in line]
    assert (code, len(lines)) == (REFUSED[command], 1), err
    assert out.splitlines()[-1] == "imported:"


@pytest.mark.parametrize("name", LIGHT)
def test_nothing_heavy_is_imported(answers, name):
    code, out, err = answers[name]
    assert code == 0, err
    assert out.splitlines()[-1] == "imported:"
    assert "--help" not in name or out.startswith("usage: ")


def test_what_has_no_help_is_started_by_a_program():
    """asv, make, a workflow, or another of them; whoever types a command has its flags explained."""
    programs = ["asv_lifeline", "gate.comment", "gpu.worker"]
    assert [name for name in MODULES if name not in COMMANDS] == [f"scripts.{name}" for name in programs]


def test_the_control_imports_torch(answers):
    assert answers["the control"].out.splitlines()[-1] == "imported: torch"
