"""Serve the site to this machine, until Ctrl-C.

Its explorer loads its data as it goes, which no browser lets a page do that was opened from disk.

    python -m scripts.preview [--port 8081]
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import errno
import sys
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from harness import console
from harness.errors import MissingPrerequisite, UsageError
from harness.flags import whole
from scripts.summary import SITE

HERE, PORT = "127.0.0.1", 8080
ANY = 0  # port: the system takes one that is free


class Pages(SimpleHTTPRequestHandler):
    """The files of the site, without a line for each that is read."""

    def log_message(self, *_: object) -> None:
        pass


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return console.run("preview", lambda: preview(argv))


def preview(argv: Sequence[str] | None) -> int:
    """Print the address, and serve."""
    parser = console.Parser(prog="python -m scripts.preview", description="Serve the site to this machine.")
    parser.add_argument("--port", type=whole, metavar="N", help=f"({PORT}, else one that is free)")
    port = parser.parse_args(argv).port
    if port is not None and not 0 < port < 2**16:
        raise UsageError(f"--port: {port} is none; use 1 to {2**16 - 1}")
    if not SITE.is_file():
        raise MissingPrerequisite(f"{SITE}: there is no site yet; make bench or make site makes it")
    with server(port) as serving:
        print(f"site     http://{HERE}:{serving.server_port}/  (Ctrl-C ends it)", flush=True)
        serving.serve_forever()
    return 0


def server(port: int | None) -> ThreadingHTTPServer:
    """What serves the site on `port`. Raises UsageError where that is taken; nobody's own port gives way."""
    pages = partial(Pages, directory=str(SITE.parent))
    try:
        return ThreadingHTTPServer((HERE, port or PORT), pages)
    except PermissionError:
        raise UsageError(f"--port: {port} is kept for the system; use one from 1024 on") from None
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    if port:
        raise UsageError(f"--port: {port} is taken; use another, or leave it out")
    console.say("preview", f"port {PORT} is taken, so it is another")
    return ThreadingHTTPServer((HERE, ANY), pages)


if __name__ == "__main__":
    sys.exit(main())
