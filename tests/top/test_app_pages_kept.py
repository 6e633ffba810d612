"""crest.app: many requests for pages on one connection, that may take their time and end at any moment."""

import asyncio
import json
import logging
from pathlib import Path

import pytest
from support.client import GUARD, connect, frame, handshake, request, tcp
from support.events import KINDS, Events, Gate, of_kind, on_each_loop

from crest import App, Request, WebSocketServer
from crest.opening.opening import AT_ONCE


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_connection_is_kept_for_further_requests(kind: str) -> None:
    app = App()
    app.get("/")(of_kind(kind, lambda request: request.query["n"]))
    async with app.listening() as server, tcp(server) as client:
        for n in (b"1", b"2", b"3"):
            await client.send(request(f"/?n={n.decode()}"))
            answer = await client.answer()
            assert answer.body == n
            assert "connection" not in answer.headers


@pytest.mark.parametrize("order", ["pp", "aa", "pa", "ap", "papaap"])
@on_each_loop
async def test_pipelined_requests_are_answered_in_their_order(order: str) -> None:
    app = App()
    for kind in KINDS:
        app.get(f"/{kind[0]}")(of_kind(kind, lambda request: request.query["n"]))
    async with app.listening() as server, tcp(server) as client:
        await client.send(*(request(f"/{kind}?n={n}") for n, kind in enumerate(order)))
        assert [(await client.answer()).body for _ in order] == [b"%d" % n for n in range(len(order))]


MANY = 1000
"""Requests, more than are answered in one turn of the loop."""


def counting(app: App) -> list[bytes]:
    """Requests whose pages are their numbers."""
    app.get("/")(lambda request: request.query["n"])
    return [request(f"/?n={n}") for n in range(MANY)]


@on_each_loop
async def test_many_pipelined_requests_leave_the_loop_to_others(direct: bool) -> None:
    app, turns, loop = App(), Events(), asyncio.get_running_loop()

    def page(request: Request) -> str:
        loop.call_soon(turns.add, "turn")
        turns.add("page")
        return "page"

    app.get("/")(page)
    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(request("/") * MANY)
        for _ in range(MANY):
            assert (await client.answer()).body == b"page"
    runs = " ".join(turns.seen).replace(" ", "").split("turn")
    assert max(run.count("page") for run in runs) <= AT_ONCE


@on_each_loop
async def test_many_pipelined_requests_are_answered_in_their_order(direct: bool) -> None:
    app = App()
    requests = counting(app)
    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(b"".join(requests)[:-1])
        client.writer.write(requests[-1][-1:])
        client.writer.write_eof()
        assert [(await client.answer()).body for _ in range(MANY)] == [b"%d" % n for n in range(MANY)]
        assert await client.eof() == b""


@on_each_loop
async def test_a_handshake_may_follow_many_pipelined_requests(direct: bool) -> None:
    app, ws = App(), WebSocketServer()
    ws.on_message(lambda conn, message: conn.send(message))
    requests = counting(app)
    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(b"".join(requests) + handshake() + frame(1, b"hello"))
        for _ in range(MANY):
            assert (await client.answer()).status == 200
        assert (await client.answer(head_only=True)).status == 101
        assert (await client.frame()).payload == b"hello"


@on_each_loop
async def test_shutdown_among_pipelined_requests_ends_behind_a_response(direct: bool) -> None:
    app, stopping = App(), Events()

    def page(request: Request) -> str:
        if not stopping.seen:
            stopping.add(asyncio.get_running_loop().create_task(server.stop()))
        return "page"

    app.get("/")(page)
    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(request("/") * MANY)
        whole = await client.eof()
    assert 0 < whole.count(b"HTTP/1.1 200 ") < MANY
    assert whole.endswith(b"page")


@on_each_loop
async def test_a_client_that_resets_among_its_pipelined_requests(
    direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The page is where it resets: what is written next fails, with requests left to be answered."""
    app, pages = App(), Events()
    async with app.listening(direct=direct) as server, tcp(server) as client:

        def page(request: Request) -> str:
            if not pages.seen:
                client.reset()
            pages.add("page")
            return "page"

        @app.get("/later")
        async def later(request: Request) -> str:
            return page(request)

        app.get("/")(page)
        await client.send((request("/") * (AT_ONCE - 1) + request("/later")) * 10)
        async with asyncio.timeout(GUARD):
            while not pages.seen or server.protocols:
                await asyncio.sleep(0)
    assert len(pages.seen) <= 2 * AT_ONCE  # uvloop resets when that turn is over: the next one notices
    assert caplog.records == []


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_connection_close_is_heeded(kind: str) -> None:
    app = App()
    app.get("/")(of_kind(kind, lambda request: "page"))
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/", {"Host": "test", "Connection": "close"}))
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"page", "close")
        assert await client.eof() == b""


@on_each_loop
async def test_a_large_page_arrives_whole() -> None:
    app, size = App(), 1 << 24
    app.get("/")(lambda request: bytes(size))
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"), request("/", {"Host": "test", "Connection": "close"}))
        assert [len((await client.answer()).body) for _ in range(2)] == [size, size]
        assert await client.eof() == b""


LARGE = 1 << 25
"""Bytes, more than the kernel takes for a client that does not read."""


def large() -> App:
    """A large page, and all the time in the world."""
    app = App(open_timeout=1000)
    app.get("/page")(lambda request: bytes(LARGE))
    return app


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@on_each_loop
async def test_a_client_may_take_its_time_for_a_response_if_it_takes_some(connection: str, direct: bool) -> None:
    async with large().listening(direct=direct) as server, tcp(server, receive_buffer=1 << 16) as client:
        await client.send(request("/page", {"Host": "test", "Connection": connection}))
        await client.reader.readuntil(b"\r\n\r\n")
        (protocol,) = server.protocols
        for _ in range(16):
            await client.reader.readexactly(1 << 20)
            protocol.expired()  # it has had the time that it has
        assert len(await client.reader.readexactly(LARGE - (16 << 20))) == LARGE - (16 << 20)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@on_each_loop
async def test_a_client_that_takes_nothing_of_a_response_is_cut_off(connection: str, direct: bool) -> None:
    async with large().listening(direct=direct) as server, tcp(server, receive_buffer=1 << 16) as client:
        await client.send(request("/page", {"Host": "test", "Connection": connection}))
        await client.reader.readuntil(b"\r\n\r\n")
        (protocol,) = server.protocols
        async with asyncio.timeout(GUARD):
            while server.protocols:
                protocol.expired()
                await asyncio.sleep(0)
        assert len(await client.eof()) < LARGE


@on_each_loop
async def test_the_time_for_taking_some_of_a_response_is_that_for_a_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(open_timeout=0.05)
    (tmp_path / "file").write_bytes(bytes(LARGE))
    app.static("/", tmp_path)
    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening() as server, tcp(server, receive_buffer=1 << 16) as client:
            await client.send(request("/file"))
            await client.reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(GUARD):
                while server.protocols:
                    await asyncio.sleep(0)
            text = f"Refused a connection of {client.address}: it took nothing of a response for 0.05 s"
    assert text in caplog.messages


@on_each_loop
async def test_connections_do_not_wait_for_each_others_pages() -> None:
    app, gate = App(), Gate()

    app.get("/slow")(gate.before(lambda request: "slow"))
    app.get("/quick")(lambda request: "quick")
    async with app.listening() as server, tcp(server) as one, tcp(server) as two:
        await one.send(request("/slow"))
        await gate.reached()
        await two.send(request("/quick"))
        assert (await two.answer()).body == b"quick"
        gate.open()
        assert (await one.answer()).body == b"slow"


@on_each_loop
async def test_a_page_whose_client_has_gone_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    app, gate = App(), Gate()

    app.get("/")(gate.before(lambda request: bytes(10_000_000)))
    with caplog.at_level(logging.WARNING):
        async with app.listening() as server:
            async with tcp(server) as client:
                await client.send(request("/"))
                await gate.reached()
                client.reset()
            gate.open()
    assert caplog.records == []


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_client_that_has_closed_its_half_still_gets_its_page(kind: str) -> None:
    app = App()
    app.get("/")(of_kind(kind, lambda request: "page"))
    async with app.listening() as server, tcp(server) as client:
        client.writer.write(request("/"))
        client.writer.write_eof()
        assert (await client.answer()).body == b"page"
        assert await client.eof() == b""


@on_each_loop
async def test_a_broadcast_may_come_from_a_page() -> None:
    app, ws, opened = App(), WebSocketServer(), Events()
    ws.on_connect(opened.add)
    app.get("/tell")(lambda request: {"clients": ws.connection_count(), "told": ws.broadcast(request.query["text"])})
    async with app.listening() as server, connect(server) as peer, tcp(server) as client:
        await opened.reach(1)
        await client.send(request("/tell?text=hello"))
        assert json.loads((await client.answer()).body) == {"clients": 1, "told": None}
        assert await peer.recv() == "hello"
