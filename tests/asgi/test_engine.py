"""Connections are taken over from the loop's transports where that is possible, and served by those elsewhere."""

import asyncio
import errno
import os
import socket
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the group `asgi`")

from support.client import TEXT, Frame, frame, handshake, tcp, upgraded
from support.events import Events, on_each_loop, until
from support.uvicorns import Receive, Send, echo, under_uvicorn

from crest.asgi import engine
from crest.asgi.engine import Engine, engine_of
from crest.asgi.uvicorn import WebSocketProtocol
from crest.io.life.protocol import ServerProtocol
from crest.io.net.stream import StreamTransport


@pytest.mark.parametrize("why", ["no descriptor", "no descriptor for the poller", "no poller here"])
@on_each_loop
async def test_the_loops_transport_serves_what_can_not_be_taken(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    class Missing:
        exists = why != "no poller here"

        def __new__(cls, *_: object) -> Any:
            return fail()

    if why == "no descriptor":
        monkeypatch.setattr(os, "dup", fail)
    else:
        monkeypatch.setattr(engine, "Poller", Missing)
    async with under_uvicorn(echo) as server, upgraded(server) as client:
        (served,) = server.state.connections
        assert not isinstance(served.transport, StreamTransport)
        await client.send(frame(TEXT, "x"))
        assert await client.frame() == Frame(TEXT, b"x")


@on_each_loop
async def test_a_transport_that_has_something_queued_is_left_alone() -> None:
    class Queued(asyncio.Transport):
        def get_write_buffer_size(self) -> int:
            return 1

    with socket.socket() as sock:
        found = engine_of(asyncio.get_running_loop())
        assert not found._take(Queued({"socket": sock}), ServerProtocol(found.turn, None))  # type: ignore[arg-type]


def test_a_loop_has_one_engine() -> None:
    async def main() -> Engine:
        found = engine_of(asyncio.get_running_loop())
        assert engine_of(asyncio.get_running_loop()) is found
        return found

    first, second = asyncio.run(main()), asyncio.run(main())
    assert first is not second
    assert not first._is_running()
    assert [each for each in engine._engines.values() if each in (first, second)] == [second]


def test_it_can_not_be_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no memory, say: then this connection ends, and no other."""
    errors = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
        async with under_uvicorn(echo) as server:
            with monkeypatch.context() as patch:
                patch.setattr(Engine, "serve", lambda *_: [][0])
                async with tcp(server) as client:
                    await client.send(handshake())
                    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                        await client.answer()
            assert not [each for each in server.state.connections if isinstance(each, WebSocketProtocol)]
            async with upgraded(server):
                pass

    asyncio.run(main())
    assert [type(each) for each in errors] == [IndexError]


class Transport(asyncio.Transport):
    """Of a client that has left already."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.closed = False

    def pause_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


@on_each_loop
async def test_the_client_leaves_before_it_is_taken_over() -> None:
    called = Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        called.add("called")

    async with under_uvicorn(app) as server:
        served = WebSocketProtocol(server.server.config, server.state, {})
        transport = Transport()
        served.connection_made(transport)
        served.data_received(handshake())
        served.data_received(b"more")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        served.shutdown()
        assert transport.closed
        assert served.eof_received() is None
        served.connection_lost(None)
        assert not server.state.connections and not called.seen


@on_each_loop
async def test_what_a_connection_asks_before_it_is_accepted() -> None:
    """Little of it can come about here: there are no deadlines, and no responses that wait."""
    asked, ends = asyncio.Event(), Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        asked.set()
        ends.add(await receive())

    async with under_uvicorn(app) as server, tcp(server) as client:
        await client.send(handshake())
        await until(asked)
        (served,) = server.state.connections
        session = served._session
        session.timed_out()
        session.resume_writing()
        session.overhead(1)
        assert served.farewell() is None
        session.shed("the memory is used up")
        assert (await client.answer()).status == 503
        assert await ends.reach(1) == [{"type": "websocket.disconnect", "code": 1006}]


@pytest.mark.parametrize("way", ["reset", "eof"])
@on_each_loop
async def test_the_client_leaves_while_it_is_not_read(way: str) -> None:
    """It has sent much before it was accepted."""
    asked, ends = asyncio.Event(), Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        asked.set()
        ends.add(await receive())

    async with under_uvicorn(app) as server:
        async with tcp(server) as client:
            await client.send(handshake())
            await until(asked)
            (served,) = server.state.connections
            client.writer.write(bytes(70_000))
            while len(served._session._early) <= 1 << 16:
                await asyncio.sleep(0)
            if way == "reset":
                client.reset()
            else:
                client.writer.write(bytes(100))
                client.writer.write_eof()
            assert await ends.reach(1)
        assert await ends.reach(1) == [{"type": "websocket.disconnect", "code": 1006}]
