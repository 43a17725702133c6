"""A command line of which whatever is wrong is said in one line, like everything else that is."""

from __future__ import annotations

import argparse
from typing import NoReturn

from harness.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print how all of it is used."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{' '.join(message.split())}; see --help")
