"""The picture of the start page: docs/start.png, as a phone or a README shows it.

    python -m scripts.site.picture [OUT]

Of the site in .asv/html, or where there is none of a made-up history, which has a slowdown, its revert, and
a commit that needs more memory. It says of how many benchmark classes it is; a test compares.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import console
from harness.errors import MissingPrerequisite
from harness.files import writable

OUT, HTML, PLANTED = Path("docs/start.png"), Path(".asv/html"), Path("tests/support/planted.py")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
WIDTH, HEIGHT = 1024, 768
COLORS = 128
CLASSES = "benchmark classes"  # a text in the picture


def main() -> int:
    """The command; returns its exit code."""
    return console.run("picture", picture)


def picture() -> int:
    """Make the picture."""
    parser = console.Parser(prog="python -m scripts.site.picture", description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path, default=OUT, metavar="OUT", help=f"where to; {OUT}")
    options = parser.parse_args()
    writable("OUT", options.out)  # refused here, not after it is made
    with tempfile.TemporaryDirectory() as folder:
        made_up = not (HTML / "index.html").exists()
        if made_up:
            console.say("picture", f"{HTML} has no site: a made-up history stands for it")
            subprocess.run([sys.executable, PLANTED, folder], check=True, stdout=subprocess.DEVNULL)
        page = (Path(folder) / HTML if made_up else HTML) / "index.html"
        _write(options.out, _shot(page.resolve().as_uri()))
    console.say("picture", f"{options.out}: {classes()} {CLASSES}")
    return 0


def classes() -> int:
    """How many classes of benchmarks there are."""
    from scripts.gate.suites import every  # imports every benchmark

    return len({one.suite for one in every()})


def classes_of(path: Path) -> int:
    """How many there were when the picture at `path` was made."""
    from PIL import Image

    with Image.open(path) as image:
        return int(image.text[CLASSES])  # type: ignore[attr-defined]


def _shot(address: str) -> bytes:
    """The page down to the end of its first section. Raises MissingPrerequisite."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise MissingPrerequisite(f"{', '.join(BROWSERS)}: none is on PATH; apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise MissingPrerequisite("playwright is not installed; make test installs it") from None
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=list(QUIET))
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(address)
        page.wait_for_function("!document.querySelector('.plot:not(:has(svg))')")  # charts are drawn
        section = page.locator("section").first.bounding_box()
        height = section["y"] + section["height"] if section else HEIGHT
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height}
        image = page.screenshot(full_page=True, clip=clip)  # type: ignore[arg-type]
        chromium.close()
        return image


def _write(path: Path, image: bytes) -> None:
    """Write a picture in few colours, with how many classes it is of."""
    from PIL import Image, PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text(CLASSES, str(classes()))
    few = Image.open(io.BytesIO(image)).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    few.save(path, "PNG", optimize=True, pnginfo=text)


if __name__ == "__main__":
    sys.exit(main())
