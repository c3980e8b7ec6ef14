"""A real browser for tests of pages: Chromium without a window, and the few things that are asked of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Browser = Any
FITS = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"


def chromium(profile: Path) -> Iterator[Browser]:
    """A browser until the iterator is closed; the test skips where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs Chromium and its driver (on Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync", "window-size=1400,1000",
        f"user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def until(question: Callable[[], Any]) -> Any:
    """The first true answer within five seconds."""
    end = time.monotonic() + 5
    while not (answer := question()) and time.monotonic() < end:
        time.sleep(0.02)
    assert answer, "nothing happened in five seconds"
    return answer


def visit(browser: Browser, run: Path, place: str = "", width: int = 1400, scheme: str = "light") -> None:
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get((run / "report.html").as_uri() + place)
    until(lambda: browser.execute_script("return 'ready' in document.documentElement.dataset"))


def css(browser: Browser, selector: str) -> list[Any]:
    return list(browser.find_elements("css selector", selector))


def texts(browser: Browser, selector: str) -> list[str]:
    code = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.toWellFormed())"
    return list(browser.execute_script(code, selector))


def listed(browser: Browser) -> list[str]:
    return texts(browser, ".rail li:not([hidden]) .where")


def chosen(browser: Browser) -> str:
    (title,) = texts(browser, ".attempt-head h3")
    return title


def press(browser: Browser, key: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    ActionChains(browser).send_keys(getattr(Keys, key)).perform()


def choose(browser: Browser, field: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", field)).select_by_value(value)
