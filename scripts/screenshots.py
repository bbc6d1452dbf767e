"""Take pictures of every page of the dashboard: desktop light, desktop dark, phone.

    python scripts/screenshots.py results/v2 pictures/

Look at them: nothing clipped, nothing overlapping, a unit on every axis. Two of them are in
docs/dashboard.md and README. The description of a picture (PNG metadata) is the answer that its
page shows, else the page's heading.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from shutil import which

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from browser import answers, chromium, wait_for  # the tests' browser
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mbsearch.dashboard.pages import pages

PORT = 8096
SIZES = {"light": (1280, 900), "dark": (1280, 900), "phone": (390, 844)}
HEADING = "(document.querySelector('#sentence') ?? document.querySelector('h1'))"
SETTLE_SECONDS = 2.5  # plots, fonts and the table's rows


def main() -> None:
    """Serve the results and take a picture of every page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--query", default="", help="State of the pages, as trial=12&other=3.")
    arguments = parser.parse_args()
    arguments.pictures.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mbsearch", "dashboard", str(arguments.results)]
    with subprocess.Popen([*command, "--port", str(PORT)]) as server:
        try:
            url = f"http://127.0.0.1:{PORT}"
            wait_for(lambda: answers(url), "the server")
            for kind in SIZES:
                take(kind, url, arguments.query, arguments.pictures)
        finally:
            server.terminate()


def take(kind: str, url: str, query: str, pictures: Path) -> None:
    """Take a picture of every page at its full height, in one size and colour scheme."""
    width, height = SIZES[kind]
    browser_paths = str(which("chromium")), str(which("chromedriver"))
    with chromium(*browser_paths, width, height, dark=kind == "dark") as browser:
        for page in pages():
            browser.get(f"{url}/{page}?{query}")
            time.sleep(SETTLE_SECONDS)
            path = pictures / f"{page}-{kind}.png"
            metrics = {"width": width, "deviceScaleFactor": 1, "mobile": kind == "phone"}
            command = "Emulation.setDeviceMetricsOverride"
            for _ in range(2):  # plots grow with the window
                full = browser.execute_script("return document.documentElement.scrollHeight")
                browser.execute_cdp_cmd(command, {**metrics, "height": max(height, full)})
                time.sleep(1)
            browser.save_screenshot(str(path))
            described(path, browser.execute_script(f"return {HEADING}.innerText"))
            browser.execute_cdp_cmd(command, {**metrics, "height": height})
            print(path)


def described(path: Path, text: str) -> None:
    """Write a description into the metadata of a picture, and reduce it to 256 colours."""
    info = PngInfo()
    info.add_text("Description", " ".join(text.split()))
    with Image.open(path) as picture:
        reduced = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    reduced.save(path, pnginfo=info, optimize=True)


if __name__ == "__main__":
    main()
