"""A browser without a screen: Debian's Chromium and its own driver; nothing is downloaded."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

_PLACES = {name: shutil.which(name) for name in ("chromium", "chromedriver")}

needed = pytest.mark.skipif(
    None in _PLACES.values(),
    reason="no browser is installed: apt-get install chromium chromium-driver",
)


@contextmanager
def opened():
    """Open the browser; it logs what goes over the network, and what the console says."""
    os.environ["SE_OFFLINE"] = "true"
    os.environ["SE_AVOID_STATS"] = "true"
    options = webdriver.ChromeOptions()
    options.binary_location = _PLACES["chromium"]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_PLACES["chromedriver"]))
    try:
        yield driver
    finally:
        driver.quit()


def show(driver, path, *, width=1200, height=900, scheme="light"):
    """Show a page as on a screen of this size."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(Path(path).as_uri())


def requested(driver):
    """List the addresses that were asked for since the last time, data in the page apart."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    return [url for url in urls if not url.startswith("data:")]


def said(driver):
    """List what the console has said since the last time."""
    return [entry["message"] for entry in driver.get_log("browser")]
