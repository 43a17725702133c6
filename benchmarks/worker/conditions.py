"""What else the machine did while a cell was measured. Part of the worker; None is what the platform does not
tell, never zero.

A time taken beside other work, on a hot processor, or within a quota that was used up, is another machine's.
Counters are read before and after: what lies between them happened meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

CPUS = Path("/sys/devices/system/cpu")
QUOTA = Path("/sys/fs/cgroup/cpu.stat")
# NVML's reasons for clocks below those asked for: too hot, told by hardware or driver, or short of power.
SLOWED = 0x08 | 0x20 | 0x40 | 0x80


class Reading(NamedTuple):
    """Counters since some moment of the past, all of them rising."""

    time_s: float
    load: float | None  # average of a minute: processes that run or wait to
    busy_s: float | None  # of all cores; what a hypervisor kept for others is among it
    own_s: float | None  # of this process and all that it started
    throttle_events: int | None  # of all cores, by their sensors
    quota_waits_s: float | None  # of this container


def read() -> Reading:
    """Read the counters."""
    return Reading(
        perf_counter(),
        _known(lambda: os.getloadavg()[0]),
        _known(_busy_s),
        _known(_own_s),
        _known(lambda: _total(CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))),
        _known(_quota_waits_s),
    )


def since(before: Reading) -> dict[str, Any]:
    """The conditions from `before` until now, as a record holds them."""
    after = read()
    elapsed_s = after.time_s - before.time_s
    busy_s, own_s = _between(before.busy_s, after.busy_s), _between(before.own_s, after.own_s)
    others = None if busy_s is None or own_s is None else max(0.0, busy_s - own_s) / elapsed_s
    return {
        "load_before": before.load,
        "load_after": after.load,
        "cores": os.cpu_count(),
        "other_cores": None if others is None else round(others, 3),  # that others kept busy, on average
        "throttle_events": _between(before.throttle_events, after.throttle_events),
        "quota_waits_s": _between(before.quota_waits_s, after.quota_waits_s),
        "cpu_mhz": _known(_mhz),
        "cpu_temperature_c": _known(_temperature_c),
        **_gpu(),
    }


def _between(before: Any, after: Any) -> Any:
    return None if before is None or after is None else round(after - before, 3)


def _known(answer: Callable[[], Any]) -> Any:
    """The answer, None where the platform has none: no cell fails for what is odd about a sensor."""
    try:
        return answer()
    except Exception:
        return None


def _busy_s() -> float:
    import psutil

    times = psutil.cpu_times()
    idle_s = times.idle + getattr(times, "iowait", 0.0)
    counted_twice_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # user time has them
    return sum(times) - idle_s - counted_twice_s


def _own_s() -> float:
    import psutil

    own_s = sum(os.times()[:4])  # user and system, of this process and of its children that have ended
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            own_s += sum(process.cpu_times()[:4])
    return own_s


def _total(files: Iterable[Path]) -> int | None:
    counts = [int(file.read_text()) for file in files]
    return sum(counts) if counts else None


def _quota_waits_s() -> float | None:
    counters = dict(line.split() for line in QUOTA.read_text().splitlines())
    return int(counters["throttled_usec"]) / 1e6 if "throttled_usec" in counters else None


def _mhz() -> float | None:
    import psutil

    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return round(frequency.current, 1) if frequency and frequency.current else None


def _temperature_c() -> float | None:
    """Of the hottest sensor that is inside the processor."""
    import psutil

    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    inside = [one for name in ("coretemp", "k10temp", "cpu_thermal") for one in sensors.get(name, ())]
    return max((one.current for one in inside), default=None)


def _gpu() -> dict[str, Any]:
    """Of the first card that CUDA would use, now. The harness is the commit's: it may not ask NVML."""
    facts: dict[str, Any] = dict.fromkeys(("gpu_slowed", "gpu_temperature_c", "gpu_mhz"))
    with suppress(ImportError):
        import pynvml

        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            card = _card(pynvml)
            reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons
            for name, question, *more in (
                ("gpu_slowed", lambda card: bool(reasons(card) & SLOWED)),
                ("gpu_temperature_c", pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
                ("gpu_mhz", pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),
            ):
                with suppress(pynvml.NVMLError):
                    facts[name] = question(card, *more)
    return facts


def _card(pynvml: Any) -> Any:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    if visible.isascii() and visible.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(visible))
    return pynvml.nvmlDeviceGetHandleByUUID(visible)
