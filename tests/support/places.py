"""Where things lie in the repository, from wherever a test is."""

from pathlib import Path

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]
EXAMPLES = ROOT / "examples"
ZOO = SUPPORT / "zoo.py"
