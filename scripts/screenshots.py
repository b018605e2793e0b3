"""Take pictures of every page, light and dark, on a desktop and on a phone: `python scripts/screenshots.py --page URL --out FOLDER`.

With `--loads N` it takes none, but loads the page N times, each in a browser session of its own, and says how long that takes.
The page must be running (`counterpoint chat`). Chromium is the system's: `apt-get install chromium chromium-driver`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
SIZES: dict[str, Any] = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
HEIGHT = """innerHeight + Math.max(0, ...[...document.querySelectorAll('body *')].map(one =>
  ['auto', 'scroll'].includes(getComputedStyle(one).overflowY) ? one.scrollHeight - one.clientHeight : 0))"""
"""Pixels that the window needs so that nothing must be scrolled."""
PAGES = {"pool": "Pool", "router": "Router", "runs": "Runs"}


def shoot(page: Any, url: str, question: str, folder: Path, name: str, wait_s: float) -> None:
    """Ask a question, and take a picture of the answer and of each page."""

    def picture(what: str) -> None:
        page.wait_for_timeout(1500)  # charts draw themselves after they are there
        page.screenshot(path=folder / f"{what}-{name}.png")

    def whole(file: str) -> None:
        size = page.viewport_size
        height = page.evaluate(HEIGHT)
        page.set_viewport_size({**size, "height": min(height, 4000)})
        page.wait_for_timeout(1000)
        page.screenshot(path=folder / file)
        page.set_viewport_size(size)

    began = time.monotonic()
    page.goto(url)
    box = page.get_by_placeholder("Ask the mixture")
    box.wait_for()
    print(f"{name}: the first page stood after {time.monotonic() - began:.1f} s")
    picture("start")
    box.fill(question)
    box.press("Enter")
    page.get_by_role("button", name="Stop").or_(page.get_by_role("button", name="Regenerate")).first.wait_for()
    picture("coming")
    page.get_by_role("button", name="Regenerate").wait_for(timeout=wait_s * 1000)
    picture("answer")
    whole(f"answer-{name}-whole.png")
    for path, title in PAGES.items():
        page.goto(f"{url}/{path}")
        page.get_by_role("heading", name=title, exact=True).wait_for()
        if path == "router":
            page.get_by_label("A question; nobody is asked").fill(question)
            page.get_by_role("button", name="See scores").click()
            page.get_by_text("Quality against price and time").wait_for()
        picture(path)
        whole(f"{path}-{name}-whole.png")


def load(browser: Any, url: str, times: int) -> None:
    """Load the page, and print when its first words and its box for questions stood there."""
    print("  load   first paint, s   box for questions, s")
    for at in range(times):
        context = browser.new_context(viewport=SIZES["desktop"])
        page = context.new_page()
        page.goto(url, wait_until="commit")
        page.get_by_placeholder("Ask the mixture").wait_for()
        box, paint = page.evaluate("[performance.now(), performance.getEntriesByName('first-contentful-paint')[0].startTime]")
        print(f"  {at + 1:4}   {paint / 1000:14.2f}   {box / 1000:20.2f}")
        context.close()


def main() -> int:
    """Take the pictures."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--page", default="http://127.0.0.1:8501", help="where the page is")
    given.add_argument("--out", type=Path, default=Path("screenshots"), help="folder for the pictures")
    given.add_argument("--question", default="What is twelve plus thirty?", help="what is asked")
    given.add_argument("--loads", type=int, default=0, help="load the page so often and say how long it takes, instead of pictures")
    given.add_argument("--wait", type=float, default=180, help="seconds that an answer may take")
    asked = given.parse_args()
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        print("no Chromium here: apt-get install chromium", file=sys.stderr)
        return 2
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        if asked.loads:
            load(browser, asked.page.rstrip("/"), asked.loads)
            return 0
        asked.out.mkdir(parents=True, exist_ok=True)
        for scheme in ("light", "dark"):
            for size, viewport in SIZES.items():
                context = browser.new_context(viewport=viewport, color_scheme=scheme)
                page = context.new_page()
                page.set_default_timeout(60_000)
                shoot(page, asked.page.rstrip("/"), asked.question, asked.out, f"{size}-{scheme}", asked.wait)
                context.close()
        browser.close()
    print(f"{len([*asked.out.glob('*.png')])} pictures in {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
