"""The examples, each started as its user does: a process of its own, with PORT=0, that the log says the port of.

They are talked to by the `websockets` library, and the chat by its page in a browser. On SIGTERM they exit with code 0.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import re
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.browser import Page, browsing, require_browser
from support.client import GUARD, Answer, Client, connect, request, tcp
from websockets.exceptions import ConnectionClosed, InvalidStatus

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to end a program gracefully")


@dataclass
class Example:
    """A running example: where it listens, and what it has written once it has ended."""

    host: str
    port: int
    stdout: str = ""
    stderr: str = ""


@asynccontextmanager
async def running(name: str, port: int = 0) -> AsyncIterator[Example]:
    """Start an example; at the end terminate it, and see that it ends well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / f"{name}.py"),
        env={**os.environ, "HOST": "127.0.0.1", "PORT": str(port)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(GUARD):
            line = (await process.stderr.readline()).decode()
        listening = re.search(r"Listening on http://([\d.]+):(\d+) ", line)
        assert listening is not None, line + (await process.stderr.read()).decode()
        example = Example(listening[1], int(listening[2]))
        yield example
        process.terminate()
        async with asyncio.timeout(GUARD):
            stdout, stderr = await process.communicate()
        example.stdout, example.stderr = stdout.decode(), stderr.decode()
        assert process.returncode == 0, example.stderr
        assert "Traceback" not in example.stderr and "ERROR" not in example.stderr
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(3 * GUARD):
            await scenario()

    asyncio.run(main())


# ---- quickstart.py ---------------------------------------------------------------------------------------------------


def test_quickstart() -> None:
    async def scenario() -> None:
        async with running("quickstart") as example:
            async with connect(example) as one, connect(example) as other:
                assert await one.recv() == await other.recv() == '{"type":"welcome","message":"Connected!"}'
                await one.send("Hello")
                assert await one.recv() == await other.recv() == "Hello"
            left_open = await connect(example)
        await left_open.wait_closed()
        assert left_open.close_code == 1012
        connected = re.findall(r"^Client connected: (\S+)$", example.stdout, re.MULTILINE)
        assert len(connected) == len(set(connected)) == 3
        assert sorted(re.findall(r"^Client disconnected: (\S+)$", example.stdout, re.MULTILINE)) == sorted(connected)
        assert "Received: Hello\n" in example.stdout

    play(scenario)


# ---- chat.py ---------------------------------------------------------------------------------------------------------


async def said(client: Any) -> Any:
    return json.loads(await client.recv())


async def say(client: Any, **fields: object) -> None:
    await client.send(json.dumps(fields))


def test_chat() -> None:
    async def scenario() -> None:
        async with running("chat") as example, connect(example) as alice:
            async with connect(example) as bob:
                await say(alice, type="join", username="  Alice ")
                assert await said(alice) == await said(bob) == {"type": "join", "user": "Alice"}
                await say(bob, type="join", username="Bob")
                assert await said(alice) == await said(bob) == {"type": "join", "user": "Bob"}
                await say(bob, type="message", text='"Quotes", \\ and \u20ac \U0001f44d')
                for client in (alice, bob):
                    assert await said(client) == {
                        "type": "message",
                        "user": "Bob",
                        "text": '"Quotes", \\ and \u20ac \U0001f44d',
                    }
            assert await said(alice) == {"type": "leave", "user": "Bob"}

    play(scenario)


WRONG = {
    "Hello": "a message must be JSON",
    "": "a message must be JSON",
    "[" * 20000: "a message must be JSON",
    "1" * 5000: "a message must be JSON",
    "[]": "a message must be a JSON object",
    "null": "a message must be a JSON object",
    "{}": "'type' must be 'join' or 'message'",
    '{"type":["join"]}': "'type' must be 'join' or 'message'",
    '{"type":"leave","user":"Bob"}': "'type' must be 'join' or 'message'",
    '{"type":"join"}': "'username' must be a string",
    '{"type":"join","username":7}': "'username' must be a string",
    '{"type":"join","username":null}': "'username' must be a string",
    '{"type":"join","username":"  "}': "'username' must have 1 to 32 characters",
    '{"type":"join","username":"%s"}' % ("x" * 33): "'username' must have 1 to 32 characters",
    '{"type":"join","username":"a\\u0007b"}': "'username' must not have control characters",
    '{"type":"join","username":"\\ud800"}': "'username' must not have control characters",
    '{"type":"message"}': "'text' must be a string",
    '{"type":"message","text":{"text":"x"}}': "'text' must be a string",
    '{"type":"message","text":""}': "'text' must have 1 to 2000 characters",
    '{"type":"message","text":"%s"}' % ("x" * 2001): "'text' must have 1 to 2000 characters",
}


def test_chat_answers_what_is_wrong_to_its_sender_only() -> None:
    async def scenario() -> None:
        async with running("chat") as example, connect(example) as alice, connect(example) as bob:
            for message, error in WRONG.items():
                await bob.send(message)
                assert await said(bob) == {"type": "error", "text": error}, message[:40]
            await say(bob, type="message", text="\U0001f44d" * 2000)
            assert await said(bob) == await said(alice)
            await alice.send(b"binary")
            with pytest.raises(ConnectionClosed) as closed:
                await alice.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1003
            assert await said(bob) == {"type": "leave", "user": "Anonymous"}
            await bob.send("x" * 40_000)
            with pytest.raises(ConnectionClosed) as closed:
                await bob.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009

    play(scenario)


def test_chat_serves_its_page() -> None:
    async def scenario() -> None:
        async with running("chat") as example, tcp(example) as client:
            assert await page_of(client) == (EXAMPLES / "chat.html").read_bytes()

    play(scenario)


async def page_of(client: Client) -> bytes:
    await client.send(request("/"))
    answer = await client.answer()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return answer.body


def test_port_in_use() -> None:
    async def scenario() -> None:
        async with running("chat") as example:
            with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{example.port}: the port is in use"):
                async with running("chat", example.port):
                    pass

    play(scenario)


# ---- ticker.py -------------------------------------------------------------------------------------------------------


def test_ticker() -> None:
    async def scenario() -> None:
        async with running("ticker") as example:
            async with connect(example) as client:
                first = [json.loads(await client.recv()) for _ in range(5)]
                assert {each["symbol"] for each in first} == {"AAPL", "AMZN", "GOOG", "MSFT", "NVDA"}
                quote = json.loads(await client.recv())
                assert set(quote) == {"symbol", "price"} and quote["price"] > 0
            async with tcp(example) as client:
                assert await page_of(client) == (EXAMPLES / "ticker.html").read_bytes()

    play(scenario)


# ---- authentication.py -----------------------------------------------------------------------------------------------


async def at(example: Example, path: str, **headers: str) -> Answer:
    """What a page answers."""
    async with tcp(example) as client:
        await client.send(request(path, {"Host": "test", **headers}))
        return await client.answer()


async def greeting(example: Example, path: str = "/ws", **headers: str) -> str:
    async with connect(example, path, additional_headers=headers) as client:
        return str(await client.recv())


async def status(example: Example, path: str = "/ws", **headers: str) -> int:
    """The status of a refused handshake."""
    with pytest.raises(InvalidStatus) as raised:
        await greeting(example, path, **headers)
    return raised.value.response.status_code


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TOKEN", "t0ken"), ("PASSWORD", "pass:w\u00f6rd"), ("SECRET", "secret")):
        monkeypatch.setenv(name, value)


def signed(text: str, secret: str = "secret") -> str:
    signature = hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()
    return f"session={text}.{signature}"


def test_authentication_by_token(keys: None) -> None:
    async def scenario() -> None:
        async with running("authentication") as example:
            assert await greeting(example, Authorization="Bearer t0ken") == "Hello, program!"
            for wrong in ("Bearer t0keN", "Bearer ", "t0ken", "Basic t0ken"):
                assert await status(example, Authorization=wrong) == 401
            assert await status(example) == 401

    play(scenario)


def test_authentication_by_cookie(keys: None) -> None:
    async def scenario() -> None:
        async with running("authentication") as example:
            credentials = b64encode("alice:pass:w\u00f6rd".encode()).decode()
            assert (await at(example, "/login", Authorization=credentials)).status == 401
            answer = await at(example, "/login", Authorization=f"Basic {credentials}")
            assert (answer.status, answer.headers["location"]) == (303, "/")
            cookie, _, rest = answer.headers["set-cookie"].partition("; ")
            assert "HttpOnly" in rest and "SameSite=Strict" in rest
            assert await greeting(example, Cookie=cookie) == "Hello, alice!"
            assert await greeting(example, Cookie=signed("alice.9999999999")) == "Hello, alice!"
            forged = [signed("alice.9999999999", "guess"), signed("alice.1"), cookie[:-1], "session=", "session=.."]
            forged += [cookie.replace("alice", "admin"), "session=\xff.\xff.\xff"]
            for wrong in forged:
                assert await status(example, Cookie=wrong) == 401
            assert await status(example, Cookie=cookie, Origin="https://evil.example") == 403

    play(scenario)


def test_authentication_by_ticket(keys: None) -> None:
    async def scenario() -> None:
        async with running("authentication") as example:
            assert (await at(example, "/ticket")).status == 401
            answer = await at(example, "/ticket", Cookie=signed("alice.9999999999"))
            assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
            ticket = answer.body.decode()
            assert await status(example, f"/ws?ticket={ticket[:-1]}") == 401
            assert await greeting(example, f"/ws?ticket={ticket}") == "Hello, alice!"
            assert await status(example, f"/ws?ticket={ticket}") == 401

    play(scenario)


def test_authentication_of_a_page_of_another_origin(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the example's text says: its server gets the ticket, and ORIGINS lets the page in."""

    async def scenario() -> None:
        async def ticket(example: Example, path: str = "/ticket?user=bob") -> str:
            answer = await at(example, path, Authorization="Bearer t0ken")
            assert answer.status == 200
            return f"/ws?ticket={answer.body.decode()}"

        page = "https://b.example"
        async with running("authentication") as example:
            assert await status(example, await ticket(example), Origin=page) == 403
        monkeypatch.setenv("ORIGINS", "https://a.example https://b.example")
        async with running("authentication") as example:
            assert await greeting(example, await ticket(example), Origin=page) == "Hello, bob!"
            assert await greeting(example, await ticket(example, "/ticket")) == "Hello, program!"
            assert await status(example, await ticket(example), Origin="https://evil.example") == 403
            assert await status(example, Origin=page) == 401
            answer = await at(example, "/ticket?user=bob", Cookie=signed("alice.9999999999"))
            own = f"http://127.0.0.1:{example.port}"
            assert await greeting(example, f"/ws?ticket={answer.body.decode()}", Origin=own) == "Hello, alice!"

    play(scenario)


def test_authentication_makes_up_what_it_is_not_told() -> None:
    async def scenario() -> None:
        async with running("authentication") as example:
            assert (await at(example, "/")).status == 200
        token = re.search(r"^TOKEN=(\S{20,})$", example.stdout, re.MULTILINE)
        assert token is not None and re.search(r"^PASSWORD=\S{20,}$", example.stdout, re.MULTILINE)

    play(scenario)


def test_the_page_signs_in(keys: None) -> None:
    require_browser()

    async def scenario() -> None:
        async with running("authentication") as example, browsing() as browser:
            page = await browser.open(f"http://127.0.0.1:{example.port}/")
            await page.until(f"{STATUS}.textContent.startsWith('Not connected')")
            await page.evaluate(f"document.cookie = {json.dumps(signed('alice.9999999999'))}")
            page = await browser.open(f"http://127.0.0.1:{example.port}/")
            await page.until(f"{STATUS}.textContent === 'Hello, alice!'")

    play(scenario)


# ---- chat.html -------------------------------------------------------------------------------------------------------

STATUS = "document.getElementById('status')"
LOG = "document.getElementById('log')"


async def submit(page: Page, form: str, field: str, value: str) -> None:
    await page.evaluate(f"document.getElementById({field!r}).value = {json.dumps(value)}")
    await page.evaluate(f"document.getElementById({form!r}).requestSubmit()")


async def join(page: Page, name: str) -> None:
    await submit(page, "join", "name", name)
    await page.until(f"{STATUS}.className === 'open'")


async def write(page: Page, text: str) -> None:
    await submit(page, "write", "text", text)


async def shows(page: Page, kind: str, *parts: str) -> None:
    """Wait for an entry in the log: its class, and its texts."""
    texts = json.dumps(parts)
    await page.until(
        f"[...{LOG}.children].some((entry) => entry.className === {kind!r} && "
        f"JSON.stringify([...entry.children].map((part) => part.textContent)) === JSON.stringify({texts}))"
    )


def test_two_pages_chat() -> None:
    require_browser()

    async def scenario() -> None:
        markup = "<b>bold</b> <img src=x onerror=alert(1)> & </script><script>alert(2)</script>"
        async with running("chat") as example, browsing() as browser:
            address = f"http://127.0.0.1:{example.port}/"
            alice, bob = await browser.open(address), await browser.open(address)
            await join(alice, "Alice")
            await join(bob, "<i>Bob</i>")
            await shows(alice, "note", "Alice joined")
            await shows(alice, "note", "<i>Bob</i> joined")
            await write(alice, "Hello")
            await shows(alice, "message mine", "Alice", "Hello")
            await shows(bob, "message", "Alice", "Hello")
            await write(bob, markup)
            await shows(alice, "message", "<i>Bob</i>", markup)
            assert await alice.evaluate(f"{LOG}.querySelectorAll('b, i, img, script').length") == 0
            await bob.evaluate("ws.send('{}')")
            await shows(bob, "error", "'type' must be 'join' or 'message'")
            await bob.close()
            await shows(alice, "note", "<i>Bob</i> left")
            assert alice.errors == [] and bob.errors == []

    play(scenario)


def test_the_page_reconnects() -> None:
    require_browser()

    async def scenario() -> None:
        async with browsing() as browser:
            async with running("chat") as example:
                alice = await browser.open(f"http://127.0.0.1:{example.port}/")
                await join(alice, "Alice")
                await alice.until(f"{LOG}.innerText.includes('Alice joined')")
            as_told = f"/next try in [2345] s/.test({STATUS}.textContent)"
            await alice.until(f"{STATUS}.className === 'lost' && {as_told}")
            assert await alice.evaluate("document.getElementById('send').disabled")
            async with running("chat", example.port):
                await alice.until(f"{STATUS}.className === 'open'")
                await alice.until(f"{LOG}.innerText.split('Alice joined').length >= 3")
                assert not await alice.evaluate("document.getElementById('send').disabled")
                await write(alice, "Back again")
                await shows(alice, "message mine", "Alice", "Back again")
            assert alice.errors == []

    play(scenario)
