"""Exit code, events and log to one status: the table, without a process."""

import pytest

from tiersim.journal import Journal
from tiersim.verdict import Outcome, judge, raised

RESULT = {"event": "result"}
PHASE = {"event": "phase", "name": "generate"}


def told(event, message="why", **more):
    return {"event": event, "error": "RuntimeError", "message": message, **more}


def journal(events) -> Journal:
    journal = Journal()
    for event in events:
        journal.add(event)
    return journal


@pytest.mark.parametrize(
    ("exit_code", "events", "log", "status", "reason"),
    [
        (0, [PHASE, RESULT], "", "ok", ""),
        (0, [PHASE], "", "error", "exit code 0 without a result in phase generate"),
        (20, [told("oom", requested_bytes=3 * 2**20, free_bytes=3 * 2**19)], "", "oom",
         "3 MiB more were asked for; 1.5 MiB were free of 8 GB"),
        (21, [told("oom")], "", "host-oom", "host memory ran out"),
        (21, [{"event": "phase", "name": "load/dit"}, told("oom", requested_bytes=2**31)], "", "host-oom",
         "2 GiB more of the host's memory were asked for while loading dit"),
        (20, [PHASE], "last words\n\n", "oom", "device memory ran out in generate"),
        (22, [told("error")], "", "error", "RuntimeError: why (exit code 22)"),
        (23, [told("error")], "", "invalid", "RuntimeError: why (exit code 23)"),
        (24, [], "", "refused", "no message (exit code 24)"),
        (1, [], "libgomp: Thread creation failed", "host-oom", "host memory ran out"),
        (-11, [PHASE, RESULT], "", "crash", "SIGSEGV in phase generate"),
        (-250, [], "", "crash", "signal 250"),
    ],
)  # fmt: skip
def test_the_verdict(exit_code, events, log, status, reason):
    assert judge(Outcome(exit_code, journal(events), log=log), 8 * 2**30) == (status, reason)


def test_what_was_raised_is_kept_beside_the_words():
    assert raised(Outcome(20, journal([told("oom", message="CUDA\nout")])), "oom") == "RuntimeError: CUDA out"
    assert raised(Outcome(-6, journal([]), log="x\nstd::bad_alloc\ny"), "host-oom") == "std::bad_alloc"
    assert raised(Outcome(70, journal([told("error")])), "error") == ""  # the reason has it


def test_what_the_supervisor_enforced_comes_first():
    outcome = Outcome(0, journal([RESULT]), stopped=("timeout", "over 5 s"))
    assert judge(outcome) == ("timeout", "over 5 s")


def test_a_reason_is_one_short_line():
    reason = judge(Outcome(70, journal([told("error", message="a\nb " * 500)])))[1]
    assert len(reason) <= 220
    assert "\n" not in reason
