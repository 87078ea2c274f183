"""Take the pictures of a report that the documentation shows, in light, in dark and on a phone: by hand.

    python benchmarks/screenshots.py reports/gan-game/report.html [docs/images]

Needs Debian's Chromium and the `dev` extras. Only ever of a report of real figures.
"""

import argparse
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SETTLED = 1500  # milliseconds, for what is drawn after a page has loaded
COLOURS = (
    256  # of a picture: a third of the bytes; chosen so that rare ones, such as a line's in a key, stay what they are
)
VIEWS = {
    "light": {"viewport": {"width": 1280, "height": 1000}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 1000}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "device_scale_factor": 2},
}


def main() -> None:
    """Read the arguments and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/images"))
    parser.add_argument("--whole", action="store_true", help="the whole page, to look at, and not what a screen shows")
    parser.add_argument("--at", default="", help="scroll to this section first, such as images")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, view in VIEWS.items():
            path = arguments.folder / f"report-{name}.png"
            take(browser, arguments.page, path, view, whole=arguments.whole, at=arguments.at)
            print(path)
        browser.close()


def take(browser: Browser, page: Path, path: Path, view: dict, *, whole: bool = False, at: str = "") -> None:
    """Show the page as `view` says and write what is seen to `path`."""
    context = browser.new_context(offline=True, reduced_motion="reduce", **view)
    shown = context.new_page()
    shown.goto(page.resolve().as_uri() + (f"#{at}" if at else ""))
    for chart in shown.locator("[data-chart]").all() if whole else ():  # each is drawn when it comes near
        chart.scroll_into_view_if_needed()
    shown.wait_for_timeout(SETTLED)
    shown.screenshot(path=path, full_page=whole)
    context.close()
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


if __name__ == "__main__":
    main()
