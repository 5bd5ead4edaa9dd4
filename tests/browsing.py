"""Headless Chromium with selenium, and a server in a thread, for tests of pages."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI
    from selenium.webdriver.chrome.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
)
PATIENCE = 30


def find_browser() -> tuple[str, str] | None:
    """The paths of a browser and its driver; none where one is missing."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def chromium(profile: Path) -> Iterator[WebDriver]:
    """A browser with a new profile, 1280 by 900."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    found = find_browser()
    assert found is not None
    options = webdriver.ChromeOptions()
    options.binary_location, driver = found
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(executable_path=driver))
    try:
        yield started
    finally:
        started.quit()


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """An application on a free port of the loopback interface, and its address without a slash."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        assert server.started
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def wait_for(condition: Callable[[], Any]) -> Any:
    """The first true value of a condition."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


class Page:
    """A page of a server in a browser.

    Attributes:
        driver: of the browser.
        url: of the server.
    """

    def __init__(self, driver: WebDriver, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, path: str = "/") -> None:
        """Go there, as in a new tab: nothing is kept, nothing is logged."""
        self.driver.get(f"{self.url}/icon.svg")
        self.run("sessionStorage.clear()")
        self.log()
        self.driver.get(self.url + path)

    def run(self, script: str, *args: object) -> Any:
        return self.driver.execute_script(script, *args)

    def call(self, module: str, expression: str, *args: object) -> Any:
        """The value of a JavaScript expression in which `m` is one of the page's modules and `a` are the arguments."""
        script = f"const done = arguments[1], a = arguments[0]; import('/{module}').then((m) => done({expression}))"
        return self.driver.execute_async_script(script, args)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """The text of every element, hidden or not."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent.trim())", selector
        )
        return found

    def text(self, selector: str) -> str:
        return " ".join(self.texts(selector))

    def see(self, selector: str, words: str = "") -> None:
        """Wait until an element is visible and says these words."""
        wait_for(lambda: any(one.is_displayed() and words in one.text for one in self.all(selector)))

    def press(self, *keys: str) -> None:
        """Type into whatever has the focus."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """The side and the document of the item that has the focus, or the id of what has it."""
        found: str = self.run(
            "const item = document.activeElement.closest('.item');"
            "return item ? item.dataset.side + ' ' + item.dataset.doc : document.activeElement.id"
        )
        return found

    def log(self) -> list[str]:
        """What the browser's console was told since the page was opened."""
        driver: Any = self.driver
        return [entry["message"] for entry in driver.get_log("browser")]
