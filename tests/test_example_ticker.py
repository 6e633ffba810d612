"""The ticker's page, in a browser. The test is its server, and the page's clocks are the test's: no price comes, and no
second passes, but when a test says so.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.browser import Page, browsing, require_browser
from support.examples import EXAMPLES, play

from crest import App, Request, WebSocketConnection, WebSocketServer

STATUS = "document.getElementById('status').className"
BANNER = "document.getElementById('banner')"
NOW = 1_800_000_000
"""Seconds since 1970, on the page's clock and the server's."""

STILL = f"""
window.elapsed = 0;
Date.now = () => ({NOW} + window.elapsed) * 1000;
performance.now = () => window.elapsed * 1000;
"""


class Market:
    """The server of a page, which sends what the test tells it to."""

    def __init__(self) -> None:
        self.app = App()
        self.ws = WebSocketServer()
        self.app.mount("/ws", self.ws)
        self.app.get("/")(self.page)

    def page(self, request: Request) -> str:
        return (EXAMPLES / "ticker.html").read_text(encoding="utf-8")

    def quote(self, symbol: str, price: float, at: float = 0) -> None:
        """Tell a price, of a trade that many seconds after `NOW`."""
        self.ws.broadcast(json.dumps({"symbol": symbol, "price": price, "open": 100, "time": NOW + at}))

    @property
    def connections(self) -> list[WebSocketConnection]:
        return list(self.ws.get_connections())


@asynccontextmanager
async def watching(width: int = 1280) -> AsyncIterator[tuple[Market, Page]]:
    require_browser()
    market = Market()
    async with market.app.listening("127.0.0.1", 0) as server, browsing() as browser:
        page = await browser.open("about:blank")
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        await page.call("Emulation.setDeviceMetricsOverride", **size)
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=STILL)
        page.loaded.clear()
        await page.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
        await page.loaded.wait()
        await page.until(f"{STATUS} === 'open'")
        yield market, page
        assert page.errors == []


async def at(page: Page, seconds: float) -> None:
    """Set the page's clocks."""
    await page.evaluate(f"window.elapsed = {seconds}")


async def shows(page: Page, symbol: str, *cells: str, look: str) -> None:
    """Wait until a row has these texts, and these classes."""
    row = f"[...document.querySelectorAll('#prices tr')].find((row) => row.cells[0].textContent === {symbol!r})"
    texts = f"[...({row})?.cells ?? []].slice(2).map((cell) => cell.textContent).join()"
    await page.until(f"{texts} === {json.dumps(','.join(cells))} && ({row}).className === {look!r}")


def test_prices_rise_and_fall() -> None:
    async def scenario() -> None:
        async with watching() as (market, page):
            market.quote("MSFT", 101)
            await shows(page, "MSFT", "101.00", "▲ 1.00 %", "now", look="up")
            market.quote("AAPL", 98.5)
            await shows(page, "AAPL", "98.50", "▼ 1.50 %", "now", look="down")
            market.quote("MSFT", 99)
            await shows(page, "MSFT", "99.00", "▼ 1.00 %", "now", look="down")
            assert await page.evaluate("rows.get('MSFT').cells.price.className") == "price fell"
            order = "[...document.querySelectorAll('#prices th')].map((each) => each.textContent)"
            assert await page.evaluate(order) == ["AAPL", "MSFT"]

    play(scenario)


def test_old_prices_look_old() -> None:
    async def scenario() -> None:
        async with watching() as (market, page):
            market.quote("AAPL", 101)
            market.quote("MSFT", 101)
            await shows(page, "MSFT", "101.00", "▲ 1.00 %", "now", look="up")
            await at(page, 4.9)
            await shows(page, "MSFT", "101.00", "▲ 1.00 %", "4 s ago", look="up")
            await at(page, 5)
            await shows(page, "AAPL", "101.00", "▲ 1.00 %", "5 s ago", look="up stale")
            await shows(page, "MSFT", "101.00", "▲ 1.00 %", "5 s ago", look="up stale")
            assert await page.evaluate("getComputedStyle(rows.get('MSFT').cells.price).textDecorationLine") != "none"
            market.quote("AAPL", 102, at=5)
            await shows(page, "AAPL", "102.00", "▲ 2.00 %", "now", look="up")
            await shows(page, "MSFT", "101.00", "▲ 1.00 %", "5 s ago", look="up stale")

    play(scenario)


def test_a_price_that_was_old_when_it_came_is_old() -> None:
    async def scenario() -> None:
        async with watching() as (market, page):
            market.quote("AAPL", 101)
            market.quote("BRK.A", 101, at=-60)
            await shows(page, "BRK.A", "101.00", "▲ 1.00 %", "60 s ago", look="up stale")
            await shows(page, "AAPL", "101.00", "▲ 1.00 %", "now", look="up")

    play(scenario)


def test_without_a_connection_all_prices_are_old_at_once() -> None:
    async def scenario() -> None:
        async with watching() as (market, page):
            market.quote("AAPL", 101)
            await shows(page, "AAPL", "101.00", "▲ 1.00 %", "now", look="up")
            [conn] = market.connections
            conn.close(1012, "retry-after=3")
            await page.until(f"{STATUS} === 'lost' && !{BANNER}.hidden")
            await shows(page, "AAPL", "101.00", "▲ 1.00 %", "now", look="up stale")
            for elapsed, left in ((0, 3), (1, 2), (2.5, 1)):
                await at(page, elapsed)
                await page.until(f"{BANNER}.textContent.includes('next try in {left} s')")
            await at(page, 3)
            await page.until(f"{STATUS} === 'open' && {BANNER}.hidden")
            await shows(page, "AAPL", "101.00", "▲ 1.00 %", "3 s ago", look="up")
            market.quote("AAPL", 103, at=3)
            await shows(page, "AAPL", "103.00", "▲ 3.00 %", "now", look="up")

    play(scenario)


def test_trying_now_does_not_wait() -> None:
    async def scenario() -> None:
        async with watching() as (market, page):
            [conn] = market.connections
            conn.close(1012, "retry-after=3")
            await page.until(f"{STATUS} === 'lost'")
            await page.evaluate("document.getElementById('now').click()")
            await page.until(f"{STATUS} === 'open' && {BANNER}.hidden")

    play(scenario)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits(width: int) -> None:
    async def scenario() -> None:
        async with watching(width) as (market, page):
            market.quote("AAPL", 101)
            market.quote("BRK.A", 111.11, at=-60)
            await shows(page, "BRK.A", "111.11", "▲ 11.11 %", "60 s ago", look="up stale")
            await page.evaluate("rows.get('BRK.A').cells.price.textContent = '741,234.56'")
            for selector in ("header", "#status", "table"):
                box = await page.evaluate(f"document.querySelector('{selector}').getBoundingClientRect().toJSON()")
                assert 0 <= box["left"] < box["right"] <= width and 0 <= box["top"] < box["bottom"] <= 800, selector
            [conn] = market.connections
            conn.close()
            await page.until(f"{STATUS} === 'lost'")
            box = await page.evaluate("document.getElementById('now').getBoundingClientRect().toJSON()")
            assert 0 < box["width"] and box["right"] <= width

    play(scenario)
