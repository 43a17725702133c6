"""The longest stage of a run, why it is that, and the command that looks closer. No torch import."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.flags import one_spelling


class Bottleneck(NamedTuple):
    """The stage that took longest, what that means, and the command that looks closer."""

    stage: str
    sentence: str
    command: str


EXPLAINED = {
    "lm_prefill": ("the language model reads its prompts, all tokens at once", "--llm-debug"),
    "lm_decode": ("the language model writes token by token, and each reads every weight", "--llm-debug"),
    "diffuse": ("every step runs the whole DiT over every token", "--trace=trace.json"),
    "vae_decode": ("convolutions up to 48 kHz, over every sample", "--trace=trace.json"),
    "offload": ("models move between host and device", "--no-offload"),
}
AROUND = ("work around the large networks", "--detailed")


def bottleneck(stages_s: Mapping[str, float], argv: Sequence[str] = ()) -> Bottleneck:
    """Names the longest stage. `argv`: the flags of the run, which the next command repeats, with one that
    looks closer than they did, and contradicts none of them; with none where they all did.
    """
    stage = max(stages_s, key=lambda name: stages_s[name])
    why, flag = EXPLAINED.get(stage, AROUND)
    share = stages_s[stage] / (sum(stages_s.values()) or 1.0)
    flags = {one_spelling(argument.partition("=")[0]) for argument in argv}
    flags |= {f"--no-{known[2:]}" for known in flags}
    closer = [f for f in (flag, "--trace=trace.json", "--detailed") if f.partition("=")[0] not in flags]
    command = shlex.join(["python", "profile_inference.py", *argv, *closer[:1]])
    return Bottleneck(stage, f"{stage} takes {share:.0%} of the wall: {why}", command)
