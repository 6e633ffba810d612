"""crest.listening.shutdown: handlers are waited for, and then cancelled; so are peers that do not answer."""

import asyncio
from typing import Any

import pytest
from support.client import TEXT, close_frame, connect, frame, upgraded
from support.events import Events, Gate, on_each_loop, until
from support.shutdown import messages, never

from crest import App, WebSocketServer


@on_each_loop
async def test_shutdown_waits_for_handlers_that_end() -> None:
    ws, events, gate = WebSocketServer(), Events(), Gate()

    ws.on_message(gate.before(lambda conn, message: events.add(message)))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server:
        async with upgraded(server) as client:
            await client.send(frame(TEXT, "x"))
            await gate.reached()
            stopping = asyncio.create_task(server.stop())
            assert (await client.frame()).code == 1012
            await client.send(close_frame(1012))
            assert await client.eof() == b""
        assert events.seen == []
        gate.open()
        await stopping
        assert events.seen == ["x", 1012]


@on_each_loop
async def test_after_shutdown_timeout_peers_that_do_not_answer_are_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with App(shutdown_timeout=0.1).listening() as server, upgraded(server) as one, upgraded(server) as two:
        await opened.reach(2)
        await server.stop()
        assert closed.seen == [1006, 1006]
        for client in (one, two):
            assert (await client.frame()).code == 1012
            assert await client.eof() == b""
    assert "2 connections did not close within 0.1 s and are cut off" in messages(caplog)


@pytest.mark.parametrize("handler", ["on_connect", "on_message"])
@on_each_loop
async def test_after_shutdown_timeout_handlers_that_never_return_are_cancelled(handler: str) -> None:
    ws, closed, begun = WebSocketServer(), Events(), asyncio.Event()

    async def stuck(*args: Any) -> None:
        begun.set()
        try:
            await never()
        finally:
            closed.add("cancelled")

    getattr(ws, handler)(stuck)
    ws.on_close(lambda conn, code, reason: closed.add("closed"))
    async with App(shutdown_timeout=0.1).listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x"))
        await until(begun)
    assert closed.seen == ["cancelled", "closed"]


@pytest.mark.parametrize("handler", ["on_connect", "on_message", "on_close", "on_error"])
@on_each_loop
async def test_handlers_that_ignore_their_cancellation_do_not_keep_the_server_from_ending(
    handler: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crest.listening.shutdown.LAST_WAIT", 0.05)
    ws, begun, release = WebSocketServer(max_connections=1), asyncio.Event(), asyncio.Event()

    async def stubborn(*args: Any) -> None:
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    getattr(ws, handler)(stubborn)
    async with App(shutdown_timeout=0.1).listening() as server, upgraded(server) as client:
        await client.send(frame(0x3 if handler == "on_error" else TEXT, "x"))
        if handler != "on_close":
            await until(begun)
    await until(begun)
    assert "handlers of 1 connections ignore their cancellation" in messages(caplog)
    assert server.site.seats == {}, "another server may take its clients"
    release.set()


@on_each_loop
async def test_on_close_that_broadcasts_during_shutdown_harms_nobody() -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(ws.broadcast("somebody left")))
    async with App().listening() as server:
        clients = [await connect(server) for _ in range(4)]
        await opened.reach(4)
    assert len(closed.seen) == 4
    for client in clients:
        await client.wait_closed()
        assert client.close_code == 1012
