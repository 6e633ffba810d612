"""The documents are true: every snippet in them is run here, and the reference has the names, signatures and defaults.

A snippet is a fence of Python or JavaScript. CHECKS has a test for each, by its document and section, and one without
is a failure. A snippet that imports App is a whole program; all others are fragments, which find the names that the
documents use: `app`, and `ws`, the server mounted at /ws (`prelude`). Those that use `conn` run in a handler.

`App.run` only records how it was called: the app is then served on a free port, to a client that is not crest's.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
import json
import logging
import queue
import re
import shutil
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.browser import browsing, require_browser
from support.certificates import Pair
from support.client import GUARD, PING, PONG, TEXT, Answer, Server, connect, frame, handshake, request, tcp, upgraded
from support.documents import FENCES, NOT_RUN, READ, ROOT, RUN, SNIPPETS, Fence, read, slug
from support.events import Events
from support.foreign import free_socket, haproxy_on, needs_haproxy, needs_nginx, nginx
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

import crest
from crest import App, WebSocketServer

Names = dict[str, Any]
Scenario = Callable[[Server], Awaitable[None]]


# ---- Running a snippet -----------------------------------------------------------------------------------------------


def prelude() -> Names:
    """The names that fragments use."""
    app, ws = App(), WebSocketServer()
    app.mount("/ws", ws)
    return {"app": app, "ws": ws}


class Stage:
    """One snippet, and what its check needs to run it.

    Attributes:
        runs: The calls of `App.run`: app, host and port.
        listens: What the last of them said of where to listen, as arguments of `App.listening`.
    """

    def __init__(
        self, snippet: Fence, monkeypatch: pytest.MonkeyPatch, output: Callable[[], str], folder: Path
    ) -> None:
        self.snippet = snippet
        self.monkeypatch = monkeypatch
        self.output = output
        self.folder = folder
        self.runs: list[tuple[App, object, object]] = []
        self.listens: dict[str, Any] = {}
        self._run = inspect.signature(App.run)
        monkeypatch.setattr(App, "run", lambda *args, **options: self._record(*args, **options))

    def _record(self, *args: Any, **options: Any) -> None:
        call = self._run.bind(*args, **options)
        self.listens = {name: value for name, value in call.arguments.items() if name not in ("self", "host", "port")}
        call.apply_defaults()
        self.runs.append((call.arguments["self"], call.arguments["host"], call.arguments["port"]))

    def execute(self, names: Names | None = None) -> Names:
        """Run the snippet, with these names; returns all names afterwards. Tracebacks show the document's lines."""
        names = {"__name__": "__main__", **(names or {})}
        source = "\n" * (self.snippet.line - 1) + self.snippet.code
        exec(compile(source, str(ROOT / self.snippet.document), "exec"), names)
        return names

    def fragment(self) -> Names:
        """Run the snippet as a fragment."""
        return self.execute(prelude())

    def serve(self, app: App, scenario: Scenario) -> None:
        """Play a scenario against the app."""

        async def main() -> None:
            async with asyncio.timeout(3 * GUARD), app.listening("127.0.0.1", 0) as server:
                await scenario(server)

        asyncio.run(main())


Check = Callable[[Stage], None]
CHECKS: dict[str, Check] = {}


def check(key: str) -> Callable[[Check], Check]:
    """Make a function the test of a snippet."""

    def register(function: Check) -> Check:
        assert key not in CHECKS, key
        CHECKS[key] = function
        return function

    return register


LOGGED = {"websocket#on-error": 1}
"""Snippets whose handlers raise, and how often."""


@pytest.mark.parametrize("key", SNIPPETS)
def test_snippet(
    key: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    snippet = SNIPPETS[key]
    assert key in CHECKS, f"the snippet at {snippet.document}:{snippet.line} has no test"
    CHECKS[key](Stage(snippet, monkeypatch, lambda: capsys.readouterr().out, tmp_path))
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == LOGGED.get(key, 0), errors


def test_every_check_has_a_snippet() -> None:
    assert set(CHECKS) == set(SNIPPETS)


def test_fences_say_what_they_are() -> None:
    assert {fence.language for fence in FENCES} <= {*RUN, *NOT_RUN}


async def close_of(client: Any) -> tuple[int, str]:
    """Code and reason of the close frame that comes next."""
    with pytest.raises(ConnectionClosed) as closed:
        await client.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def refusal(server: Server, headers: dict[str, str | None] | None = None, path: str = "/ws") -> tuple[int, bytes]:
    """Status and body that an upgrade request gets."""
    async with tcp(server) as client:
        await client.send(handshake(path, headers))
        answer = await client.answer()
        return answer.status, answer.body


async def get(server: Server, path: str) -> Answer:
    async with tcp(server) as client:
        await client.send(request(path))
        return await client.answer()


# ---- README ----------------------------------------------------------------------------------------------------------


@check("README#a-server-in-ten-lines")
def ten_lines(stage: Stage) -> None:
    app = stage.execute()["app"]
    assert stage.runs == [(app, "0.0.0.0", 8000)]
    assert len(stage.snippet.code.splitlines()) == 10

    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            await one.send("Hello")
            assert await one.recv() == await other.recv() == "Hello"

    stage.serve(app, scenario)


# ---- The guide: basics -----------------------------------------------------------------------------------------------


@check("websocket#basic-usage")
def basic_usage(stage: Stage) -> None:
    app = stage.execute()["app"]
    assert stage.runs == [(app, "0.0.0.0", 8000)]

    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            assert await one.recv() == await other.recv() == '{"type":"welcome","message":"Connected!"}'
            await one.send("Hello")
            assert await one.recv() == await other.recv() == "Hello"

    stage.serve(app, scenario)
    output = stage.output()
    ids = re.findall(r"^Client connected: (\S+)$", output, re.MULTILINE)
    assert len(ids) == 2
    assert sorted(re.findall(r"^Client disconnected: (\S+)$", output, re.MULTILINE)) == sorted(ids)
    assert "Received: Hello\n" in output


def answers(stage: Stage, app: App, message: str | bytes, answer: str | bytes) -> None:
    """Serve, and hold the answer to a client's message against what is expected."""

    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            await client.send(message)
            assert await client.recv() == answer

    stage.serve(app, scenario)


def in_handler(stage: Stage, scenario: Callable[[Any], Awaitable[None]]) -> Names:
    """Run the snippet in `on_connect`, with its `conn`; the scenario gets the client."""
    names = prelude()
    names["ws"].on_connect(lambda conn: names.update(stage.execute({**names, "conn": conn})) or None)

    async def with_client(server: Server) -> None:
        async with connect(server) as client:
            await scenario(client)

    stage.serve(names["app"], with_client)
    return names


@check("websocket#send-messages")
def send_messages(stage: Stage) -> None:
    async def scenario(client: Any) -> None:
        assert await client.recv() == '{"type":"notification","text":"Hello!"}'
        assert await client.recv() == b"\x01\x02\x03"

    in_handler(stage, scenario)


@check("websocket#close-connection")
def close_connection(stage: Stage) -> None:
    async def scenario(client: Any) -> None:
        assert await close_of(client) == (1000, "Normal closure")

    in_handler(stage, scenario)


@check("websocket#check-connection-status")
def check_connection_status(stage: Stage) -> None:
    async def scenario(client: Any) -> None:
        assert await client.recv() == "Still connected!"

    conn = in_handler(stage, scenario)["conn"]
    conn = SimpleNamespace(is_open=conn.is_open, send=lambda text: pytest.fail("it is closed"))
    stage.execute({"conn": conn})


@check("websocket#broadcasting")
def broadcasting(stage: Stage) -> None:
    names = prelude()

    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            stage.execute(names)
            for client in (one, other):
                assert await client.recv() == '{"type":"announcement","text":"Server message"}'
                assert await client.recv() == b"\xff\xfe"

    stage.serve(names["app"], scenario)


@check("websocket#broadcasting/2")
def broadcast_to_some(stage: Stage) -> None:
    names = prelude()

    async def scenario(server: Server) -> None:
        async with connect(server, "/ws?room=lobby") as lobby, connect(server, "/ws?room=cellar") as cellar:
            stage.execute(names)
            names["ws"].broadcast("the end")
            assert await lobby.recv() == "The game begins."
            assert await lobby.recv() == await cellar.recv() == "the end"

    stage.serve(names["app"], scenario)


@check("websocket#broadcasting/3")
def broadcast_from_a_thread(stage: Stage) -> None:
    names = prelude()
    lines: queue.Queue[str | None] = queue.Queue()
    stage.monkeypatch.setattr(sys, "stdin", iter(lines.get, None))

    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            stage.execute(names)
            lines.put("Dinner is ready\n")
            assert await client.recv() == "Dinner is ready"
            lines.put(None)

    stage.serve(names["app"], scenario)


# ---- The guide: handlers ---------------------------------------------------------------------------------------------


@check("websocket#on-connect")
def on_connect(stage: Stage) -> None:
    names = stage.fragment()

    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            assert names["ws"].get_connections()[0].state.score == 0
            assert f"{client.local_address} asked for /ws\n" == stage.output()

    stage.serve(names["app"], scenario)


@check("websocket#on-message")
def on_message(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            await client.send(["in ", "three ", "fragments"])
            assert await client.recv() == "IN THREE FRAGMENTS"

    stage.serve(stage.fragment()["app"], scenario)


@check("websocket#on-binary")
def on_binary(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            await client.send(b"\x00\x01\x02")
            assert await client.recv() == b"\x02\x01\x00"
            await client.send("text")
            assert (await close_of(client))[0] == 1003

    stage.serve(stage.fragment()["app"], scenario)


@check("websocket#on-close")
def on_close(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            await client.close(4321, "enough")

    stage.serve(stage.fragment()["app"], scenario)
    assert re.fullmatch(r"\S+ has ended: 4321 enough\n", stage.output())


@check("websocket#on-error")
def on_error(stage: Stage) -> None:
    names = stage.fragment()

    def failing(conn: Any, message: str) -> None:
        raise ZeroDivisionError("by " + message)

    names["ws"].on_message(failing)

    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            await client.send("zero")
            assert await client.recv() == '{"type":"error","text":"Something went wrong here."}'
            output = stage.output()
            assert "ZeroDivisionError: by zero" in output and "failing" in output
            await client.send(b"binary")
            assert (await close_of(client))[0] == 1003
        assert "a binary message" in stage.output()

    stage.serve(names["app"], scenario)


@check("websocket#async-handlers")
def async_handlers(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            for client in (one, other):
                await client.send("password")
            keys = [str(await one.recv()), str(await other.recv())]
            assert all(re.fullmatch("[0-9a-f]{128}", key) for key in keys) and keys[0] != keys[1]

    stage.serve(stage.fragment()["app"], scenario)


# ---- The guide: the chat and its client ------------------------------------------------------------------------------


def chat(stage: Stage) -> Names:
    """The document's chat, beside its page."""
    snippet, stage.snippet = stage.snippet, SNIPPETS["websocket#chat-application-example"]
    try:
        return stage.execute({"__file__": str(ROOT / "examples/chat.py")})
    finally:
        stage.snippet = snippet


@check("websocket#chat-application-example")
def chat_application(stage: Stage) -> None:
    app = chat(stage)["app"]
    assert stage.runs == [(app, "0.0.0.0", 8000)]

    async def scenario(server: Server) -> None:
        async with connect(server) as alice:
            async with connect(server) as bob:
                await alice.send('{"type": "join", "username": "Alice"}')
                assert await alice.recv() == await bob.recv() == '{"type": "join", "user": "Alice"}'
                await bob.send('{"type": "message", "text": "Hello"}')
                said = '{"type": "message", "user": "Anonymous", "text": "Hello"}'
                assert await alice.recv() == await bob.recv() == said
                await alice.send("Hello")
                assert await alice.recv() == '{"type": "error", "text": "a message must be JSON"}'
            assert await alice.recv() == '{"type": "leave", "user": "Anonymous"}'
        page = await get(server, "/")
        assert page.status == 200 and page.body == (ROOT / "examples/chat.html").read_bytes()

    stage.serve(app, scenario)


def localhost(server: Server) -> str:
    """A flag for the browser: what the documents call localhost:8000 is this server."""
    return f"--host-resolver-rules=MAP localhost:8000 127.0.0.1:{server.port}"


def add_page(app: App, script: str) -> None:
    app.get("/client")(lambda request: f"<!doctype html><title>client</title><script>{script}</script>")


@check("websocket#client-side-javascript")
def client_side_javascript(stage: Stage) -> None:
    require_browser()
    names = chat(stage)
    add_page(names["app"], stage.snippet.code)

    async def scenario(server: Server) -> None:
        async with connect(server) as witness, browsing(localhost(server)) as browser:
            page = await browser.open("http://localhost:8000/client")
            assert await page.console.get() == ["Connected"]
            assert await witness.recv() == '{"type": "join", "user": "Alice"}'
            assert await page.console.get() == ["Received:", {"type": "join", "user": "Alice"}]
            for conn in names["ws"].get_connections():
                conn.close()
            assert await page.console.get() == ["Disconnected"]
            assert page.errors == []

    stage.serve(names["app"], scenario)

    async def without_a_websocket(server: Server) -> None:
        async with browsing(localhost(server)) as browser:
            page = await browser.open("http://localhost:8000/client")
            assert (await page.console.get())[0] == "Error:"
            assert await page.console.get() == ["Disconnected"]

    app = App()
    add_page(app, stage.snippet.code)
    stage.serve(app, without_a_websocket)


@check("websocket#reconnect-on-the-client-side")
def reconnect(stage: Stage) -> None:
    require_browser()
    names = prelude()
    add_page(names["app"], stage.snippet.code)
    joined = Events()

    def received(conn: Any, message: str) -> None:
        joined.add(message)
        conn.close(1001)

    names["ws"].on_message(received)

    async def scenario(server: Server) -> None:
        async with browsing(localhost(server)) as browser:
            page = await browser.open("http://localhost:8000/client")
            assert await joined.reach(3) == ['{"type":"join","username":"Alice"}'] * 3
            assert page.errors == []

    stage.serve(names["app"], scenario)


# ---- The guide: best practices ---------------------------------------------------------------------------------------


@check("websocket#heartbeat")
def heartbeat(stage: Stage) -> None:
    names = stage.execute(prelude())
    names["app"].mount("/beating", names["ws"])

    async def scenario(server: Server) -> None:
        async with upgraded(server, "/beating") as client:
            await client.send(frame(TEXT, "how far?"))
            await client.round_trip()
            (conn,) = names["ws"].get_connections()
            conn.ping()
            ping = await client.frame()
            assert ping.opcode == PING
            await client.send(frame(PONG, ping.payload), frame(TEXT, "how far?"))
            assert (await client.frame()).payload.endswith(b" ms")

    stage.serve(names["app"], scenario)


@check("websocket#use-json-for-structured-messages")
def json_messages(stage: Stage) -> None:
    answers(stage, stage.fragment()["app"], '{"type":"ping","number":7}', '{"type": "pong", "number": 7}')


@check("websocket#authenticate-first")
def authenticate(stage: Stage) -> None:
    names = stage.fragment()

    async def scenario(server: Server) -> None:
        async with connect(server, additional_headers={"Cookie": "session=3f1c9a"}) as alice:
            assert await alice.recv() == "Welcome, Alice!"
            assert await refusal(server) == (401, b"log in first\n")
            assert (await refusal(server, {"Cookie": "session=3f1c9a", "Origin": "https://evil.example"}))[0] == 403

    stage.serve(names["app"], scenario)


@check("websocket#set-message-size-limits")
def message_size_limits(stage: Stage) -> None:
    names = stage.execute()
    names["ws"].on_message(lambda conn, message: conn.send(str(len(message))))

    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            await client.send("x" * 65536)
            assert await client.recv() == "65536"
            await client.send("x" * 65537)
            assert (await close_of(client))[0] == 1009
        async with tcp(server) as plain:
            await plain.send(request("/ws", {"Host": "test", "X": "x" * 8192}))
            assert (await plain.answer()).status == 431

    stage.serve(names["app"], scenario)


@check("websocket#clean-up-on-disconnect")
def clean_up(stage: Stage) -> None:
    names = stage.fragment()

    async def scenario(server: Server) -> None:
        async with connect(server), upgraded(server):
            assert list(names["players"].values()) == [{"x": 0, "y": 0}] * 2

    stage.serve(names["app"], scenario)
    assert names["players"] == {}


@check("websocket#several-websockets-in-one-app")
def several(stage: Stage) -> None:
    app = stage.execute()["app"]
    assert stage.runs == [(app, "127.0.0.1", 8000)]

    async def scenario(server: Server) -> None:
        async with connect(server, "/lobby") as lobby, connect(server, "/game") as game:
            await lobby.send("Hello")
            await game.send("e4")
            assert await lobby.recv() == "Hello"
            assert await game.recv() == "e4"

    stage.serve(app, scenario)


@check("websocket#pages-beside-the-websocket")
def pages(stage: Stage) -> None:
    stage.monkeypatch.chdir(stage.folder)
    (stage.folder / "assets").mkdir()
    (stage.folder / "assets" / "style.css").write_text("p { color: red }")

    async def scenario(server: Server) -> None:
        async with connect(server):
            assert (await get(server, "/health")).body == b'{"status":"ok","connections":1}'
        assert (await get(server, "/assets/style.css")).body == b"p { color: red }"

    stage.serve(stage.fragment()["app"], scenario)


@check("websocket#testing-your-app")
def program_with_a_test(stage: Stage) -> None:
    stage.execute()
    broken = stage.snippet.code.replace("conn.send(message)", "conn.send(message[1:])")
    stage.snippet = stage.snippet._replace(code=broken)
    with pytest.raises(AssertionError):
        stage.execute()


# ---- Heartbeat -------------------------------------------------------------------------------------------------------


@check("heartbeat#time-outs")
def time_outs(stage: Stage) -> None:
    names = stage.execute()

    async def scenario(server: Server) -> None:
        async with upgraded(server) as client:
            (conn,) = names["ws"].get_connections()
            assert (await get(server, "/latency")).body == b'{"%s":null}' % conn.get_id().encode()
            conn.ping()
            await client.send(frame(PONG, (await client.frame()).payload))
            await client.round_trip()
            answer = json.loads((await get(server, "/latency")).body)
            assert 0 <= answer[conn.get_id()] < 60

    stage.serve(names["app"], scenario)


@check("heartbeat#handlers-that-block")
def blocking(stage: Stage) -> None:
    answers(stage, stage.fragment()["app"], b"abcd", b"ac")


# ---- Slow consumers --------------------------------------------------------------------------------------------------


@check("slow-consumers#policies")
def policies(stage: Stage) -> None:
    hub = stage.execute()["ws"]._hub
    assert (hub.on_backlog, hub.max_backlog) == ("drop-oldest", 256 * 1024)


@check("slow-consumers#all-of-them-together")
def all_of_them_together(stage: Stage) -> None:
    assert stage.execute()["app"].max_backlog_total == 1 << 29


@check("memory#what-counts")
def what_counts(stage: Stage) -> None:
    app = stage.execute()["app"]
    assert app.max_backlog_total == 1 << 28
    answers(stage, app, "😀", "😀")


def test_the_page_about_memory_has_the_formulas_at_the_defaults() -> None:
    defaults = {name: each.default for name, each in inspect.signature(WebSocketServer).parameters.items()}
    names = {
        "M": defaults["max_message_size"], "Q": defaults["max_queue"], "B": defaults["max_backlog"],
        "H": inspect.signature(App).parameters["max_header_size"].default,
    }  # fmt: skip
    sections, _ = READ["docs/memory.md"]
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| ([\d,]+) \|", sections["what-one-connection-can-pin"], re.MULTILINE)
    assert len(rows) == 9
    for formula, shown in rows:
        words = {"×": "*", "KiB": "* 1024", "a read": "256 * 1024", "40,056": "40056", ", and one message": ""}
        for word, symbol in words.items():
            formula = formula.replace(word, symbol)
        assert eval(formula, names) == int(shown.replace(",", "")), formula


@check("slow-consumers#state-instead-of-history")
def state_instead_of_history(stage: Stage) -> None:
    answers(stage, stage.execute()["app"], "AAPL 101", "AAPL 101")


@check("slow-consumers#going-on-when-there-is-room")
def going_on(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            for number in range(100):
                assert str(await client.recv()).startswith(f"part {number} ")

    stage.serve(stage.fragment()["app"], scenario)


# ---- Admission -------------------------------------------------------------------------------------------------------


@check("admission#deciding-who-it-is")
def deciding(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server, additional_headers={"Cookie": "session=3f1c9a"}) as alice:
            assert await alice.recv() == "Welcome, Alice!"
        assert await refusal(server, {"Cookie": "session=3f1c9b"}) == (401, b"sign in first\n")

    stage.serve(stage.fragment()["app"], scenario)


@check("admission#deciding-who-it-is/2")
def deciding_later(stage: Stage) -> None:
    names = stage.fragment()

    async def scenario(server: Server) -> None:
        async with upgraded(server, "/ws?token=42"):
            (conn,) = names["ws"].get_connections()
            assert conn.user == "Alice"
        assert await refusal(server) == (403, b"no such token\n")

    stage.serve(names["app"], scenario)


@check("admission#origins")
def origins(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        for origin in ("http://test", "https://chat.example", "https://a.chat.example"):
            async with upgraded(server, changed={"Origin": origin}):
                pass
        for origin in ("https://other.example", "https://a.b.chat.example", "null"):
            assert (await refusal(server, {"Origin": origin}))[0] == 403

    stage.serve(stage.execute()["app"], scenario)


@check("admission#hosts")
def hosts(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        for host in ("chat.example", "a.chat.example", "localhost:8000", "127.0.0.1:8000"):
            async with upgraded(server, changed={"Host": host}):
                pass
        for host in ("evil.example", "localhost:8001"):
            status, reason = await refusal(server, {"Host": host})
            assert status == 421 and b"hosts" in reason

    stage.serve(stage.execute()["app"], scenario)


@check("admission#before-the-websocket")
def before_the_websocket(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        assert (await get(server, "/report")).body == b"rendered"
        async with AsyncExitStack() as clients:
            for _ in range(20):
                await clients.enter_async_context(upgraded(server))
            async with tcp(server) as client:
                assert await client.eof() == b""

    async def rendered_report() -> str:
        return "rendered"

    stage.serve(stage.execute({"rendered_report": rendered_report})["app"], scenario)


@check("admission#how-many")
def how_many(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with AsyncExitStack() as clients:
            for _ in range(20):
                await clients.enter_async_context(upgraded(server))
            assert (await refusal(server))[0] == 429

    stage.serve(stage.execute()["app"], scenario)


@check("admission#how-often")
def how_often(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        for _ in range(10):
            async with upgraded(server):
                pass
        async with tcp(server) as client:
            await client.send(handshake())
            answer = await client.answer()
        assert (answer.status, answer.headers["retry-after"]) in ((429, "1"), (429, "2"))

    stage.serve(stage.execute()["app"], scenario)


@check("admission#how-much")
def how_much(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        for flood, text in (
            (frame(TEXT, "x") * 51, "message_rate: 10 "),
            (frame(TEXT, "x" * 65_536), "byte_rate: 65536 "),
        ):
            async with upgraded(server) as client:
                await client.send(flood)
                (close,) = await client.until_close()
                assert close.code == 1008
                assert text in close.reason

    names = stage.execute()
    names["ws"].on_message(lambda conn, message: None)
    stage.serve(names["app"], scenario)


@check("admission#limits-of-one-connection")
def limits_of_one_connection(stage: Stage) -> None:
    names = stage.execute()
    names["ws"].on_message(lambda conn, message: conn.send(conn.user))

    async def scenario(server: Server) -> None:
        async with connect(server, additional_headers={"Authorization": "Bearer 42"}) as alice:
            await alice.send("x" * 5000)
            assert await alice.recv() == "Alice"
        async with connect(server) as guest:
            await guest.send("x" * 5000)
            assert (await close_of(guest))[0] == 1009

    stage.serve(names["app"], scenario)


@check("admission#behind-proxies")
def behind_proxies(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with upgraded(server, changed={"X-Forwarded-For": "192.0.2.7"}):
            pass

    stage.serve(stage.execute()["app"], scenario)
    assert stage.output() == "connected: 192.0.2.7\n"


@check("admission#the-proxy-protocol")
def proxy_protocol(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with tcp(server) as client:
            await client.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n")
            await client.upgrade()
        async with tcp(server) as client:
            await client.send(handshake())
            assert await client.eof() == b""

    stage.serve(stage.execute()["app"], scenario)
    assert stage.output() == "connected: ('192.0.2.7', 56324)\n"


@check("admission#what-was-refused")
def what_was_refused(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        assert (await refusal(server, {"Origin": "null"}))[0] == 403
        assert (await get(server, "/metrics")).body == b'{"open":0,"refused":{"origin":1},"before":{}}'

    stage.serve(stage.fragment()["app"], scenario)


@pytest.mark.parametrize("page", ["admission", "compression"])
def test_pages_have_the_defaults(page: str) -> None:
    """They are the reference's."""
    sections, _ = READ[f"docs/{page}.md"]
    tables = [text for name, text in sections.items() if name.endswith("-and-defaults")]
    words = {"none": None, "nobody": (), "10 seconds": 10.0}
    rows = re.findall(r"^\| `(\w+)\((\w+)\)` \| (.+?) \|", "".join(tables), re.MULTILINE)
    assert rows
    for cls, name, shown in rows:
        default = inspect.signature(getattr(crest, cls)).parameters[name].default
        assert default == (words[shown] if shown in words else ast.literal_eval(shown.strip("`")))


# ---- Compression -----------------------------------------------------------------------------------------------------

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}


@check("compression#switching-it-on")
def switching_it_on(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with upgraded(server):
            pass
        async with connect(server, compression="deflate") as client:
            await client.send("text " * 100)
            assert await client.recv() == "text " * 100

    stage.serve(stage.execute()["app"], scenario)
    told = "permessage-deflate; client_no_context_takeover"
    assert stage.output() == f"compression: None\ncompression: {told}\n"
    assert f"`{told}`" in READ["docs/compression.md"][0]["switching-it-on"]


@check("compression#switching-it-on/2")
def switching_it_on_with_options(stage: Stage) -> None:
    names = stage.execute()

    async def scenario(server: Server) -> None:
        async with upgraded(server, changed=OFFER) as client:
            (conn,) = names["ws"].get_connections()
            for size in (511, 512):
                conn.send("x" * size)
            assert [(await client.frame()).rsv1 for _ in range(2)] == [False, True]

    stage.serve(names["app"], scenario)


@check("compression#what-clients-make-of-it")
def what_clients_make_of_it(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with tcp(server) as client:
            answer = await client.upgrade(changed=OFFER)
            assert answer.headers["sec-websocket-extensions"] == "permessage-deflate"

    stage.serve(stage.execute()["app"], scenario)


@check("compression#single-messages")
def single_messages(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with upgraded(server, changed=OFFER) as client:
            assert [(await client.frame()).rsv1 for _ in range(2)] == [True, False]

    stage.serve(stage.execute()["app"], scenario)


@check("compression#context-takeover")
def context_takeover(stage: Stage) -> None:
    """A short message becomes shorter when it comes again."""

    async def scenario(server: Server) -> None:
        async with upgraded(server, changed=OFFER) as client:
            sizes = []
            for number in range(2):
                await client.send(frame(TEXT, f'{{"type": "position", "x": {number}, "y": 22}}'))
                sizes.append(len((await client.frame()).payload))
            assert sizes[1] < sizes[0] / 2

    stage.serve(stage.execute()["app"], scenario)


@check("compression#secrets")
def secrets_are_not_compressed(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with upgraded(server, changed=OFFER) as client:
            message = await client.frame()
            assert (message.rsv1, len(message.payload)) == (False, 43)

    stage.serve(stage.execute()["app"], scenario)


def test_the_memory_of_compression() -> None:
    """By the formulas beside the table; tests/io/out/test_deflation.py measures."""
    memory = READ["docs/compression.md"][0]["memory"]
    levels = [int(level) for level in re.findall(r"`memory_level=(\d)`", memory.partition("|---")[0])]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", memory, re.MULTILINE)
    assert [int(bits) for bits, _ in rows] == list(range(9, 16))
    for bits, cells in rows:
        deflating = [(4 << int(bits)) + (512 << level) + 6080 for level in levels]
        assert [int(cell.replace(",", "")) for cell in cells.split(" | ")] == [*deflating, (1 << int(bits)) + 7288]


# ---- Deployment ------------------------------------------------------------------------------------------------------


def listening(stage: Stage, names: Names, scenario: Scenario, **changed: Any) -> None:
    """Serve the snippet's app where the snippet says, with some changes, in its folder."""
    stage.monkeypatch.chdir(stage.folder)

    async def main() -> None:
        async with asyncio.timeout(3 * GUARD), names["app"].listening(**{**stage.listens, **changed}) as server:
            await scenario(server)

    asyncio.run(main())


@check("deployment#tls")
def with_tls(stage: Stage) -> None:
    names, pair = stage.execute(), Pair(stage.folder)
    assert stage.runs == [(names["app"], "0.0.0.0", 8443)]
    assert stage.listens == {"certfile": pair.certfile.name, "keyfile": pair.keyfile.name}

    async def scenario(server: Server) -> None:
        async with connect(server, ssl=pair.client()) as one, connect(server, ssl=pair.client()) as other:
            await one.send("Hello")
            assert await one.recv() == await other.recv() == "Hello"

    listening(stage, names, scenario)


@check("deployment#unix-sockets")
def on_a_unix_socket(stage: Stage) -> None:
    names = stage.fragment()
    assert stage.listens == {"unix": "/run/chat/chat.sock", "unix_mode": 0o660}

    async def scenario(server: Server) -> None:
        assert stat.S_IMODE((stage.folder / "s").stat().st_mode) == 0o660

    listening(stage, names, scenario, unix="s")


@check("deployment#health-checks")
def health_check(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        assert (await get(server, "/health")).body == b"ok"

    stage.serve(stage.fragment()["app"], scenario)


def nginx_configuration(folder: Path, front: str, pair: Pair) -> str:
    """The documents' configuration of nginx, with files of a test's folder and another address."""
    (fence,) = [each for each in FENCES if each.language == "text" and "proxy_pass" in each.code]
    code = fence.code
    for shown, real in (
        ("listen 443 ssl;", f"listen {front} ssl;"),
        ("/etc/ssl/chat/fullchain.pem", str(pair.certfile)),
        ("/etc/ssl/chat/key.pem", str(pair.keyfile)),
        ("unix:/run/chat/chat.sock", f"unix:{folder / 'chat.sock'}"),
    ):
        assert code.count(shown) == 1
        code = code.replace(shown, real)
    return code


@needs_nginx
def test_nginx_takes_its_configuration(pair: Pair, tmp_path: Path) -> None:
    process = nginx(nginx_configuration(tmp_path, f"unix:{tmp_path / 'front.sock'}", pair), tmp_path, "-t")
    _, said = process.communicate(timeout=GUARD)
    assert process.returncode == 0, said
    assert not re.search(r"\[(warn|error|crit|emerg)\]", said), said


@needs_nginx
def test_behind_nginx(pair: Pair, tmp_path: Path) -> None:
    """WebSocket and page; the server's own origin, which is what `Host` says; and the client's address."""
    app, ws = App(trusted_proxies=["unix"]), WebSocketServer()
    app.get("/who")(lambda request: request.client[0] if request.client else "")

    @ws.on_message
    def received(conn: Any, message: str) -> None:
        conn.send(f"{message} from {conn.remote_address[0]}")

    async def main(sock: socket.socket) -> None:
        address, port = sock.getsockname()
        async with app.listening(unix=tmp_path / "chat.sock"):
            process = nginx(nginx_configuration(tmp_path, f"{address}:{port}", pair), tmp_path, sock=sock)
            try:
                front, tls = SimpleNamespace(host=address, port=port), pair.client()
                async with tcp(front, tls=tls) as client:
                    await client.send(request("/who", {"Host": f"{address}:{port}"}))
                    assert (await client.answer()).body == address.encode()
                async with connect(front, ssl=tls, origin=f"https://{address}:{port}") as client:
                    await client.send("Hello")
                    assert await client.recv() == f"Hello from {address}"
            finally:
                process.terminate()
                process.communicate(timeout=GUARD)

    with free_socket() as sock:
        asyncio.run(main(sock))


@needs_haproxy
def test_haproxy_takes_its_configurations(tmp_path: Path) -> None:
    found = [each.code for each in FENCES if each.language == "text" and "server crest" in each.code]
    (lines,) = [each.code for each in FENCES if each.language == "text" and "http-check" in each.code]
    check = re.compile(r"    option httpchk .*\n")
    found += [check.sub(lines, each) for each in found if check.search(each)]
    assert len(found) == 3
    for configuration in found:
        said = haproxy_on("defaults\ntimeout server 1m\ntimeout connect 1m\n" + configuration, tmp_path)
        assert said == "", configuration


@check("deployment#several-addresses")
def at_several_addresses(stage: Stage) -> None:
    names, pair = stage.fragment(), Pair(stage.folder)
    plain, secure, unix = stage.listens["listen"]
    assert (plain, secure, unix) == ("http://127.0.0.1:8000", "https://*:8443", "unix:/run/chat/chat.sock")

    async def scenario(server: Any) -> None:
        assert [url.partition(":")[0] for url in server.urls] == ["http", "https", "unix"]
        async with connect(server):
            pass

    assert stage.listens["certfile"] == pair.certfile.name
    listening(stage, names, scenario, listen=["http://127.0.0.1:0", "https://*:0", "unix:s"])


@check("deployment#systemd")
def by_systemd(stage: Stage) -> None:
    names = stage.fragment()
    assert stage.listens == {"listen": "systemd"}
    stage.monkeypatch.delenv("LISTEN_PID", raising=False)

    async def scenario(server: Server) -> None:
        raise AssertionError("there is no systemd here")

    with pytest.raises(crest.ListenError, match="systemd has passed no sockets to this process"):
        listening(stage, names, scenario)


# ---- Shutdown --------------------------------------------------------------------------------------------------------


@check("shutdown#shutdown")
def shutting_down(stage: Stage) -> None:
    app = stage.execute()["app"]
    assert stage.runs == [(app, "0.0.0.0", 8000)]

    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            await one.send("Hello")
            assert await one.recv() == await other.recv() == "Hello"
            stopping = asyncio.create_task(server.stop())  # type: ignore[attr-defined]
            for client in (one, other):
                code, reason = await close_of(client)
                seconds = re.fullmatch(r"retry-after=(\d+\.\d+)", reason)
                assert code == 1012 and seconds and 5 <= float(seconds[1]) <= 10.1
            await stopping

    stage.serve(app, scenario)


@check("shutdown#what-clients-are-told")
def reading_the_hint(stage: Stage) -> None:
    """Its number is what the browser waits for, whatever the code of the page has in its place otherwise."""
    require_browser()
    names = prelude()
    patience = "const waits = []; const after = setTimeout; setTimeout = (f, ms) => { waits.push(ms); after(f, 1); };"
    add_page(names["app"], patience + stage.snippet.code)
    farewells = [(1012, "retry-after=7.43"), (1001, "retry-after=60; more=1"), (1012, ""), (1001, "retry-before=60")]
    opened = Events()

    def connected(conn: Any) -> None:
        opened.add(conn)
        if farewells:
            conn.close(*farewells.pop(0))

    names["ws"].on_connect(connected)

    async def scenario(server: Server) -> None:
        async with browsing(localhost(server)) as browser:
            page = await browser.open("http://localhost:8000/client")
            await opened.reach(5)
            hinted, longer, *own = await page.evaluate("waits")
            assert (hinted, longer) == (7430, 60000)
            assert len(own) == 2 and all(250 <= each <= 500 for each in own)
            assert page.errors == []

    stage.serve(names["app"], scenario)


@check("shutdown#clients-that-do-not-know-1012")
def codes_of_the_rfc(stage: Stage) -> None:
    app = stage.execute()["app"]

    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            stopping = asyncio.create_task(server.stop())  # type: ignore[attr-defined]
            code, reason = await close_of(client)
            assert code == 1001 and reason.startswith("retry-after=")
            await stopping

    stage.serve(app, scenario)


def test_the_page_about_shutdown_has_the_defaults() -> None:
    sections, _ = READ["docs/shutdown.md"]
    rows = re.findall(r"^\| `(\w+)\((\w+)\)` \| `?(\w+)", sections["limits-and-defaults"], re.MULTILINE)
    assert len(rows) == 5
    for cls, name, shown in rows:
        assert inspect.signature(getattr(crest, cls)).parameters[name].default == ast.literal_eval(shown)


# ---- The reference's snippets ----------------------------------------------------------------------------------------


@check("reference#appget")
def app_get(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        answer = await get(server, "/robots.txt")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.body == b"User-agent: *\nDisallow: /\n"

    stage.serve(stage.fragment()["app"], scenario)


@check("reference#appserve")
def app_serve(stage: Stage) -> None:
    served = []

    async def serve(app: App, host: str, port: int) -> None:
        async with app.listening(host, 0) as server, connect(server) as client:
            assert await client.recv() == "tick"
            served.append((host, port))

    stage.monkeypatch.setattr(App, "serve", serve)
    stage.fragment()
    assert served == [("127.0.0.1", 8000)]


@check("reference#applistening")
def app_listening(stage: Stage) -> None:
    stage.fragment()
    assert re.fullmatch(r"listening on port [1-9]\d*\n", stage.output())


@check("reference#websocketserver")
def subprotocols(stage: Stage) -> None:
    names = stage.execute(prelude())
    names["app"].mount("/spoken", names["ws"])

    async def scenario(server: Server) -> None:
        offered = [Subprotocol("chat.v1"), Subprotocol("chat.v2")]
        async with connect(server, "/spoken", subprotocols=offered) as client:
            assert await client.recv() == "We speak chat.v2."
        async with connect(server, "/spoken") as client:
            assert await client.recv() == "We speak None."

    stage.serve(names["app"], scenario)


@check("reference#totals")
def totals(stage: Stage) -> None:
    names = stage.execute()

    async def scenario(server: Server) -> None:
        async with connect(server, "/ws") as client:
            await client.send("x")
            answer = await get(server, "/totals")
            assert json.loads(answer.body)["open"] == 1
        assert names["ws"].totals().opened == 1

    stage.serve(names["app"], scenario)


@check("reference#types")
def types(stage: Stage) -> None:
    names = stage.execute(prelude())
    names["app"].mount("/typed", names["ws"])

    async def scenario(server: Server) -> None:
        async with connect(server, "/typed?name=Alice") as client:
            assert await client.recv() == "Hello, Alice!"
        assert (await refusal(server, path="/typed"))[0] == 401

    stage.serve(names["app"], scenario)


@check("reference#response")
def response(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        answer = await get(server, "/old")
        assert (answer.status, answer.headers["location"]) == (301, "/new")

    stage.serve(stage.fragment()["app"], scenario)


@check("reference#closecode")
def close_code(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server):
            pass
        async with upgraded(server):
            pass

    stage.serve(stage.fragment()["app"], scenario)
    assert re.fullmatch(r"lost \S+\n", stage.output())


# ---- The reference's names -------------------------------------------------------------------------------------------

REFERENCE, REFERENCE_FENCES = READ["docs/reference.md"]
SIGNATURES = {fence.section: fence.code for fence in reversed(REFERENCE_FENCES) if fence.language == "text"}
CLASSES = [getattr(crest, name) for name in crest.__all__ if name != "__version__"]
ENUMS = [each for each in CLASSES if issubclass(each, IntEnum)]
OTHERS = [each for each in CLASSES if each not in ENUMS]


def members(cls: type) -> dict[str, Any]:
    """The public members of a class that are crest's own."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("crest")]
    return {name: value for base in own for name, value in vars(base).items() if not name.startswith("_")}


def normalized(signature: str) -> str:
    return ast.unparse(ast.parse(f"def {signature.strip()}: pass")).replace("=Ellipsis", "=...")


def actual(name: str, function: Callable[..., Any]) -> str:
    """The signature as the reference writes it: without annotations, and without self."""
    signature = inspect.signature(function)
    bare = [each.replace(annotation=each.empty) for each in signature.parameters.values() if each.name != "self"]
    return name + str(signature.replace(parameters=bare, return_annotation=signature.empty))


def constructed() -> list[type]:
    """The classes whose constructor is of interest: not the connection's, which only crest calls."""
    return [
        each
        for each in OTHERS
        if each is not crest.WebSocketConnection
        and ({"__init__", "__new__"} & set(vars(each)) or dataclasses.is_dataclass(each))
    ]


def functions() -> dict[str, tuple[str, Callable[..., Any]]]:
    """What must have a signature in the reference: by section, the name and the function."""
    found: dict[str, tuple[str, Callable[..., Any]]] = {
        slug(each.__name__): (each.__name__, each) for each in constructed()
    }
    for each in OTHERS:
        for name, member in members(each).items():
            if callable(member):
                found[slug(f"{each.__name__}.{name}")] = (name, member)
    return found


def test_the_reference_has_every_signature() -> None:
    expected = {section: normalized(actual(*function)) for section, function in functions().items()}
    assert {section: normalized(code) for section, code in SIGNATURES.items()} == expected


def test_the_reference_has_every_public_name() -> None:
    missing = [each.__name__ for each in CLASSES if slug(each.__name__) not in REFERENCE]
    assert missing == []
    assert "`crest.__version__`" in REFERENCE["version"]


def test_the_reference_explains_every_argument() -> None:
    """In the section that has the signature, or else among the limits."""
    for section, code in SIGNATURES.items():
        (function,) = ast.parse(normalized(code)).body
        assert isinstance(function, ast.FunctionDef)
        for each in function.args.args + function.args.kwonlyargs:
            shown = f"`{each.arg}`" in REFERENCE[section] or f"`{function.name}({each.arg})`" in REFERENCE["limits"]
            assert shown or each.arg == "handler", f"{section}: {each.arg}"


@pytest.mark.parametrize("cls", OTHERS)
def test_the_reference_has_every_attribute(cls: type) -> None:
    attributes = {name for name, member in members(cls).items() if not callable(member)}
    section = "attributes" if cls is crest.WebSocketConnection else slug(cls.__name__)
    rows = set(re.findall(r"^\| `(\w+)` \|", REFERENCE[section], re.MULTILINE))
    parameters = set(inspect.signature(cls).parameters) if cls in constructed() else set()
    options = parameters if issubclass(cls, crest.App | crest.WebSocketServer) else set()  # the signature has them
    assert attributes - options <= rows <= attributes | parameters


@pytest.mark.parametrize("enum", ENUMS)
def test_the_reference_has_every_code(enum: type[IntEnum]) -> None:
    found = re.findall(r"`([A-Z_]+)`(?: \|)? (\d+)", REFERENCE[slug(enum.__name__)])
    assert {name: int(value) for name, value in found} == {each.name: each.value for each in enum}


def test_the_reference_has_every_limit() -> None:
    rows = re.findall(r"^\| `(\w+)\((\w+)\)` \| `(.+?)` \|", REFERENCE["limits"], re.MULTILINE)
    found = {(cls, parameter): ast.literal_eval(default) for cls, parameter, default in rows}
    assert found == {
        (cls.__name__, each.name): each.default
        for cls in (App, WebSocketServer)
        for each in inspect.signature(cls).parameters.values()
        if each.kind is each.KEYWORD_ONLY and each.name != "subprotocols"
    }


# ---- The rest of the documents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "example"), [("basic-usage", "quickstart"), ("chat-application-example", "chat")])
def test_the_programs_are_the_examples(key: str, example: str) -> None:
    """But for the address, which an example takes from the environment."""
    *program, run = ast.parse(SNIPPETS[f"websocket#{key}"].code).body
    docstring, *body, last = ast.parse((ROOT / f"examples/{example}.py").read_text(encoding="utf-8")).body
    without_os = [each for each in body if ast.unparse(each) != "import os"]
    assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)
    assert ast.unparse(run).startswith("app.run(") and ast.unparse(last).startswith("app.run(os.environ")
    assert [ast.unparse(each) for each in without_os] == [ast.unparse(each) for each in program]


def test_links_lead_somewhere() -> None:
    for document, (sections, _) in READ.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", "\n".join(sections.values())):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (ROOT / document).parent / path if path else ROOT / document
            assert file.exists(), f"{document}: {target}"
            if anchor:
                assert anchor in read(str(file.resolve().relative_to(ROOT)))[0], f"{document}: {target}"


def test_security_names_tests_and_limits_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    tests = re.findall(r"`(tests/[^`:]+)(?:::(\w+))?`", text)
    assert len(tests) > 20
    for path, function in tests:
        assert f"def {function}" in (ROOT / path).read_text()
    options = {*inspect.signature(App).parameters, *inspect.signature(WebSocketServer).parameters}
    [limits] = re.findall(r"\n## Limits\n(.*?)\n## ", text, re.DOTALL)
    named = {name for row in re.findall(r"^\| (`.*?) \|", limits, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named and named <= options


@pytest.mark.skipif(not (ROOT / "src").is_dir(), reason="the sources are not here: an installed package is tested")
def test_the_map_has_every_file() -> None:
    """In its folder: each indent of two more is a folder's. A line may name a .h and a .pyx."""
    (floors,) = [fence.code for fence in READ["README.md"][1] if fence.section == "how-it-is-built"]
    drawn: set[str] = set()
    folders: list[str] = []
    for line in floors.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        if opened := re.match(r" +(\w+/) ", line):
            folders = [*folders[:depth], opened[1]]
        elif names := re.match(r" +((?:\w+\.(?:py|pyx|h) +)+)", line + " "):
            drawn |= {"".join(folders[:depth]) + each for each in names[1].split()}
    sources = [each for kind in ("*.py", "*.pyx", "*.h") for each in (ROOT / "src/crest").rglob(kind)]
    there = {each.relative_to(ROOT / "src/crest").as_posix() for each in sources if not each.name.startswith("_")}
    assert drawn == there


def test_a_missing_browser_is_a_skip_unless_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CREST_REQUIRE_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no browser is installed"):
        require_browser()
    monkeypatch.setenv("CREST_REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="no browser is installed"):
        require_browser()
