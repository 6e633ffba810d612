"""crest.listening.connector: connections on their way to a transport of the event loop's."""

import asyncio
import gc
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.certificates import Pair
from support.client import GUARD, request, tcp, upgraded
from support.events import on_each_loop, turns

from crest import App, WebSocketServer
from crest.io.loop.poller import Poller
from crest.listening.connector import Connector
from crest.opening.site import Site

pytestmark = pytest.mark.skipif(not Poller.exists, reason="the loop accepts here")

TLS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def served(tls: bool, pair: Pair, **options: Any) -> Any:
    app, ws = App(**options), WebSocketServer()
    ws.on_message(lambda conn, message: conn.send(message))
    files = {"certfile": pair.certfile, "keyfile": pair.keyfile} if tls else {}
    return app.listening(direct=False, **files)


@pytest.fixture(autouse=True)
def _no_garbage() -> None:
    """Descriptors of this process are counted: those of other tests' garbage must not go meanwhile."""
    gc.collect()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


class LoopThatFirst:
    """The running loop, but for something that it does before it makes a transport."""

    def __init__(self, first: Callable[[], Awaitable[None]]) -> None:
        self._first = first
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def connect_accepted_socket(self, *args: Any, **options: Any) -> Any:
        await self._first()
        return await self._loop.connect_accepted_socket(*args, **options)


class Forgetful(asyncio.Task[Any]):
    """A task that has no memory for callbacks of a kind, once.

    Attributes:
        without: In the name of the callbacks.
    """

    without = ""

    def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
        if Forgetful.without and Forgetful.without in repr(callback):
            Forgetful.without = ""
            raise MemoryError("no callback")
        super().add_done_callback(callback, context=context)


@pytest.mark.parametrize("without", ["task", "started", "kept"])
@TLS
@on_each_loop
async def test_a_task_that_can_not_be_made(
    tls: bool, without: str, pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That connection is closed, whether asyncio has kept the task or not. The next one is served, and the end does not
    wait for it."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: None)  # of a task that can not run
    monkeypatch.setattr(Forgetful, "without", "_made" if without == "kept" else "")

    def make(loop: Any, coroutine: Any, **options: Any) -> Any:
        if coroutine.__name__ != "_make":
            return asyncio.Task(coroutine, loop=loop, **options)
        loop.set_task_factory(None)
        if without == "task":
            raise MemoryError("no task")
        task = Forgetful(coroutine, loop=loop, **options)
        if without == "started":
            raise MemoryError("no room for a task that will run")
        return task

    async with served(tls, pair, max_sockets_per_ip=1) as server:
        async with tcp(server):  # a loop opens some of its own for the first
            pass
        async with asyncio.timeout(GUARD):
            while server.protocols:
                await asyncio.sleep(0)
        before = open_descriptors()
        loop.set_task_factory(make)
        async with tcp(server) as client:
            await client.send(b"\x16")
            assert await client.eof() == b""
        assert "can not be served" in caplog.text
        async with asyncio.timeout(GUARD):
            while open_descriptors() > before:
                await asyncio.sleep(0)
        assert len(server.site._sockets) == len(server.site._handshakes) == 0
        async with upgraded(server, tls=pair.client() if tls else None) as client:
            await client.round_trip()
    assert server.protocols == []


@TLS
@on_each_loop
async def test_a_transport_that_is_half_made(tls: bool, pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """Without memory the loop forgets a transport that has the socket, and reads nothing: the client sees the end."""
    kept: list[socket.socket] = []

    class Half(LoopThatFirst):
        async def connect_accepted_socket(self, factory: Any, sock: socket.socket, **options: Any) -> Any:
            kept.append(sock)
            raise MemoryError("no transport")

    async with served(tls, pair) as server:
        (connector,) = server._connectors
        connector._loop = Half(turns)
        async with tcp(server) as client:
            await client.send(b"\x16")
            assert await client.eof() == b""
        assert "can not be served" in caplog.text
        (sock,) = kept
        sock.close()


@on_each_loop
async def test_the_end_before_anything_has_begun(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection has been accepted, its task has not had a step yet: no transport begins to serve it later."""
    connect, opened = Connector.connect, Site.opened
    stopping: list[asyncio.Task[None]] = []
    ended_first: list[bool] = []

    def connect_and_stop(self: Connector, *args: Any) -> Any:
        self._loop = LoopThatFirst(lambda: turns(20))  # type: ignore[assignment]
        task = connect(self, *args)
        stopping.append(asyncio.create_task(server.stop()))
        return task

    def open_in_time(self: Site, *args: Any) -> Any:
        ended_first.append(any(message.startswith("Stopped after") for message in caplog.messages))
        return opened(self, *args)

    monkeypatch.setattr(Connector, "connect", connect_and_stop)
    monkeypatch.setattr(Site, "opened", open_in_time)
    caplog.set_level(logging.INFO, "crest")
    async with App().listening(direct=False) as server, tcp(server) as client:
        assert await client.eof() == b""
        await client.close()
        await stopping[0]
        await turns(20)
    assert server.protocols == []
    assert ended_first == [False]


@on_each_loop
async def test_a_socket_that_no_transport_can_serve(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has ended in the meantime, as far as the loop can tell."""
    app = App()
    failed: list[str] = []

    async def fail_once() -> None:
        if not failed:
            failed.append("once")
            raise OSError(107, "Transport endpoint is not connected")

    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening(direct=False) as server:
            (connector,) = server._connectors
            connector._loop = LoopThatFirst(fail_once)  # type: ignore[assignment]
            async with tcp(server) as client:
                assert await client.eof() == b""
            async with tcp(server) as client:
                await client.send(request("/"))
                assert (await client.answer()).status == 404
            assert not connector._lent
    assert app.refused == {"transport": 1}
    assert any("it can not be served: Transport endpoint is not connected" in line for line in caplog.messages)


@on_each_loop
async def test_a_handshake_that_is_cut_off_in_its_first_step(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop has never had the socket: it is closed here."""
    connect = Connector.connect

    def connect_and_close(self: Connector, *args: Any) -> Any:
        task = connect(self, *args)
        server.stop_accepting()
        return task

    monkeypatch.setattr(Connector, "connect", connect_and_close)
    async with served(True, pair, max_sockets_per_ip=1) as server, tcp(server) as client:
        await client.send(b"\x16")
        assert await client.eof() == b""
        (connector,) = server._connectors
        await connector.settled()
        assert len(server.site._sockets) == len(server.site._handshakes) == 0
    assert server.protocols == []
