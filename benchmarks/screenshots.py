"""Pictures of reports for the docs: ``python -m benchmarks.screenshots RUN UNLABELLED_RUN``.

Of a run of drawn scenes whose targets have labels, and one whose target has none. Needs selenium,
Chromium and its driver, as the tests of the reports do.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
)
DESKTOP = (1280, 1000)
PHONE = (375, 812)


def main() -> None:
    """Write ``docs/report*.png``."""
    from selenium import webdriver

    if len(sys.argv) != 3:
        sys.exit("usage: python -m benchmarks.screenshots RUN UNLABELLED_RUN")
    labelled, unlabelled = (Path(name) / "report.html" for name in sys.argv[1:])
    docs = Path("docs")
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        # Named, so that selenium does not look for a driver on the network.
        driver = shutil.which("chromedriver")
        if driver is None:
            sys.exit("chromedriver is not on the path: apt-get install chromium chromium-driver")
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            shoot(browser, labelled, docs / "report.png", DESKTOP)
            shoot(browser, labelled, docs / "report_dark.png", DESKTOP, dark=True)
            shoot(browser, labelled, docs / "report_phone.png", PHONE)
            shoot(browser, unlabelled, docs / "report_unlabelled.png", DESKTOP)
        finally:
            browser.quit()


def shoot(
    browser: Any, page: Path, out: Path, size: tuple[int, int], *, dark: bool = False
) -> None:
    """Write what is seen of a page without scrolling.

    Args:
        browser: a driver of Chromium.
        page: the report.
        out: PNG to write.
        size: width and height of the window.
        dark: whether the user prefers dark colours.
    """
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.resolve().as_uri())
    browser.save_screenshot(str(out))


if __name__ == "__main__":
    main()
