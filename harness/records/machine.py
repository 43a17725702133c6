"""What a measurement was made on: processor, memory, graphics cards, versions, revision of the code.

A time means nothing without the machine it was taken on, and a card that is hot, or held below its
power limit, is another machine. Facts are read, never guessed: what the system does not tell is None, and
nothing here raises. The driver is asked through NVML, so no torch is imported and no CUDA context made.

    python -c "from harness.records.machine import read; print(read())"
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from harness import nvml
from harness.registry import PACKAGE, PACKAGES

LIBRARIES = ("torch", "numpy", "tokenizers", "safetensors")
MATTERS = re.compile("(PYTORCH|OMP|CUDA|ACESTEP)_.*|MAX_CUDA_VRAM")
SECRET = re.compile("(KEY|TOKEN|SECRET|PASSWORD)$")  # a record is made to be shown around
ROOT = Path(__file__).resolve().parents[2]
CPUINFO = Path("/proc/cpuinfo")
GIT_TIMEOUT_S = 10.0


class GPU(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One card, as the driver tells. Clocks and temperature are those of the moment."""

    name: str | None = None
    uuid: str | None = None
    total_bytes: int | None = None
    driver: str | None = None
    power_limit_w: float | None = None  # the one in force
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_c: int | None = None
    mig: bool | None = None  # whether the card is split into instances


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine, and what the environment tells the libraries that use it."""

    cpu: str | None = None
    physical_cores: int | None = None
    logical_cores: int | None = None
    usable_cores: int | None = None  # those this process may be scheduled on
    threads: int | None = None  # torch's; None before torch is loaded
    ram_bytes: int | None = None
    os: str | None = None
    python: str | None = None
    gpus: tuple[GPU, ...] = ()
    environment: Mapping[str, str] = {}

    @property
    def lasting(self) -> Machine:
        """The machine without what differs from one moment to the next."""
        momentary: dict[str, Any] = {"sm_clock_mhz": None, "memory_clock_mhz": None, "temperature_c": None}
        return replace(self, threads=None, gpus=tuple(replace(gpu, **momentary) for gpu in self.gpus))


def read(environ: Mapping[str, str] = os.environ) -> Machine:
    """Read the machine."""
    import psutil

    torch: Any = sys.modules.get("torch")
    return Machine(
        cpu=cpu_name(),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(logical=True),
        usable_cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else None,
        threads=torch.get_num_threads() if torch else None,
        ram_bytes=psutil.virtual_memory().total,
        os=platform.platform(),
        python=platform.python_version(),
        gpus=_gpus(),
        environment={
            name: value
            for name, value in sorted(environ.items())
            if MATTERS.fullmatch(name) and not SECRET.search(name)
        },
    )


def versions() -> dict[str, str]:
    """Versions of the installed libraries, and of CUDA and cuDNN once torch is loaded."""
    installed = {name: _version(name) for name in LIBRARIES}
    torch: Any = sys.modules.get("torch")
    if torch:
        installed |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {name: str(value) for name, value in installed.items() if value is not None}


def package_version() -> str | None:
    """Version of this package, None where it runs without being installed."""
    return _version(PACKAGE)


def revision(root: Path = ROOT) -> tuple[str | None, bool | None]:
    """Commit of the checkout at `root`, and whether its tracked files differ from it.

    Files git does not track leave it clean, or a run's own results would make the next one dirty. Both
    are None without git, and in a folder that only lies inside some other checkout.
    """
    commit, _, top = (_git(root, "rev-parse", "HEAD", "--show-toplevel") or "").partition("\n")
    if not top or Path(top) != root.resolve():
        return None, None
    changes = _git(root, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def code() -> str:
    """Digest of the text of our packages: an uncommitted change counts, and a comment too."""
    digest = hashlib.sha256()
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    for path in sorted(filter(Path.is_file, files)):  # an editor's lock is a link to nowhere
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", os.fspath(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_TIMEOUT_S)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cpu_name() -> str | None:
    """The name Linux has for the processor; elsewhere what Python can tell."""
    try:
        text = CPUINFO.read_text(errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.*\S)", text, re.MULTILINE)
    return match[1] if match else platform.processor() or None


def _gpus() -> tuple[GPU, ...]:
    return tuple(_gpu(str(index)) for index in range(nvml.count() or 0))


def _gpu(name: str) -> GPU:
    with nvml.Card(name) as card:
        return GPU(
            name=card.name,
            uuid=card.uuid,
            total_bytes=card.total_bytes,
            driver=card.driver,
            power_limit_w=card.power_limit_w,
            sm_clock_mhz=card.sm_clock_mhz,
            memory_clock_mhz=card.memory_clock_mhz,
            temperature_c=card.temperature_c,
            mig=card.mig,
        )
