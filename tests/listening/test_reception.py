"""crest.listening.reception: connections on their way to a transport, and accepting when there is no room."""

import asyncio
import gc
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.certificates import Pair
from support.client import GUARD, TEXT, frame, request, tcp, upgraded
from support.events import on_each_loop, turns

from crest import App, WebSocketServer
from crest.io.loop.poller import Poller
from crest.listening.reception import Reception
from crest.opening.site import Site

resource = pytest.importorskip("resource", reason="no limits on descriptors here")
pytestmark = pytest.mark.skipif(not Poller.exists, reason="the loop accepts here")

TLS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def served(tls: bool, pair: Pair, direct: bool) -> Any:
    app, ws = App(), WebSocketServer()
    ws.on_message(lambda conn, message: conn.send(message))
    files = {"certfile": pair.certfile, "keyfile": pair.keyfile} if tls else {}
    return app.listening(direct=direct, **files)


@pytest.fixture(autouse=True)
def _no_garbage() -> None:
    """Descriptors of this process are counted: those of other tests' garbage must not go meanwhile."""
    gc.collect()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    lowest_free = os.dup(0)
    os.close(lowest_free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


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


@TLS
@on_each_loop
async def test_without_a_descriptor_left_there_is_a_line_a_second(
    tls: bool, pair: Pair, direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever is in is served meanwhile; then all the others are, and nothing is left of it."""
    loop = asyncio.get_running_loop()
    context = pair.client() if tls else None
    async with served(tls, pair, direct) as server, upgraded(server, tls=context) as first:
        before = open_descriptors()
        waiting = [socket.socket() for _ in range(3)]
        try:
            with no_descriptors_left():
                caplog.clear()
                began = loop.time()
                for each in waiting:
                    each.setblocking(False)
                    await loop.sock_connect(each, server.address)
                async with asyncio.timeout(GUARD):
                    while not caplog.records:
                        await asyncio.sleep(0)
                for _ in range(20):
                    await turns(10)
                    await first.send(frame(TEXT, "x"))
                    assert (await first.frame()).payload == b"x"
                lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
                assert 1 <= len(lines) <= 1 + (loop.time() - began)
                assert all(line.startswith("Connections cannot be accepted: Too many open files") for line in lines)
            async with tcp(server, tls=context) as client:
                await client.send(request("/"))
                assert (await client.answer()).status == 404
        finally:
            for each in waiting:
                each.close()
        async with asyncio.timeout(GUARD):
            while len(server.protocols) > 1 or open_descriptors() > before:
                await asyncio.sleep(0)


@TLS
@on_each_loop
async def test_a_task_that_can_not_be_made(
    tls: bool, pair: Pair, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That connection is closed, and the next one is served."""
    if direct and not tls:
        pytest.skip("there is none")
    loop = asyncio.get_running_loop()
    errors: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))

    def fail(loop: Any, coroutine: Any, **options: Any) -> Any:
        if coroutine.__name__ == "_serve_if_open":
            loop.set_task_factory(None)
            raise MemoryError("no task")
        return asyncio.Task(coroutine, loop=loop, **options)

    receive, kept = Reception.receive, []

    def watched(self: Reception, fd: int, *args: Any) -> None:
        try:
            receive(self, fd, *args)
        except MemoryError:
            kept.append(os.fstat(fd))  # it is still the acceptor's to close
            raise

    monkeypatch.setattr(Reception, "receive", watched)
    async with served(tls, pair, direct) as server:
        async with tcp(server):
            pass
        async with asyncio.timeout(GUARD):
            while server.protocols:
                await asyncio.sleep(0)
        before = open_descriptors()
        loop.set_task_factory(fail)
        async with tcp(server) as client:
            assert await client.eof() == b""
        assert [str(each) for each in errors] == ["no task"]
        assert len(kept) == 1
        async with asyncio.timeout(GUARD):
            while open_descriptors() > before:
                await asyncio.sleep(0)
        async with upgraded(server, tls=pair.client() if tls else None) as client:
            await client.round_trip()


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


@TLS
@on_each_loop
async def test_a_task_that_can_not_be_kept(
    tls: bool, pair: Pair, direct: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It does nothing: its connection is closed, the next one is served, and the end does not wait for it."""
    if direct and not tls:
        pytest.skip("there is none")
    loop = asyncio.get_running_loop()
    errors: list[str] = []
    loop.set_exception_handler(lambda _, context: errors.append(str(context["exception"])))
    monkeypatch.setattr(Forgetful, "without", "_served")
    async with served(tls, pair, direct) as server:
        loop.set_task_factory(lambda loop, coroutine, **options: Forgetful(coroutine, loop=loop, **options))
        async with tcp(server) as client:
            assert await client.eof() == b""
        loop.set_task_factory(None)
        assert errors == ["no callback"]
        async with upgraded(server, tls=pair.client() if tls else None) as client:
            await client.round_trip()
    assert server.protocols == []


@pytest.mark.filterwarnings("ignore:Exception ignored in. 'uvloop:pytest.PytestUnraisableExceptionWarning")  # no socket
@pytest.mark.parametrize("without", ["discard", "_inner_done_callback", ""], ids=["kept", "shielded", "made"])
@on_each_loop
async def test_a_transport_that_nothing_would_wait_for(
    without: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connection is closed, whether asyncio has kept the task that makes the transport or not."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: None)  # of a task that has found no socket
    failed: list[str] = []

    def make(loop: Any, coroutine: Any, **options: Any) -> Any:
        task = Forgetful(coroutine, loop=loop, **options)
        if not without and coroutine.__name__ == "connect_accepted_socket" and not failed:
            failed.append("once")
            raise MemoryError("no room for a task that will run")
        return task

    monkeypatch.setattr(Forgetful, "without", without)
    async with App().listening(direct=False) as server:
        loop.set_task_factory(make)
        async with tcp(server) as client:
            assert await client.eof() == b""
        loop.set_task_factory(None)
        assert "can not be served" in caplog.text
        async with tcp(server) as client:
            await client.send(request("/"))
            assert (await client.answer()).status == 404
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

    async with served(tls, pair, direct=False) as server:
        (reception,) = [each for _, each in server._acceptors if hasattr(each, "_arrivals")]
        reception._loop = Half(turns)  # type: ignore[assignment]
        async with tcp(server) as client:
            await client.send(b"\x16")
            assert await client.eof() == b""
        assert "can not be served" in caplog.text
        (sock,) = kept
        sock.close()


@TLS
@on_each_loop
async def test_the_end_before_anything_has_begun(
    tls: bool, pair: Pair, direct: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection has been accepted, its task has not had a step yet: no transport begins to serve it later."""
    if direct and not tls:
        pytest.skip("there is none")
    receive, opened = Reception.receive, Site.opened
    stopping: list[asyncio.Task[None]] = []
    ended_first: list[bool] = []

    def receive_and_stop(self: Reception, *args: Any) -> None:
        self._loop = LoopThatFirst(lambda: turns(20))  # type: ignore[assignment]
        receive(self, *args)
        stopping.append(asyncio.create_task(server.stop()))

    def open_in_time(self: Site, *args: Any) -> Any:
        ended_first.append(any(message.startswith("Stopped after") for message in caplog.messages))
        return opened(self, *args)

    monkeypatch.setattr(Reception, "receive", receive_and_stop)
    monkeypatch.setattr(Site, "opened", open_in_time)
    caplog.set_level(logging.INFO, "crest")
    async with served(tls, pair, direct) as server, tcp(server) as client:
        assert await client.eof() == b""
        await client.close()
        await stopping[0]
        await turns(20)
    assert server.protocols == []
    assert ended_first == ([] if tls else [False])


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
            (reception,) = [each for _, each in server._acceptors if hasattr(each, "_arrivals")]
            reception._loop = LoopThatFirst(fail_once)  # type: ignore[assignment]
            async with tcp(server) as client:
                assert await client.eof() == b""
            async with tcp(server) as client:
                await client.send(request("/"))
                assert (await client.answer()).status == 404
            assert not reception._arrivals
    assert app.refused == {"transport": 1}
    assert any("it can not be served: Transport endpoint is not connected" in line for line in caplog.messages)
