"""The site `asv publish` writes: our pages, and an explorer of all series, which work offline.

    asv publish && asv preview        # .asv/results -> .asv/html, which any static server will do for

What changed is what `scripts.changes` says, here as there. asv's own publishers read every rise as a loss,
average the parameters of a benchmark, and load ten files from three CDN hosts: this plugin stands in their
place, and asv keeps to collecting the graphs.
"""

from pathlib import Path

from asv.graph import GraphSet
from asv.plugins.regressions import Regressions
from asv.plugins.summarygrid import SummaryGrid
from asv.plugins.summarylist import SummaryList
from asv.publishing import OutputPublisher
from asv.util import UserError

from harness.errors import MissingPrerequisite
from scripts.site import explorer, explorer_bundle
from scripts.site.page import measured
from scripts.site.whole import write

STOCK_PAGES = ("*.js", "*.css", "*.html", "swallow.*")
COMMITS = "commit.html#"  # where a commit's hash is looked up


def setup() -> None:
    """Called by asv once it has imported its plugins."""
    GraphSet.detect_steps = nothing
    for publisher in (Regressions, SummaryGrid, SummaryList):
        publisher.publish = nothing


def nothing(*_, **__) -> None:
    """What is done of a step of asv's that nobody reads."""


class Site(OutputPublisher):
    """Runs last among asv's publishers: the graphs are written."""

    name, button_label, description = "site", "Site", "acestep-bench"

    @classmethod
    def publish(cls, conf, repo, benchmarks, graphs, revisions):
        html = Path(conf.html_dir)
        for pattern in STOCK_PAGES:
            for file in html.glob(pattern):
                file.unlink()
        try:
            site = measured()
        except MissingPrerequisite as error:
            raise UserError(str(error)) from None  # which asv tells in a line
        try:
            cls._write(site, conf, repo, benchmarks, graphs, revisions)
        except OSError as error:
            (html / "index.html").unlink(missing_ok=True)  # a part of a site has no door
            where = error.filename or html
            raise UserError(f"{where}: {error.strerror}; the site is not whole, publish it again") from None

    @staticmethod
    def _write(site, conf, repo, benchmarks, graphs, revisions):
        """Write all of it. Raises OSError."""
        html = Path(conf.html_dir)
        explorer_bundle.install(html)
        published = {
            "project": conf.project, "project_url": "index.html",
            "hash_length": conf.hash_length, "show_commit_url": COMMITS,
            "tags": {tag: revisions[commit] for tag, commit in repo.get_tags().items()},
        }  # fmt: skip
        explorer.write(site, published, benchmarks, graphs, revisions, html)
        write(site, html)
