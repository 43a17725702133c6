"""RVC measured: pitch, networks one by one, synthesis, whole conversions; each command says what it costs.

    python -m subjects.rvc rmvpe --quick --source synthetic-tiny
    python -m subjects.rvc components --component generator --duration 1
    python -m subjects.rvc e2e --source synthetic-tiny --audio examples/audio/sung.ogg
    python -m subjects.rvc convert examples/audio/sung.ogg --out converted
    python -m subjects.rvc costs --card h200

Exit codes: 0 done, 1 failed or does not fit, 2 usage, 3 something is missing, 4 a bug, 130 interrupted.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import sys
from collections.abc import Sequence
from pathlib import Path

from harness import card_flags, commands
from harness.commands import Add, Command
from harness.console import Parser, named
from harness.flags import number, whole
from subjects.rvc.config import RATES
from subjects.rvc.layout import DEFAULT_RATE, SYNTHETIC
from subjects.rvc.request import LENGTHS, PADDINGS

COMPONENTS = ("rmvpe", "hubert", "encoder", "flow", "generator")
ALL = "all"
TESTS = ("chunking", "chunking-simple", "pipeline", "parity", "weights")
DEVICES = "cpu, mps, cuda or cuda:N"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return commands.main("rvc", parser, argv, {"audio (argument)": "audio"})


def parser() -> Parser:
    """The commands and their flags."""
    each = (
        Command("rmvpe", "how long pitch takes, from 5 s to 5 min", _rmvpe, "bench.commands:rmvpe"),
        Command(
            "components",
            "networks by themselves, beside the ceiling",
            _components,
            "bench.commands:components",
        ),
        Command("full", "synthesis: text encoder, flow, generator", _full, "bench.commands:full"),
        Command(
            "audio-parity",
            "whole conversions of a recording, compared",
            _audio_parity,
            "bench.commands:audio_parity",
        ),
        Command("e2e", "a whole conversion in a fresh process", _e2e, "bench.commands:e2e"),
        Command("test", "what has to hold in PyTorch, with a control each", _test, "bench.commands:test"),
        Command("convert", "a recording in another voice, as a file", _convert, "generate:run"),
        Command("costs", "what it would cost on a card that is not here", _costs, "costs:run"),
        Command("write-checkpoint", "a folder of made-up weights", _write, "write_checkpoint:run"),
    )
    return commands.parser("subjects.rvc", "RVC, measured.", each)


def _engine(add: Add) -> None:
    """What is loaded."""
    add("--source", type=named, help=f"{', '.join(SYNTHETIC)} or the folder of a model (RVC_SOURCE)")
    add("--model", type=named, metavar="NAME", help=f"voice of it; made up: 48k, 40k, 32k ({DEFAULT_RATE})")
    add("--pt-model", dest="voice", type=Path, metavar="FILE", help="a voice's .pth instead")
    add("--strict", action="store_true", help="refuse what would not be done as it was asked for")


def _place(add: Add) -> None:
    add("--device", default="auto", metavar="NAME", help=f"{DEVICES} (auto)")
    add("--threads", type=whole, metavar="N", help="of a CPU (torch's choice)")


def _backends(add: Add) -> None:
    """What is loaded, where, by which backends, and where figures go."""
    _engine(add)
    _place(add)
    add("--pytorch-only", action="store_true", help="not MLX")
    add("--mlx-only", action="store_true", help="not PyTorch")
    add("--mlx-model", type=Path, metavar="FILE", help="the voice as MLX reads it (that of --pt-model)")
    add("--json", type=Path, metavar="FILE", help="the figures, as a JSON file")


def _repeated(add: Add, runs: int, what: str = "timed calls") -> None:
    add("--repeats", dest="runs", type=whole, default=runs, metavar="N", help=f"{what} (%(default)s)")


def _measured(add: Add, runs: int) -> None:
    """The same, and how often."""
    _backends(add)
    _repeated(add, runs)
    add("--no-warmup", action="store_true", help="no call before them: the first is the first")


def _rmvpe(add: Add) -> None:
    _measured(add, 3)
    add("--quick", action="store_true", help="5 and 30 s only")
    add("--duration", dest="duration_s", type=number, metavar="S", help="of one length instead")


def _components(add: Add) -> None:
    _measured(add, 5)
    add("--component", choices=(ALL, *COMPONENTS), default=ALL, help="(%(default)s)")
    add("--duration", dest="duration_s", type=number, default=5.0, metavar="S", help="(%(default)s)")


def _full(add: Add) -> None:
    _measured(add, 3)
    add("--duration", dest="duration_s", type=number, default=5.0, metavar="S", help="(%(default)s)")


def _audio_parity(add: Add) -> None:
    _measured(add, 3)
    _recording(add)
    add("--save-outputs", action="store_true", help="write what was made, to listen to")
    add("--out", dest="output_dir", type=Path, metavar="FOLDER", help="where (outputs)")


def _e2e(add: Add) -> None:
    _backends(add)
    _repeated(add, 1, "fresh processes of each backend")
    _recording(add)


def _recording(add: Add) -> None:
    add("--audio", type=named, metavar="FILE", help="a recording (a made-up voice)")
    add("--duration", dest="duration_s", type=number, metavar="S", help="of it (all; made up: 5 s)")
    _index(add)


def _index(add: Add) -> None:
    add("--index", type=named, metavar="FILE", help="features of the speaker: added_*.index, or .npy")


def _test(add: Add) -> None:
    _backends(add)
    add("which", choices=(ALL, *TESTS), nargs="?", default=ALL, help="(%(default)s)")
    add("--frames", type=whole, nargs="+", metavar="N", help="of 10 ms: lengths of the test chunking")


def _convert(add: Add) -> None:
    _engine(add)
    _place(add)
    add("audio", type=named, help="the recording")
    add("--out", type=Path, default=Path("outputs"), metavar="FOLDER", help="where files go (%(default)s)")
    add("--duration", dest="duration_s", type=number, metavar="S", help="seconds of it (all)")
    add("--transpose", type=number, metavar="N", help="semitones (0)")
    add("--speaker", type=whole, metavar="N", help="of the voice (0)")
    add("--seed", type=whole, help="of the noise (42)")
    add("--batch-size", type=whole, metavar="N", help="as often, with seeds that follow (1)")
    add("--length", choices=LENGTHS, help="of the result: the published pipeline's, or the input's")
    add("--interpolate-pitch", action="store_true", default=None, help="over frames without a voice")
    add("--mel-padding", choices=PADDINGS, help="of the log-mel's end (zero)")
    _index(add)
    add("--index-rate", type=number, metavar="X", help="how much of it, 0 to 1 (0.75)")
    add("--protect", type=number, metavar="X", help="how much of that in breath, 0 to 0.5 (0.33)")
    add("--rms-mix-rate", type=number, metavar="X", help="1: as loud as it comes, 0: as the input (0.25)")
    add("--resample", dest="resample_hz", type=whole, metavar="HZ", help="of the result (the voice's)")


def _costs(add: Add) -> None:
    _engine(add)
    card_flags.declare(add, 5.0)


def _write(add: Add) -> None:
    add("source", choices=SYNTHETIC)
    add("folder", type=Path, help="to create or complete")
    add("--model", choices=RATES, default=DEFAULT_RATE, help="(%(default)s)")
    add("--seed", type=whole, default=0, help="same seed, same bytes (%(default)s)")


if __name__ == "__main__":
    sys.exit(main())
