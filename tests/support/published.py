"""The planted branch as `asv publish` makes a site of it, without asv's processes.

python tests/support/published.py FOLDER      # the site is in FOLDER/.asv/html
"""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import ExitStack, chdir
from pathlib import Path
from unittest import mock

SUPPORT = Path(__file__).resolve().parent


def publish(folder: Path) -> Path:
    """Publish the results in `folder`, a branch with `.asv/results`; returns the folder of the site."""
    from asv.commands.publish import Publish
    from asv.config import Config
    from asv.graph import GraphSet
    from asv.plugins.regressions import Regressions
    from asv.plugins.summarygrid import SummaryGrid
    from asv.plugins.summarylist import SummaryList

    from scripts import asv_site

    shutil.copytree(SUPPORT.parents[1] / "benchmarks", folder / "benchmarks", dirs_exist_ok=True)
    shutil.copy(SUPPORT.parents[1] / "asv.conf.json", folder)
    publishers = ((one, "publish") for one in (Regressions, SummaryGrid, SummaryList))
    with ExitStack() as stack:
        for owner, name in ((GraphSet, "detect_steps"), *publishers):  # as they are again afterwards
            stack.enter_context(mock.patch.object(owner, name, getattr(owner, name)))
        stack.enter_context(mock.patch("asv.util.get_multiprocessing_pool"))
        stack.enter_context(chdir(folder))
        Path(".asv/results/benchmarks.json").write_text(json.dumps(_benchmarks()))
        conf = Config.load("asv.conf.json")
        asv_site.setup()
        Publish.run(conf, pull=False)
        return Path(conf.html_dir).absolute()


def _benchmarks():
    """What asv knows of the benchmarks once it has discovered them."""
    from scripts.gate.suites import every

    known = {}
    for one in every():
        method = getattr(one.suite, one.method)
        known[one.benchmark] = {
            "name": one.benchmark, "type": "track", "unit": one.unit, "code": "def track(): pass",
            "less_is_better": method.less_is_better, "version": getattr(one.suite, "version", ""),
            "params": [[repr(value) for value in axis] for axis in one.suite.params],
            "param_names": list(getattr(one.suite, "param_names", ())), "timeout": 60,
        }  # fmt: skip
    return known | {"version": 2}


if __name__ == "__main__":
    sys.path[:0] = [str(SUPPORT.parents[1]), str(SUPPORT)]
    from planted import plant

    plant(Path(sys.argv[1]))
    print(publish(Path(sys.argv[1])))
