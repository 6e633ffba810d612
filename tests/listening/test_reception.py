"""crest.listening.reception: connections that were accepted, when there is no room, and at the end."""

import asyncio
import gc
import importlib
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.certificates import Pair
from support.client import GUARD, TEXT, frame, request, tcp, upgraded
from support.events import on_each_loop, turns

from crest import App, WebSocketServer
from crest.io.loop.poller import Poller

resource = pytest.importorskip("resource", reason="no limits on descriptors here")
pytestmark = pytest.mark.skipif(not Poller.exists, reason="the loop accepts here")

TLS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def served(tls: bool, pair: Pair, direct: bool, **options: Any) -> Any:
    app, ws = App(**options), WebSocketServer()
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
async def test_a_reception_that_has_no_memory(
    tls: bool, pair: Pair, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That connection is closed and counted by nothing, and the next one is served."""
    name = "TlsArrival" if tls else "Arrival"
    module = "crest.listening.tls" if tls else "crest.listening.reception"
    made = getattr(importlib.import_module(module), name)

    def fail_once(*args: Any) -> Any:
        monkeypatch.setattr(f"{module}.{name}", made)
        raise MemoryError("no arrival")

    errors: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    async with served(tls, pair, direct, max_sockets_per_ip=1) as server:
        async with tcp(server):  # a loop opens some of its own for the first
            pass
        async with asyncio.timeout(GUARD):
            while server.protocols or len(server.site._sockets):
                await asyncio.sleep(0)
        before = open_descriptors()
        monkeypatch.setattr(f"{module}.{name}", fail_once)
        async with tcp(server) as client:
            assert await client.eof() == b""
        assert [str(each) for each in errors] == ["no arrival"]
        async with asyncio.timeout(GUARD):
            while open_descriptors() > before:
                await asyncio.sleep(0)
        assert len(server.site._sockets) == 0
        async with upgraded(server, tls=pair.client() if tls else None) as client:
            await client.round_trip()
