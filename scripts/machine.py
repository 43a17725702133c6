"""Tell asv what machine this is: `~/.asv-machine.json`, with the facts a GPU result needs.

    python -m scripts.machine        # writes the entry, prints its name

asv starts a new graph for every distinct value, so each fact is a stable string: no host name, no
kernel release, memory in whole GiB. The extra ones (gpu, vram, driver, torch, cuda) travel with every
result and become filters on the site. torch is read, never imported.

As a plugin of asv it does so where no `--machine` is given, unless its user has given this machine a name.
Where the entry cannot be written it says so in a line.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import console, nvml
from harness.accelerators import torch_build
from harness.errors import MissingPrerequisite

NONE = "none"
MOST_CPU_CHARS = 100  # asv names folders by it; of x86 it has 48


def gpu_facts() -> dict[str, str]:
    """Model, memory and driver of the first GPU that CUDA would use; `none` where there is none."""
    with nvml.Card(nvml.name_of(0)) as card:
        name, total_bytes, driver = card.name, card.total_bytes, card.driver
    if name is None or total_bytes is None or driver is None:
        return {"gpu": NONE, "vram": NONE, "driver": NONE}
    return {"gpu": name, "vram": f"{round(total_bytes / 2**30)} GiB", "driver": driver}


def torch_facts() -> dict[str, str]:
    """Versions of torch and of the CUDA it was built for, from the installed files."""
    torch = torch_build()
    if torch is None:
        return {"torch": NONE, "cuda": NONE}
    return {"torch": torch.version.partition("+")[0], "cuda": torch.cuda or NONE}


def cpu_model() -> str:
    """Marketing name of the CPU, without trademarks and clock."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = match[1] if match else platform.processor() or platform.machine()
    name = re.sub(r"\s+", " ", re.sub(r"\((R|TM)\)|\bCPU\b|@.*$", " ", name))
    return name.strip()[:MOST_CPU_CHARS].rstrip()


def machine_facts() -> dict[str, str]:
    """Everything asv stores about this machine; `machine` is a slug of the GPU, else of the CPU."""
    import psutil

    cores = str(psutil.cpu_count(logical=True))
    gpu = gpu_facts()
    label = f"{cpu_model()} {cores} cores" if gpu["gpu"] == NONE else gpu["gpu"]
    return {
        "machine": re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-"),
        "os": platform.system(),
        "arch": platform.machine(),
        "cpu": cpu_model(),
        "num_cpu": cores,
        "ram": f"{round(psutil.virtual_memory().total / 2**30)} GiB",
        **gpu,
        **torch_facts(),
    }


def register() -> str:
    """Write this machine's entry for asv; returns its name."""
    from asv.machine import MachineCollection

    facts = machine_facts()
    MachineCollection.save(facts["machine"], facts)
    return facts["machine"]


def setup() -> None:
    """Called by asv once it has imported its plugins."""
    from asv.machine import Machine, MachineCollection

    save = MachineCollection.save

    def save_or_tell(*entry: Any, **options: Any) -> None:
        with _in_a_line():
            save(*entry, **options)

    Machine.get_unique_machine_name = staticmethod(name)
    MachineCollection.save = staticmethod(save_or_tell)


@contextmanager
def _in_a_line() -> Iterator[None]:
    """Inside, a file of entries that cannot be written is a UserError, which asv tells in a line."""
    from asv.machine import MachineCollection
    from asv.util import UserError

    try:
        yield
    except OSError as error:
        place = MachineCollection.get_machine_file_path()
        reason = f"this machine's entry cannot be written: {error.strerror}"
        raise UserError(f"{place}: {reason}; set HOME to a folder where it can") from None


def name() -> str:
    """The name asv knows this machine by; ours, with today's facts, where it knows none of its user's."""
    from asv.machine import MachineCollection
    from asv.util import UserError

    try:
        known = MachineCollection.load(platform.node())["machine"]
    except (UserError, OSError, KeyError):
        known = None
    return known if known and known != machine_facts()["machine"] else register()


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return console.run("machine", lambda: _register(argv))


def _register(argv: Sequence[str] | None) -> int:
    parser = console.Parser(prog="python -m scripts.machine", description="Tell asv what machine this is.")
    parser.parse_args(argv)
    from asv.util import UserError  # once it is known that it is wanted

    try:
        with _in_a_line():
            print(register())
    except UserError as error:
        raise MissingPrerequisite(str(error)) from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
