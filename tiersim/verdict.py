"""The verdict on a worker that has ended: one status, one line of reason.

    limits the supervisor enforced   timeout, host-oom
    the worker's own exit code       ok, oom, host-oom, invalid, refused, error
    a signal nobody here sent        crash

An exit with code 0 is a success only if a result came before it: a worker may be knocked out of a
system call by a signal, return from `main` and never have generated anything.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass

from harness.oom import Kind, host_oom_line, in_words
from tiersim.events import Event
from tiersim.journal import Journal
from tiersim.protocol import Exit
from tiersim.record import Status

REASON_CHARS = 200
KIND_OF: Mapping[Status, Kind] = {"oom": "device", "host-oom": "host"}
BY_EXIT: Mapping[int, Status] = {
    Exit.DEVICE_OOM: "oom",
    Exit.HOST_OOM: "host-oom",
    Exit.INVALID: "invalid",
    Exit.REFUSED: "refused",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A worker that has ended. `stopped`: why the supervisor ended it, or None."""

    exit_code: int
    journal: Journal
    stopped: tuple[Status, str] | None = None
    log: str = ""
    rss_peak_bytes: int = 0  # the most the watchdog saw
    process_s: float = 0.0

    def last(self, kind: str) -> Event:
        """The last event of that kind; empty if there was none."""
        return self.journal.last.get(kind, {})

    @property
    def signal(self) -> str | None:
        """Name of the signal that ended the process."""
        if self.exit_code >= 0:
            return None
        try:
            return signal.Signals(-self.exit_code).name
        except ValueError:
            return f"signal {-self.exit_code}"

    @property
    def phase_reached(self) -> str | None:
        return self.last("phase").get("name")


def judge(outcome: Outcome, card_bytes: int | None = None) -> tuple[Status, str]:
    """Status and reason of an ended worker; the reason of a success is empty.

    `card_bytes`: of the card that memory is said to be free of, where that is not what the cap has.
    """
    status, reason = _judge(outcome)
    if not outcome.stopped and (kind := KIND_OF.get(status)):
        event = outcome.last("oom")
        requested, free, total = (event.get(f"{name}_bytes") for name in ("requested", "free", "total"))
        return status, in_words(kind, requested, free, card_bytes or total, outcome.phase_reached or "")
    where = f" in phase {outcome.phase_reached}" if reason and outcome.phase_reached else ""
    return status, _one_line(reason)[:REASON_CHARS] + where


def _judge(outcome: Outcome) -> tuple[Status, str]:
    if outcome.stopped:
        return outcome.stopped
    if outcome.exit_code == Exit.OK:
        return ("ok", "") if outcome.last("result") else ("error", "exit code 0 without a result")
    if line := host_oom_line(outcome.log):
        return "host-oom", line
    if outcome.signal == "SIGKILL":
        return "crash", "SIGKILL from outside, perhaps the kernel's out-of-memory killer"
    if outcome.signal:
        return "crash", outcome.signal
    reason = _message(outcome.last("error")) or _last_line(outcome.log) or "no message"
    return BY_EXIT.get(outcome.exit_code, "error"), f"{reason} (exit code {outcome.exit_code})"


def raised(outcome: Outcome, status: Status) -> str:
    """What a worker raised, or wrote, that ran out of memory; empty for any other, whose reason says it."""
    if outcome.stopped or status not in KIND_OF:
        return ""
    return _one_line(_message(outcome.last("oom")) or host_oom_line(outcome.log) or _last_line(outcome.log))


def _message(event: Event) -> str:
    return ": ".join(filter(None, (event.get("error"), event.get("message"))))


def _last_line(log: str) -> str:
    return next((line for line in reversed(log.splitlines()) if line.strip()), "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
