"""asv-tachyon's bundle, with what it computes by itself replaced by what `scripts.changes` says.

It averages the parameters of a benchmark, calls every fifth percent between two commits a regression, and
divides decibels. What is REPLACED (`explorer_bundle.toml`) asks `explorer.js` instead. A bundle that has not
each of them once is another release's: an error, and no page.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

from scripts.site.page import NAVIGATION

HERE = Path(__file__).parent
SCRIPT = "explorer.js"
# Names wider than their column. Eighty buttons between a name and its chart; and a list of names longer than
# the screen, at whose end no chart was seen.
HEAD = f"""  <style>
    .site-pages {{ display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; padding: .5rem 1rem; font-size: .9rem }}
    .site-pages a {{ color: inherit }} .site-pages a[aria-current] {{ font-weight: 600 }}
    #from-disk {{ max-width: 40rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.5 }}
    @media (min-width: 861px) {{
      .sidebar {{ position: sticky; top: 4rem; align-self: start; max-height: calc(100vh - 4rem) }}
    }}
    @media (max-width: 1200px) {{ .topbar, .seg-scroll {{ flex-wrap: wrap; max-width: none }} }}
    @media (max-width: 860px) {{ .topbar {{ position: static }} }}
    .bench-item .name {{ overflow-wrap: anywhere }}
    .param-chips {{ max-height: 10rem; overflow-y: auto }}
  </style>
  <script src="{SCRIPT}"></script>
"""
FROM_DISK = """<p id="from-disk" hidden>The explorer has to fetch its numbers, and a browser fetches
none for a page that was opened from disk. Run <code>make preview</code> and open the address that it prints,
or go back to <a href="index.html">Start</a>: all other pages work from disk.</p>
<script>document.getElementById("from-disk").hidden = location.protocol !== "file:"</script>
<noscript><p>The explorer needs JavaScript; <a href="index.html">Start</a> does not.</p></noscript>
"""
REPLACED = {
    one["theirs"]: one["ours"]
    for one in tomllib.loads((HERE / "explorer_bundle.toml").read_text("utf-8"))["replaced"]
}


def install(html: Path) -> None:
    """Copy the explorer into `html`, with what is REPLACED; RuntimeError where that is not there."""
    import asv_tachyon

    shutil.copytree(Path(asv_tachyon.__file__).with_name("static"), html, dirs_exist_ok=True)
    (html / SCRIPT).write_bytes((HERE / SCRIPT).read_bytes())
    index = html / "index.html"
    links = "".join(
        f'<a href="{page}"{" aria-current=page" * (page == "explorer.html")}>{name}</a>\n'
        for page, name in NAVIGATION.items()
    )
    top = f'<nav class="site-pages" aria-label="Pages">\n{links}</nav>\n{FROM_DISK}'
    page = index.read_text("utf-8")
    for place, ours in {"  </head>": HEAD, '    <div id="root">': top}.items():
        page = _replaced(index, page, place, ours + place)
    (html / "explorer.html").write_text(page, "utf-8")
    index.unlink()
    (bundle,) = html.glob("assets/index-*.js")
    code = bundle.read_text("utf-8")
    for theirs, ours in REPLACED.items():
        code = _replaced(bundle, code, theirs, ours)
    bundle.write_text(code, "utf-8")


def _replaced(file: Path, text: str, theirs: str, ours: str) -> str:
    if text.count(theirs) != 1:
        raise RuntimeError(f"{file.name} has not one {theirs}: asv-tachyon changed, look at REPLACED")
    return text.replace(theirs, ours)
