"""The example within FastAPI, and its page in a browser."""

from __future__ import annotations

import json
import signal
import sys

import pytest
from support.browser import browsing, require_browser
from support.client import connect, tcp
from support.examples import Example, play, running
from websockets.exceptions import InvalidStatus

pytest.importorskip("uvicorn", reason="needs the group `asgi`")
pytest.importorskip("fastapi", reason="needs the group `asgi`")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to end a program gracefully")

ENDED = -signal.SIGTERM
"""uvicorn ends in order, and then of the signal itself."""


async def post(example: Example, path: str, data: object, user: str = "") -> tuple[int, object]:
    """The status of an answer, and its data."""
    body = json.dumps(data)
    cookie = f"Cookie: user={user}\r\n" if user else ""
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{cookie}"
    async with tcp(example) as client:
        await client.send(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = await client.answer()
        return answer.status, json.loads(answer.body)


def test_notifications() -> None:
    async def scenario() -> None:
        async with running("fastapi_notifications", code=ENDED) as example:
            with pytest.raises(InvalidStatus) as refused:
                await connect(example, "/notifications")
            assert refused.value.response.status_code == 401
            assert (await post(example, "/notify", {"to": "ann", "text": "x"}))[0] == 401
            for name in ("ann", "bob"):
                assert await post(example, "/login", {"name": name}) == (200, {"name": name})
            assert (await post(example, "/login", {"name": "<b>"}))[0] == 422
            assert (await post(example, "/notify", {"to": "carol", "text": "x"}, "ann"))[0] == 404
            first = {"to": "bob", "text": "are you there?"}
            assert await post(example, "/notify", first, "ann") == (200, {"connections": 0})
            headers = {"Cookie": "user=bob"}
            async with connect(example, "/notifications", additional_headers=headers) as phone:
                assert json.loads(await phone.recv())["text"] == "are you there?"
                async with connect(example, "/notifications", additional_headers=headers) as tab:
                    assert json.loads(await tab.recv())["text"] == "are you there?"
                    second = {"to": "bob", "text": "now"}
                    assert await post(example, "/notify", second, "ann") == (200, {"connections": 2})
                    for each in (phone, tab):
                        told = json.loads(await each.recv())
                        assert (told["from"], told["text"]) == ("ann", "now")

    play(scenario)


MARKUP = "<b>bold</b> <img src=x onerror=alert(1)>"
LIST = "[...document.querySelectorAll('#list .text')].map((each) => each.textContent).join()"


def test_the_page() -> None:
    require_browser()

    async def scenario() -> None:
        async with running("fastapi_notifications", code=ENDED) as example, browsing() as browser:
            page = await browser.open(f"http://127.0.0.1:{example.port}/")
            await page.evaluate("document.getElementById('name').value = 'a b'")
            await page.evaluate("document.getElementById('login').requestSubmit()")
            await page.until("document.getElementById('refused').textContent.includes('pattern')")
            await page.evaluate("document.getElementById('name').value = 'ann'")
            await page.evaluate("document.getElementById('login').requestSubmit()")
            await page.until("document.getElementById('status').textContent === 'connected as ann'")
            assert await post(example, "/login", {"name": "bob"}) == (200, {"name": "bob"})
            assert await post(example, "/notify", {"to": "ann", "text": MARKUP}, "bob") == (200, {"connections": 1})
            await page.until(f"{LIST} === {json.dumps(MARKUP)}")
            for to, hint in (("bob", "bob is not here, and gets it later."), ("carol", "there is no carol")):
                await page.evaluate(f"document.getElementById('to').value = {json.dumps(to)}")
                await page.evaluate("document.getElementById('text').value = 'hello'")
                await page.evaluate("document.getElementById('notify').requestSubmit()")
                await page.until(f"document.getElementById('hint').textContent === {json.dumps(hint)}")
            assert page.errors == []

    play(scenario)
