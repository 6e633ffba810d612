"""docs/websocket.md: the chat, its clients in JavaScript, and the browser that runs those."""

import json
import shutil
from typing import Any

import pytest
from support.browser import browsing, require_browser
from support.client import Server, connect
from support.documents import ROOT, SNIPPETS
from support.events import Events
from support.snippets import Checks, Names, Stage, add_page, get, localhost, prelude

from crest import App

check = Checks()


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
                assert json.loads(await alice.recv()) == {"type": "members", "users": ["Alice"]}
                said = await bob.recv()
                assert await alice.recv() == said
                at = json.loads(said)["time"]
                assert json.loads(said) == {"type": "join", "user": "Alice", "back": False, "time": at}
                await bob.send('{"type": "join", "username": "Bob", "back": true}')
                assert json.loads(await bob.recv()) == {"type": "members", "users": ["Alice", "Bob"]}
                said = await bob.recv()
                assert await alice.recv() == said
                assert json.loads(said)["back"] is True
                await bob.send('{"type": "message", "text": "Hello"}')
                said = await bob.recv()
                assert await alice.recv() == said
                assert {"type": "message", "user": "Bob", "text": "Hello"}.items() < json.loads(said).items()
                await alice.send("Hello")
                assert await alice.recv() == '{"type": "error", "text": "a message must be JSON"}'
            left = json.loads(await alice.recv())
            assert {"type": "leave", "user": "Bob", "restart": False}.items() < left.items()
        page = await get(server, "/")
        assert page.status == 200 and page.body == (ROOT / "examples/chat.html").read_bytes()

    stage.serve(app, scenario)


@check("websocket#client-side-javascript")
def client_side_javascript(stage: Stage) -> None:
    require_browser()
    names = chat(stage)
    add_page(names["app"], stage.snippet.code)

    async def scenario(server: Server) -> None:
        async with connect(server) as witness, browsing(localhost(server)) as browser:
            page = await browser.open("http://localhost:8000/client")
            assert await page.console.get() == ["Connected"]
            told = json.loads(await witness.recv())
            assert told == {"type": "join", "user": "Alice", "back": False, "time": told["time"]}
            for kind in ("members", "join"):
                [label, shown] = await page.console.get()
                assert (label, shown["type"]) == ("Received:", kind)
            assert shown["user"] == "Alice"
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


def test_a_missing_browser_is_a_skip_unless_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CREST_REQUIRE_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no browser is installed"):
        require_browser()
    monkeypatch.setenv("CREST_REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="no browser is installed"):
        require_browser()


test_snippet = check.test()
