"""Tasks that take their first step when they are made: what awaits nothing has ended before anyone has its task."""

import asyncio
import sys
from typing import Any

import pytest
from support.client import TEXT, Frame, frame, handshake, request, tcp, upgraded
from support.eager import eager_tasks
from support.events import Events, on_each_loop, turns

from crest import App, Reject, Request, WebSocketServer
from crest.opening.opening import AT_ONCE


@on_each_loop
async def test_handlers_that_do_not_wait() -> None:
    ws, calls = WebSocketServer(), Events()

    @ws.on_message
    async def received(conn: Any, message: str) -> None:
        calls.add(message)
        conn.send(message)

    async with App().listening() as server, upgraded(server) as client:
        with eager_tasks():
            await client.send(*(frame(TEXT, str(i)) for i in range(50)))
            assert [await client.frame() for _ in range(50)] == [Frame(TEXT, str(i).encode()) for i in range(50)]
            await client.round_trip()
    assert calls.seen == [str(i) for i in range(50)]


@on_each_loop
async def test_handlers_that_wait_too() -> None:
    ws = WebSocketServer()

    @ws.on_message
    async def received(conn: Any, message: str) -> None:
        await turns(3)
        conn.send(message)

    async with App().listening() as server, upgraded(server) as client:
        with eager_tasks():
            await client.send(*(frame(TEXT, str(i)) for i in range(50)))
            assert [await client.frame() for _ in range(50)] == [Frame(TEXT, str(i).encode()) for i in range(50)]


@on_each_loop
async def test_pages() -> None:
    app = App()

    @app.get("/now")
    async def now(asked: Request) -> str:
        return "now"

    @app.get("/later")
    async def later(asked: Request) -> str:
        await turns(3)
        return "later"

    async with app.listening() as server, tcp(server) as client:
        with eager_tasks():
            for path in ("/now", "/now", "/later", "/now", "/later"):
                await client.send(request(path))
                assert (await client.answer()).body == path[1:].encode()
            await client.send(request("/now") * 3 + request("/later") + request("/now") * 50)
            for path in ["now"] * 3 + ["later"] + ["now"] * 50:
                assert (await client.answer()).body == path.encode()


@on_each_loop
async def test_many_pipelined_pages_leave_the_loop_to_others() -> None:
    """However many there are in one read, and whether a page is plain or async: the stack does not grow with them."""
    many, app, seen, loop = 2000, App(), Events(), asyncio.get_running_loop()

    def page(asked: Request) -> str:
        loop.call_soon(seen.add, "turn")
        seen.add("page")
        return "page"

    async def async_page(asked: Request) -> str:
        return page(asked)

    app.get("/plain")(page)
    app.get("/async")(async_page)
    async with app.listening() as server, tcp(server) as client:
        with eager_tasks():
            for path in ("/plain", "/async"):
                await client.send(request(path) * many)
                for _ in range(many):
                    assert (await client.answer()).body == b"page"
    runs = " ".join(seen.seen).replace(" ", "").split("turn")
    assert max(run.count("page") for run in runs) <= AT_ONCE


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="what stands in for eager tasks has no timeouts in its first step"
)
@on_each_loop
async def test_a_page_that_ends_the_server() -> None:
    """Shutdown begins within the handler. Its response says that it is the last, and is."""
    app, ends = App(), Events()

    async with app.listening() as server, tcp(server) as client:

        def page(asked: Request) -> str:
            ends.add(asyncio.get_running_loop().create_task(server.stop()))
            return "page"

        app.get("/")(page)
        with eager_tasks():
            await client.send(request("/") * 3)
            answer = await client.answer()
            assert (answer.body, answer.headers["connection"]) == (b"page", "close")
            assert await client.eof() == b""
            await ends.seen[0]


@on_each_loop
async def test_who_may_connect() -> None:
    ws = WebSocketServer()
    ws.on_message(lambda conn, message: conn.send(f"{conn.user}: {message}"))

    @ws.on_upgrade
    async def user_of(asked: Request) -> str:
        if "wait" in asked.query:
            await turns(3)
        if "no" in asked.query:
            raise Reject(403, "no")
        return "user"

    async with App().listening() as server:
        with eager_tasks():
            for query in ("", "?wait"):
                async with tcp(server) as client:
                    await client.send(handshake(f"/ws{query}") + frame(TEXT, "x" * 1000) * 30)
                    assert (await client.answer(head_only=True)).status == 101
                    for _ in range(30):
                        assert (await client.frame()).payload == b"user: " + b"x" * 1000
                    await client.send(frame(TEXT, "later"))
                    assert (await client.frame()).payload == b"user: later"
            for query in ("?no", "?no&wait"):
                async with tcp(server) as client:
                    await client.send(handshake(f"/ws{query}"))
                    assert (await client.answer()).status == 403
                    assert await client.eof() == b""
    assert ws.refused == {"on_upgrade": 2}
