"""What every benchmark class must have, found the way asv finds them."""

import json
import math
import re
import subprocess
import sys

import pages
import pytest
from places import ROOT

from benchmarks import (
    cold,
    costs,
    dit,
    generate,
    lm,
    memory,
    micro,
    parity,
    qwen3_tts,
    rvc,
    scaling,
    streaming,
    tasks,
    vae,
    waits,
)
from scripts.gate.suites import UNGATED

CLASSES = [
    dit.TimeDiT,
    dit.TimeCompiledDiT,
    lm.TimeLMPlanning,
    lm.TrackTokensPerSec,
    vae.TimeVAEDecode,
    generate.TimeGenerate,
    generate.TimeGeneratePreset,
    generate.TrackStages,
    memory.PeakMemTier,
    memory.PeakMemTierXL,
    memory.TrackTierBoundary,
    memory.TrackTierBoundaryXL,
    lm.TimeTextMode,
    lm.TrackTextStages,
    tasks.TimeTask,
    tasks.TrackTaskStages,
    tasks.TimeSolver,
    parity.TrackParity,
    parity.TrackTokenParity,
    cold.TrackColdStart,
    costs.TrackCost,
    costs.TrackPredictedPeak,
    costs.TrackPredictedPeakXL,
    costs.TrackCostSpeech,
    costs.TrackPredictedPeakSpeech,
    costs.TrackCostRVC,
    costs.TrackPredictedPeakRVC,
    waits.TrackWaits,
    micro.TimeSampling,
    micro.TimeTokenMask,
    micro.TimeCodes,
    micro.TimeResample,
    micro.TimeMel,
    micro.TimeSpan,
    scaling.TrackScaling,
    streaming.TrackFirstAudio,
    qwen3_tts.TimeSpeech,
    qwen3_tts.TrackSpeechStages,
    qwen3_tts.TrackSpeechTokens,
    qwen3_tts.TrackFirstSpeech,
    qwen3_tts.TimeSpeechNetwork,
    qwen3_tts.PeakMemSpeech,
    rvc.TimeConversion,
    rvc.TrackConversionStages,
    rvc.TimeRMVPE,
    rvc.TimeHuBERT,
    rvc.TimeSynthesis,
    rvc.TrackRVCScaling,
    rvc.TrackRVCParity,
    rvc.TrackPitchAccuracy,
    rvc.TrackRVCColdStart,
    rvc.PeakMemConversion,
]
DISCOVER = """
import json, sys
from asv_runner._aux import update_sys_path
from asv_runner.discovery import disc_benchmarks
update_sys_path(sys.argv[1])
benchmarks = disc_benchmarks(sys.argv[1])
found = [(b.name, b.unit, b.version, b.func.less_is_better, b.setup_cache_key) for b in benchmarks]
print(json.dumps([found, "torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def discovered():
    command = [sys.executable, "-P", "-c", DISCOVER, str(ROOT / "benchmarks")]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout)


def test_asv_finds_these_classes_and_nothing_else(discovered):
    assert {name.split(".")[1] for name, *_ in discovered[0]} == {cls.__name__ for cls in CLASSES}


def test_no_benchmark_module_imports_torch(discovered):
    assert discovered[1] is False


def test_one_worker_serves_all_timed_classes(discovered):
    caches = {name.split(".")[1]: cache for name, *_, cache in discovered[0]}
    of_tiers = ("PeakMemTier", "PeakMemTierXL", "TrackTierBoundary", "TrackTierBoundaryXL")
    memory = {caches.pop(name) for name in of_tiers}
    cold = {caches.pop("TrackColdStart")}
    of_card = [cls.__name__ for cls in CLASSES if issubclass(cls, costs._Predicted)]
    predicted = {caches.pop(name) for name in of_card}
    functions = {caches.pop(cls.__name__) for cls in CLASSES if issubclass(cls, micro._Micro)}
    speech = {caches.pop(cls.__name__) for cls in CLASSES if issubclass(cls, qwen3_tts._Speech)}
    conversion = {caches.pop(cls.__name__) for cls in CLASSES if issubclass(cls, rvc._Conversion)}
    footprints = [{caches.pop(name)} for name in ("PeakMemSpeech", "PeakMemConversion")]
    alone = (memory, cold, predicted, functions, speech, conversion, *footprints, {*caches.values()})
    assert {len(one) for one in alone} == {1} and len(set().union(*alone)) == len(alone)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_version_is_set_by_hand(cls, discovered):
    assert re.fullmatch(rf"\d+(, torch {costs.TORCH})?", cls.__dict__["version"])
    assert (", torch" in cls.version) == issubclass(cls, costs._Predicted)
    assert {version for name, _, version, *_ in discovered[0] if f".{cls.__name__}." in name} == {cls.version}


def test_what_two_classes_read_alike_is_one_method():
    owners = {}
    for owner in dict.fromkeys(owner for cls in CLASSES for owner in cls.__mro__):
        for name, method in vars(owner).items():
            if name.startswith("track_"):
                alike = owners.setdefault((name, method.unit, *read_by(method.__code__)), [])
                alike.append(f"{owner.__name__}.{name}")
    assert [alike for alike in owners.values() if len(alike) > 1] == []


def test_of_two_methods_it_tells_whether_they_read_alike():
    class Again:
        def track_wall(self, *_):
            return self.wall()

        def track_other(self, *_):
            return self.stage("wall")

    same, other = (read_by(method.__code__) for method in (Again.track_wall, Again.track_other))
    assert same == read_by(generate.TimeGenerate.track_wall.__code__) != other


def read_by(code):
    """What a function does, whatever it is called and wherever it stands; its docstring is not read."""
    values = code.co_consts[code.co_name != "<genexpr>" :]
    inner = tuple(read_by(one) if hasattr(one, "co_code") else one for one in values)
    return code.co_code, code.co_names, inner


def test_nothing_that_gates_grows_when_it_gets_better(discovered):
    for name, unit, _, less_is_better, _ in discovered[0]:
        gated = not re.search(UNGATED, name)
        is_rate = unit.endswith("/s")
        assert less_is_better is not is_rate, name
        assert not (gated and is_rate), name


def test_every_rate_has_a_twin_that_gates(discovered):
    names = {name for name, *_ in discovered[0]}
    rates = {name for name in names if name.endswith("_rate")}
    assert rates and {name.replace("_rate", "_ms") for name in rates} <= names


def test_the_command_that_compares_two_commits_gives_samples_enough(inside):
    (rounds,) = re.findall(r"asv continuous .*-a rounds=(\d+) ", pages.text("docs/measuring.md"))
    samples = int(rounds) * inside.commit.REPEATS
    assert samples >= 10 and 2 / math.comb(2 * samples, samples) < 0.002  # what asv's own test admits
