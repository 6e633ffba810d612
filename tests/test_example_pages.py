"""The pages of the examples, in a browser: what they show of others, of a lost connection, and of the way back.

Time that a page counts is the test's own: `still` stops the page's clock, and `advance` moves it on.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.browser import Browser, Page, browsing, require_browser
from support.examples import Example, play, running

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to end a program gracefully")

PAGES = ("chat", "rooms")
MARKUP = "<b>bold</b> <img src=x onerror=alert(1)> & </script><script>alert(2)</script>"

STATUS = "document.getElementById('status')"
HINT = "document.getElementById('hint')"
TEXT = "document.getElementById('text')"
LOGS = "[...document.querySelectorAll('[role=log]')].find((log) => !log.hidden)"
MEMBERS = "[...document.querySelectorAll('#members li')].map((each) => each.textContent).join()"
OPEN = f"{STATUS}.className === 'open'"
LOST = f"{STATUS}.className === 'lost'"
COUNTDOWN = "document.getElementById('countdown').textContent.match(/next try in (\\d+) s$/)?.[1]"


async def visit(browser: Browser, example: Example, name: str = "") -> Page:
    """The page of an example, as someone of that name where it asks for one."""
    page = await browser.open(f"http://127.0.0.1:{example.port}/")
    if name:
        await submit(page, "join", "name", name)
        await page.until(f"{MEMBERS}.split(',').includes({json.dumps(name)})")
    await page.until(OPEN)
    return page


async def submit(page: Page, form: str, field: str, value: str) -> None:
    await page.evaluate(f"document.getElementById({field!r}).value = {json.dumps(value)}")
    await page.evaluate(f"document.getElementById({form!r}).requestSubmit()")


async def write(page: Page, text: str) -> None:
    await submit(page, "write", "text", text)


def entry(kind: str, *parts: str) -> str:
    """An expression: how many entries of the log have that class and those texts; times do not count."""
    texts = json.dumps(parts)
    return (
        f"[...{LOGS}.children].filter((entry) => entry.className === {kind!r} && JSON.stringify("
        f"[...entry.querySelectorAll('span')].map((part) => part.textContent)) === JSON.stringify({texts})).length"
    )


async def shows(page: Page, kind: str, *parts: str) -> None:
    await page.until(entry(kind, *parts))


async def still(page: Page) -> None:
    await page.evaluate(
        "window.clock = performance.now(), performance.now = () => window.clock,"
        "window.advance = (seconds) => { window.clock += seconds * 1000; }, undefined"
    )


async def advance(page: Page, seconds: float) -> None:
    await page.evaluate(f"advance({seconds})")


@asynccontextmanager
async def chatting(example: str, *names: str) -> AsyncIterator[tuple[Browser, Example, list[Page]]]:
    """An example, and a page of each name, that all see each other; no script of theirs throws."""
    require_browser()
    async with running(example) as server, browsing() as browser:
        pages = [await visit(browser, server, name) for name in names]
        for page in pages:
            await page.until(f"{MEMBERS} === {json.dumps(','.join(sorted(names)))}")
        yield browser, server, pages
        assert [page.errors for page in pages] == [[]] * len(pages)


# ---- a lost connection -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_the_page_counts_down_and_connects_again(name: str) -> None:
    require_browser()

    async def scenario() -> None:
        async with browsing() as browser:
            async with running(name) as example:
                page = await visit(browser, example, "Alice")
                await still(page)
            await page.until(LOST)
            first = int(await page.evaluate(COUNTDOWN))
            assert 2 <= first <= 4, "the server says when to come back"
            await advance(page, 1)
            await page.until(f"{COUNTDOWN} === '{first - 1}'")
            await advance(page, 0.9)
            assert await page.evaluate(f"document.getElementById('banner').hidden || {LOST}")
            await page.evaluate(
                "window.attempts = 0, new MutationObserver(() => attempts++).observe(banner, "
                "{attributes: true, attributeFilter: ['hidden']}), undefined"
            )
            await advance(page, 3)
            await page.until(f"attempts >= 2 && {LOST}")
            async with running(name, example.port):
                await page.evaluate("document.getElementById('now').click()")
                await page.until(OPEN)
                assert await page.evaluate("document.getElementById('banner').hidden")
            assert page.errors == []

    play(scenario)


@pytest.mark.parametrize("name", ["chat", "rooms"])
def test_nothing_that_is_written_offline_is_lost(name: str) -> None:
    async def scenario() -> None:
        async with chatting(name, "Alice") as (_, _, [alice]):
            await still(alice)
            await alice.evaluate("ws.close()")
            await alice.until(LOST)
            await write(alice, "Are you there?")
            await alice.until(f"{HINT}.textContent.startsWith('Not sent: ')")
            assert await alice.evaluate(f"{TEXT}.value") == "Are you there?"
            await alice.evaluate("document.getElementById('now').click()")
            await alice.until(f"{HINT}.textContent.includes('Enter sends')")
            await alice.evaluate("document.getElementById('write').requestSubmit()")
            await shows(alice, "message mine", "Alice", "Are you there?")
            assert await alice.evaluate(f"{TEXT}.value + {HINT}.textContent") == ""

    play(scenario)


@pytest.mark.parametrize("name", ["chat", "rooms"])
def test_a_text_that_does_not_come_back_returns_to_its_writer(name: str) -> None:
    async def scenario() -> None:
        async with chatting(name, "Alice") as (_, _, [alice]):
            await still(alice)
            await alice.evaluate("ws.onmessage = null")
            await write(alice, "Hello")
            assert await alice.evaluate(f"{TEXT}.value") == ""
            await alice.evaluate("ws.close()")
            await alice.until(f"{TEXT}.value === 'Hello' && {HINT}.textContent.includes('perhaps')")

    play(scenario)


@pytest.mark.parametrize("name", ["chat", "rooms"])
def test_a_restart_announces_no_member_again(name: str) -> None:
    require_browser()

    async def scenario() -> None:
        async with browsing() as browser:
            async with running(name) as example:
                alice, bob = await visit(browser, example, "Alice"), await visit(browser, example, "Bob")
                await shows(alice, "note", "Bob joined")
                await write(alice, "Before")
                await shows(bob, "message", "Alice", "Before")
            await alice.until(LOST)
            await bob.until(LOST)
            async with running(name, example.port):
                for page in (alice, bob):
                    await page.evaluate("document.getElementById('now').click()")
                for page in (alice, bob):
                    await page.until(f"{OPEN} && {MEMBERS} === 'Alice,Bob'")
                await write(bob, "After")
                await shows(alice, "message", "Bob", "After")
                await shows(bob, "message mine", "Bob", "After")
                for page in (alice, bob):
                    assert await page.evaluate(f"{LOGS}.textContent.split('Bob joined').length") == 2
                    assert not await page.evaluate(f"/left|is back/.test({LOGS}.textContent)")
                    assert await page.evaluate(f"/Before/.test({LOGS}.textContent)")
            assert alice.errors == bob.errors == []

    play(scenario)


@pytest.mark.parametrize("name", ["chat", "rooms"])
def test_a_member_that_was_seen_to_leave_is_back(name: str) -> None:
    async def scenario() -> None:
        async with chatting(name, "Alice", "Bob") as (_, _, [alice, bob]):
            await still(bob)
            await bob.evaluate("ws.close()")
            await shows(alice, "note", "Bob left")
            await alice.until(f"{MEMBERS} === 'Alice'")
            await bob.until(LOST)
            await bob.evaluate("document.getElementById('now').click()")
            await shows(alice, "note", "Bob is back")
            await alice.until(f"{MEMBERS} === 'Alice,Bob'")

    play(scenario)


# ---- what others write -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chat", "rooms"])
def test_two_pages_chat(name: str) -> None:
    async def scenario() -> None:
        async with chatting(name, "Alice", "<i>Bob</i>") as (_, _, [alice, bob]):
            await shows(alice, "note", "Alice joined")
            await shows(alice, "note", "<i>Bob</i> joined")
            await write(alice, "Hello")
            await shows(alice, "message mine", "Alice", "Hello")
            await shows(bob, "message", "Alice", "Hello")
            await write(bob, MARKUP)
            await shows(alice, "message", "<i>Bob</i>", MARKUP)
            assert await alice.evaluate("document.querySelectorAll('main :is(b, i, img, script)').length") == 0
            times = await alice.evaluate(f"[...{LOGS}.children].map((each) => each.querySelector('time').dateTime)")
            assert len(times) == 4 and all(re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:.]+Z", each) for each in times)
            await bob.evaluate("""ws.send('{"type": "message", "room": "Lobby"}')""")
            await shows(bob, "error", "'text' must be a string")
            await bob.close()
            await shows(alice, "note", "<i>Bob</i> left")
            await alice.until(f"{MEMBERS} === 'Alice' && document.getElementById('count').textContent === 'Here: 1'")

    play(scenario)


@pytest.mark.parametrize("name", ["chat", "rooms"])
def test_a_name_that_is_refused_is_asked_for_again(name: str) -> None:
    async def scenario() -> None:
        async with chatting(name) as (browser, example, _):
            page = await browser.open(f"http://127.0.0.1:{example.port}/")
            await submit(page, "join", "name", "\U0001f469\u200d\U0001f4bb")
            await page.until("document.getElementById('refused').textContent.endsWith('control characters')")
            assert not await page.evaluate("document.getElementById('join').hidden")
            await submit(page, "join", "name", "Alice")
            await page.until(f"{MEMBERS} === 'Alice'")
            await shows(page, "note", "Alice joined")
            assert await page.evaluate("document.getElementById('join').hidden")
            assert page.errors == []

    play(scenario)


# ---- rooms.html ------------------------------------------------------------------------------------------------------

ROOM = "[...document.querySelectorAll('#rooms button')].find((each) => each.textContent.startsWith({name!r}))"


async def go_to(page: Page, name: str) -> None:
    await page.evaluate(f"{ROOM.format(name=name)}.click()")


def label(name: str) -> str:
    return f"{ROOM.format(name=name)}.ariaLabel"


def test_rooms_are_apart() -> None:
    async def scenario() -> None:
        async with chatting("rooms", "Alice", "Bob") as (_, _, [alice, bob]):
            await alice.until(f"{label('Lobby')} === 'Lobby, 2 here' && {label('Tea')} === 'Tea, 0 here'")
            await go_to(alice, "Tea")
            await alice.until(f"{MEMBERS} === 'Alice'")
            await write(alice, "Anyone for tea?")
            await shows(alice, "message mine", "Alice", "Anyone for tea?")
            await bob.until(f"{label('Tea')} === 'Tea, 1 here'")
            await write(bob, "Where is Alice?")
            await alice.until(f"{label('Lobby')} === 'Lobby, 2 here, 1 unread'")
            assert not await alice.evaluate(entry("message", "Bob", "Where is Alice?"))
            await alice.evaluate(f"{TEXT}.value = 'half a sen'")
            await go_to(alice, "Lobby")
            assert await alice.evaluate(entry("message", "Bob", "Where is Alice?"))
            assert await alice.evaluate(f"{TEXT}.value + {label('Lobby')}") == "Lobby, 2 here"
            await go_to(alice, "Tea")
            assert await alice.evaluate(f"{TEXT}.value") == "half a sen"
            await go_to(bob, "Tea")
            await shows(bob, "message", "Alice", "Anyone for tea?")
            assert not await bob.evaluate(entry("message mine", "Bob", "Where is Alice?"))
            await alice.until(f"{MEMBERS} === 'Alice,Bob'")
            await bob.evaluate("document.getElementById('leave').click()")
            await shows(alice, "note", "Bob left")
            await alice.until(f"{label('Tea')} === 'Tea, 1 here'")
            assert await bob.evaluate(f"{MEMBERS}") == "Alice,Bob", "it is in the lobby again"
            await submit(bob, "make", "new", MARKUP[:20])
            await alice.until(f"{ROOM.format(name=MARKUP[:20])}")
            assert await alice.evaluate("document.querySelectorAll('main :is(b, img)').length") == 0

    play(scenario)


def test_typing_is_shown_to_the_others_of_the_room() -> None:
    async def scenario() -> None:
        async with chatting("rooms", "Alice", "Bob", "Carol") as (_, _, [alice, bob, carol]):
            await go_to(carol, "Tea")
            await carol.until(f"{MEMBERS} === 'Carol'")
            await still(bob)
            await alice.evaluate(f"{TEXT}.value = 'H', {TEXT}.dispatchEvent(new Event('input'))")
            typing = "document.getElementById('typing').textContent"
            await bob.until(f"{typing} === 'Alice is typing …'")
            await advance(bob, 5)
            await bob.until(f"{typing} === ''")
            await alice.evaluate(f"toldTyping = -Infinity, {TEXT}.dispatchEvent(new Event('input'))")
            await bob.until(f"{typing} === 'Alice is typing …'")
            await alice.evaluate("document.getElementById('write').requestSubmit()")
            await shows(bob, "message", "Alice", "H")
            await shows(alice, "message mine", "Alice", "H")
            for page in (alice, bob, carol):
                assert await page.evaluate(typing) == ""

    play(scenario)


def test_what_was_said_meanwhile_is_caught_up_on_once() -> None:
    async def scenario() -> None:
        async with chatting("rooms", "Alice", "Bob") as (_, _, [alice, bob]):
            await write(bob, "one")
            await shows(alice, "message", "Bob", "one")
            await still(alice)
            await alice.evaluate("ws.close()")
            await alice.until(LOST)
            await write(bob, "two")
            await shows(bob, "message mine", "Bob", "two")
            await alice.evaluate("document.getElementById('now').click()")
            await shows(alice, "message", "Bob", "two")
            assert await alice.evaluate(entry("message", "Bob", "one")) == 1

    play(scenario)


# ---- how they look ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_the_page_fits(name: str, width: int) -> None:
    require_browser()

    async def scenario() -> None:
        async with browsing() as browser:
            async with running(name) as example:
                page = await browser.open("about:blank")
                size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
                await page.call("Emulation.setDeviceMetricsOverride", **size)
                page.loaded.clear()
                await page.call("Page.navigate", url=f"http://127.0.0.1:{example.port}/")
                await page.loaded.wait()
                await submit(page, "join", "name", "W" * 32)
                await page.until(MEMBERS)
                await write(page, "W" * 300)
                await page.until(f"{LOGS}.textContent.includes('WWW' + 'W'.repeat(290))")
                await page.until(OPEN)
                assert await page.evaluate("document.documentElement.scrollWidth") <= width
                for selector in ("header", "#status", "#send"):
                    box = await page.evaluate(f"document.querySelector('{selector}').getBoundingClientRect().toJSON()")
                    assert 0 <= box["left"] < box["right"] <= width and 0 <= box["top"] < box["bottom"] <= 800, selector
            await page.until(LOST)
            box = await page.evaluate("document.getElementById('now').getBoundingClientRect().toJSON()")
            assert 0 < box["width"] and box["right"] <= width and box["bottom"] <= 800

    play(scenario)
