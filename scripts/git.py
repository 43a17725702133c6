"""What git says of this repository."""

from __future__ import annotations

import subprocess

from harness.errors import MissingPrerequisite


def git(*arguments: str, text: str = "", refused: str | None = None) -> str:
    """What git prints, which reads `text`. `refused`: what to return where it fails; otherwise raises
    MissingPrerequisite."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise MissingPrerequisite(f"git: cannot be run: {error.strerror}; install it") from None
    if done.returncode and refused is None:
        lines = [line for line in done.stderr.splitlines() if not line.startswith(("warning:", "hint:"))]
        command_name = next(word for word in arguments if not word.startswith("-") and "=" not in word)
        reason = next(filter(None, lines), "nothing on stderr")  # what follows is what came of it
        advice = "; run this in the root of the repository" if "not a git repository" in reason else ""
        raise MissingPrerequisite(f"git {command_name}: {reason}{advice}")
    return refused or "" if done.returncode else done.stdout.strip()
