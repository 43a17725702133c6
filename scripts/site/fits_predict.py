"""Predict what fits which card, for the site; a minute on two cores, and no GPU.

    python -m scripts.site.fits_predict FOLDER [GB ...]

FOLDER keeps every case, and starting again goes on from there; its fits.json is what the page is made from.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import sys
from collections.abc import Sequence
from pathlib import Path

from harness import console


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return console.run("fits", lambda: predict(argv))


def predict(argv: Sequence[str] | None) -> int:
    """Predict all cards, or those of some sizes."""
    parser = console.Parser(prog="python -m scripts.site.fits_predict", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="keeps every case, and fits.json")
    parser.add_argument("sizes", nargs="*", metavar="GB", help="of cards (all that there are)")
    options = parser.parse_args(argv)
    from scripts.site import fits_matrix  # what predicts, once it is known what

    fits_matrix.run(options.folder, options.sizes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
