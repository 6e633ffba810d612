"""The examples, each started as its user does: a process of its own, with PORT=0, that the log says the port of.

They are talked to by the `websockets` library. On SIGTERM they exit with code 0. test_example_rooms.py has
the rooms, and test_example_pages.py the pages.
"""

from __future__ import annotations

import hmac
import json
import re
import sys
from base64 import b64encode

import pytest
from support.browser import browsing, require_browser
from support.client import Answer, connect, request, tcp
from support.examples import EXAMPLES, Example, gone, joined, page_of, play, running, said, say
from websockets.exceptions import ConnectionClosed, InvalidStatus

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to end a program gracefully")


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


def here(*names: str) -> dict[str, object]:
    return {"type": "members", "users": list(names)}


def test_chat() -> None:
    async def scenario() -> None:
        async with running("chat") as example, connect(example) as alice:
            async with connect(example) as bob:
                await say(alice, type="join", username="  Alice ")
                assert await said(alice) == here("Alice")
                assert await said(alice) == await said(bob) == joined("Alice")
                await say(bob, type="join", username="Bob", back=True)
                assert await said(bob) == here("Alice", "Bob")
                assert await said(alice) == await said(bob) == joined("Bob", back=True)
                await say(bob, type="message", text='"Quotes", \\ and \u20ac \U0001f44d')
                for client in (alice, bob):
                    assert await said(client) == {
                        "type": "message",
                        "user": "Bob",
                        "text": '"Quotes", \\ and \u20ac \U0001f44d',
                    }
            assert await said(alice) == gone("Bob")

    play(scenario)


def test_chat_has_one_member_of_a_name() -> None:
    async def scenario() -> None:
        async with running("chat") as example, connect(example) as alice:
            await say(alice, type="join", username="Alice")
            assert await said(alice) == here("Alice") and await said(alice) == joined("Alice")
            async with connect(example) as again:
                await say(again, type="join", username="Alice")
                assert await said(again) == here("Alice")
            async with connect(example) as other:
                await say(other, type="join", username="Bob")
                assert await said(other) == here("Alice", "Bob")
                assert await said(alice) == await said(other) == joined("Bob")
                await say(other, type="join", username="Carol")
                assert await said(alice) == await said(other) == gone("Bob")
                assert await said(other) == here("Alice", "Carol")
                assert await said(alice) == joined("Carol")

    play(scenario)


def test_chat_says_which_of_those_who_leave_come_back() -> None:
    """They that a restart sends away. One that closed nothing is still there to hear of the other."""

    async def scenario() -> None:
        async with running("chat") as example:
            witness = await connect(example)
            async with connect(example) as client:
                await say(client, type="join", username="Alice")
                await client.recv()
                await client.close(1012)
            assert await said(witness) == joined("Alice")
            assert await said(witness) == gone("Alice", restart=True)

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
    '{"type":"message","text":"Hello"}': "'join' comes first",
}


def test_chat_answers_what_is_wrong_to_its_sender_only() -> None:
    async def scenario() -> None:
        async with running("chat") as example, connect(example) as alice, connect(example) as bob:
            for message, error in WRONG.items():
                await bob.send(message)
                assert await said(bob) == {"type": "error", "text": error}, message[:40]
            await say(bob, type="join", username="Bob")
            assert await said(bob) == here("Bob") and await said(bob) == await said(alice) == joined("Bob")
            await say(bob, type="message", text="\U0001f44d" * 2000)
            assert await said(bob) == await said(alice)
            await alice.send(b"binary")
            with pytest.raises(ConnectionClosed) as closed:
                await alice.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1003
            await bob.send("x" * 40_000)
            with pytest.raises(ConnectionClosed) as closed:
                await bob.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009

    play(scenario)


@pytest.mark.parametrize("name", ["chat", "rooms", "ticker"])
def test_examples_serve_their_pages(name: str) -> None:
    async def scenario() -> None:
        async with running(name) as example, tcp(example) as client:
            assert await page_of(client) == (EXAMPLES / f"{name}.html").read_bytes()

    play(scenario)


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
                first = [json.loads(await client.recv()) for _ in range(6)]
                assert {each["symbol"] for each in first} == {"AAPL", "AMZN", "BRK.A", "GOOG", "MSFT", "NVDA"}
                quote = json.loads(await client.recv())
                assert set(quote) == {"symbol", "price", "open", "time"} and quote["price"] > 0
                before = {each["symbol"]: each["time"] for each in first}
                assert quote["time"] >= before[quote["symbol"]] >= 1_700_000_000

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
            await page.until("document.getElementById('status').textContent.startsWith('Not connected')")
            await page.evaluate(f"document.cookie = {json.dumps(signed('alice.9999999999'))}")
            page = await browser.open(f"http://127.0.0.1:{example.port}/")
            await page.until("document.getElementById('status').textContent === 'Hello, alice!'")

    play(scenario)
