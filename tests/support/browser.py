"""Headless Chromium for tests, driven over the DevTools protocol.

Owns finding, starting and ending the browser; pages are driven by JavaScript that is evaluated in them. It knows
nothing of crest. Where no browser is installed a test is skipped, but under CREST_REQUIRE_BROWSER=1 it fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import tempfile
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root, and open only pages of their own
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-proxy-server",
    # Pages in the background must go on like the one in front.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--remote-debugging-port=0",
)

GUARD = 20.0
"""Seconds after which a test that waits for something in a page has failed."""

# Resolves as soon as the expression is true; it is looked at again whenever the document changes.
UNTIL = """new Promise((resolve) => {
    const holds = () => Boolean(%s);
    if (holds()) return resolve();
    const observer = new MutationObserver(() => {
        if (holds()) { observer.disconnect(); resolve(); }
    });
    observer.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
})"""


class PageError(AssertionError):
    """JavaScript that was evaluated threw."""


class Page:
    """One tab.

    Attributes:
        console: What the page logged, as lists of argument values; an object is its `preview` or description.
        errors: Descriptions of exceptions that nobody caught.
        loaded: Set once the page and all that it refers to has loaded.
    """

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        self.console: asyncio.Queue[list[Any]] = asyncio.Queue()
        self.errors: list[str] = []
        self.loaded = asyncio.Event()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol to this page."""
        return await self._browser.call(method, self._session, **params)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise PageError(_thrown(answer["exceptionDetails"]))
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression about the document is true."""
        try:
            async with asyncio.timeout(GUARD):
                await self.evaluate(UNTIL % expression)
        except TimeoutError:
            shown = await self.evaluate("document.body.innerText")
            raise AssertionError(f"never came true: {expression}\n{self.errors}\nThe page shows:\n{shown}") from None

    async def screenshot(self, path: str) -> None:
        """Write a PNG of what is visible."""
        answer = await self.call("Page.captureScreenshot")
        with open(path, "wb") as file:
            file.write(b64decode(answer["data"]))

    async def close(self) -> None:
        """Close the tab."""
        await self._browser.call("Target.closeTarget", targetId=self._target)

    def event(self, method: str, params: dict[str, Any]) -> None:
        """DevTools has something to say about this page."""
        if method == "Runtime.consoleAPICalled":
            self.console.put_nowait([_value(argument) for argument in params["args"]])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(_thrown(params["exceptionDetails"]))
        elif method == "Page.loadEventFired":
            self.loaded.set()


class Browser:
    """A running browser.

    Args:
        devtools: The connection to its DevTools.
    """

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its result."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": params}
        if session is not None:
            command["sessionId"] = session
        await self._devtools.send(json.dumps(command))
        return await self._answers[number]

    async def open(self, url: str) -> Page:
        """A new tab with this page, once it has loaded; what it logs is seen from the first line on."""
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = Page(self, target, session)
        await page.call("Runtime.enable")
        await page.call("Page.enable")
        answer = await page.call("Page.navigate", url=url)
        assert "errorText" not in answer, f"{url}: {answer['errorText']}"
        await page.loaded.wait()
        return page

    async def listen(self) -> None:
        """Take what DevTools says, until the browser is gone."""
        try:
            async for text in self._devtools:
                said = json.loads(text)
                if "id" in said:
                    answer = self._answers.pop(said["id"])
                    if answer.cancelled():
                        continue
                    if "error" in said:
                        answer.set_exception(RuntimeError(said["error"]["message"]))
                    else:
                        answer.set_result(said["result"])
                elif said.get("sessionId") in self._pages:
                    self._pages[said["sessionId"]].event(said["method"], said["params"])
        except ConnectionClosed:
            pass
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the browser has ended"))


def require_browser() -> str:
    """The browser's executable; without one the test is skipped, or fails under CREST_REQUIRE_BROWSER=1."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is not None:
        return found
    reason = f"no browser is installed (looked for {', '.join(NAMES)})"
    if os.environ.get("CREST_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{reason}, and CREST_REQUIRE_BROWSER=1")
    pytest.skip(reason)


@asynccontextmanager
async def browsing(*flags: str) -> AsyncIterator[Browser]:
    """A browser with an empty profile, ended with all its processes when the context ends."""
    executable = require_browser()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            executable,
            *FLAGS,
            *flags,
            f"--user-data-dir={profile}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        try:
            async with asyncio.TaskGroup() as tasks:
                url = await _devtools_url(process.stderr)
                draining = tasks.create_task(_drain(process.stderr))
                async with connect(url, proxy=None, max_size=None, ping_interval=None) as devtools:
                    browser = Browser(devtools)
                    listening = tasks.create_task(browser.listen())
                    try:
                        yield browser
                    finally:
                        listening.cancel()
                        draining.cancel()
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # the session that was made above: the browser and its children
            except ProcessLookupError:
                pass
            await process.wait()


async def _devtools_url(stderr: asyncio.StreamReader) -> str:
    seen = []
    while line := (await stderr.readline()).decode(errors="replace"):
        seen.append(line)
        if match := re.match(r"DevTools listening on (ws://\S+)", line):
            return match[1]
    raise AssertionError("the browser did not start:\n" + "".join(seen))


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(1 << 16):
        pass


def _thrown(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description", details["text"]))


def _value(argument: dict[str, Any]) -> Any:
    """A logged value: JSON's own as they are, an object as a dict of what DevTools shows of it."""
    preview = argument.get("preview")
    if preview is not None and preview.get("subtype") is None:
        return {each["name"]: each.get("value") for each in preview["properties"]}
    return argument.get("value", argument.get("description"))
