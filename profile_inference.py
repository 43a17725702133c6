"""Where the time of ACE-Step 1.5 inference goes: `python profile_inference.py --help`.

`--mode tier-test` is tiersim's, every other mode is the profiler's.
"""

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import sys
from collections.abc import Sequence

from acestep.profiler.command import main


def tier_test(arguments: Sequence[str]) -> int:
    """Generate once per GPU tier, each in a capped process of its own."""
    from tiersim.__main__ import main as tiersim

    return tiersim(arguments)


if __name__ == "__main__":
    sys.exit(main(tier_test=tier_test))
