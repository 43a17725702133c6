"""A subject's command that makes audio files of a request. torch waits until the plan is known."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from harness import console
from harness.files import folder_for_audio
from harness.progress import Part, following
from harness.text import harmless


def run(options: argparse.Namespace, subject: Any, plan: Any, doing: str, parts: Sequence[Part]) -> int:
    """Run a plan into the folder --out; returns the exit code: 0 done, 1 what came is not what it should be.

    `subject`: one of `harness.subject.Folder`; `doing`: what is shown while its `parts` run.
    Raises BenchError.
    """
    folder = folder_for_audio("--out", options.out)
    console.warn(subject.name, plan.warnings)
    with following("loading", parts) as progress:
        engine = subject.load(plan.setup, threads=options.threads)
        progress.begin(doing)
        result = engine.run(plan, folder)
    for audio in result.audios:
        print(harmless(f"{audio.length_s:.2f} s, seed {audio.seed}: {audio.path}"))
    rates = f"rtf {result.rtf:.3f} (wall over audio), {result.x_realtime:.2f}x real time"
    print(f"wall {result.wall_s:.2f} s, {rates}")
    if problem := subject.check(result, plan):
        console.say(subject.name, problem)
        return 1
    return 0
