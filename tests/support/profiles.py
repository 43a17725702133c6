"""Records to test with."""

from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from harness.adjustments import Adjustment
from harness.records.machine import GPU, Machine
from harness.records.schema import AudioFacts, Header, Item, Sample, key_of

CARD = GPU(name="RTX 4060", uuid="GPU-1", total_bytes=8 * 2**30, driver="580.65", temperature_c=40)
MACHINE = Machine(cpu="AMD EPYC", logical_cores=2, gpus=(CARD,), environment={"MAX_CUDA_VRAM": "8"})


def header(**changes: Any) -> Header:
    header = Header(
        id="1",
        started_utc=datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
        argv=("profile_inference.py", "--mode", "benchmark"),
        mode="benchmark",
        commit="c0ffee",
        dirty=False,
        package_version="0.1.0",
        machine=MACHINE,
        source="synthetic-tiny",
        source_origin="default",
        dit="acestep-v15-turbo",
        lm="acestep-5Hz-lm-0.6B",
        lm_backend="pt",
        device="cpu",
        origins={"duration": "flag"},
        versions={"torch": "2.13.0"},
    )
    return replace(header, **changes)


def sample(wall_s: float, **more: Any) -> Sample:
    stages_s = {"lm_prefill": 0.25, "lm_decode": 0.5, "diffuse": 1.0, "vae_decode": 0.5}
    return Sample(wall_s=wall_s, stages_s=stages_s | {"other": wall_s - 2.25}, **more)


def item(duration: float = 30.0, **changes: Any) -> Item:
    requested = {"duration": duration, "batch_size": 2, "thinking": True, "inference_steps": 8}
    item = Item(
        key=key_of("benchmark", requested),
        mode="benchmark",
        requested=requested,
        effective={"duration_s": duration, "times": [1.0, 0.5]},
        adjustments=(Adjustment("batch_size", 4, 2, "is over the limit of tier4"),),
        status="ok",
        samples=(sample(3.0), sample(2.5), sample(4.0)),
        counts={"audio_s": duration, "dit_steps": 8},
        memory_bytes={"rss": 10, "reserved": 20},
        audio=AudioFacts(items=2, audio_s=duration, peak=0.9, rms=0.1, silent=0),
        rtf=0.1,
    )
    return replace(item, **changes)
