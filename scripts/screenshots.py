"""The page of a sweep as docs/ shows it: while it runs, light, dark and as narrow as a phone, and at its end.

python scripts/screenshots.py        a sweep of three minutes on the digits; needs Chromium and the extra [test]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SWEEP = (
    *("mixup=none,input,cutmix", "mixup.alpha=0.2,1", "seed=range(5)"),
    *("trainer.epochs=20", "trainer.threads=1", "wandb.mode=disabled", "hydra/launcher=parallel", "-m"),
)
SHOTS = {"light": (1200, 1640, "light"), "dark": (1200, 1640, "dark"), "narrow": (390, 1640, "light")}
"""Width and height in pixels, and the reader's setting."""
ENOUGH = 15
"""Completed runs, of 25, when the pictures are taken."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Run a sweep, and photograph its page in the middle of it and at its end."""
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        sweep = subprocess.Popen([sys.executable, ROOT / "train.py", *SWEEP], cwd=folder)
        page = _wait(Path(folder), sweep)
        for name, (width, height, scheme) in SHOTS.items():
            _photograph(chromium, page, f"live-{name}", (width, height), scheme)
        if sweep.wait():
            sys.exit("error: the sweep has failed")
        _photograph(chromium, page, "report", (1200, 3600), "light")
        chromium.close()


def _photograph(chromium: Any, page: Path, name: str, size: tuple[int, int], scheme: str) -> None:
    width, height = size
    context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    tab = context.new_page()
    tab.goto(page.resolve().as_uri())
    tab.wait_for_timeout(500)
    tab.screenshot(path=ROOT / "docs" / f"{name}.png")
    context.close()


def _wait(folder: Path, sweep: subprocess.Popen[bytes]) -> Path:
    while len(list(folder.glob("outputs/runs/*/result.json"))) < ENOUGH:
        if sweep.poll() is not None:
            sys.exit("error: the sweep has ended too early")
        time.sleep(0.2)
    time.sleep(5)  # for the page to be written
    return next(folder.glob("outputs/sweeps/*/report/report.html"))


if __name__ == "__main__":
    main()
