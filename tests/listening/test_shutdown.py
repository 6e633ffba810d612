"""crest.listening.shutdown: who is closed when, what clients are told, and what is logged."""

import asyncio
import logging
import re
import socket
from itertools import cycle
from typing import Any

import pytest
from support.client import GUARD, close_frame, connect, handshake, request, tcp, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop
from support.shutdown import told

from crest import App, WebSocketServer
from crest.listening.shutdown import batches, closing_time
from crest.opening.parting import absence

# ---- When, and what they are told ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "rate", "longest", "seconds"),
    [(0, 1000.0, 5.0, 0.0), (10, 1000.0, 5.0, 0.01), (15_000, 1000.0, 5.0, 5.0), (15_000, None, 5.0, 0.0)],
)
def test_closing_takes_as_long_as_its_rate_says_but_not_too_long(
    count: int, rate: float | None, longest: float, seconds: float
) -> None:
    assert closing_time(count, rate, longest) == seconds


@pytest.mark.parametrize(("count", "seconds"), [(0, 0.0), (1, 1.0), (10, 0.01), (15_000, 0.0)])
def test_few_connections_and_those_without_a_time_are_closed_at_once(count: int, seconds: float) -> None:
    assert batches(count, seconds, lambda: 0.5) == [(0.0, count)]


@pytest.mark.parametrize(("count", "seconds"), [(2, 100.0), (100, 0.1), (777, 0.5), (15_000, 5.0), (1_000_000, 15.0)])
def test_many_are_closed_in_batches_of_one_size_each_in_its_own_stretch(count: int, seconds: float) -> None:
    whole = batches(count, seconds, cycle([0.0, 0.999, 0.4]).__next__)
    number = len(whole)
    assert number == min(count, round(seconds / 0.02))
    assert sum(size for _, size in whole) == count
    assert {size for _, size in whole} <= {count // number, count // number + 1}
    assert whole[0][0] == 0.0
    for i, (at, _) in enumerate(whole[1:], start=1):
        assert (i - 1) * seconds / number <= at < i * seconds / number


def test_batches_are_not_in_step_with_those_of_another_process() -> None:
    early, late = (batches(1000, 1.0, lambda given=given: given) for given in (0.0, 0.5))
    assert all(round(b[0] - a[0], 6) == 0.01 for a, b in zip(early[1:], late[1:], strict=True))


def test_nobody_comes_back_before_all_are_closed_nor_all_at_once() -> None:
    assert [absence(5.0, 2.0, lambda given=given: given) for given in (0.0, 0.5, 1.0)] == [7.0, 8.0, 9.0]


# ---- What is logged --------------------------------------------------------------------------------------------------


@on_each_loop
async def test_the_log_says_how_many_connections_there_were(caplog: pytest.LogCaptureFixture) -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    with caplog.at_level(logging.INFO, "crest"):
        async with App().listening() as server:
            clients = [await connect(server) for _ in range(3)]
            await opened.reach(3)
        assert told(caplog) == [
            "Shutting down; closing 3 connections over 0.0 s",
            "Stopped after # s; of 3 connections, 0 were cut off",
        ]
    for client in clients:
        await client.wait_closed()


@on_each_loop
async def test_connections_of_a_server_with_two_paths_are_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    app, ws, opened = App(), WebSocketServer(), Events()
    ws.on_connect(opened.add)
    app.mount("/a", ws)
    app.mount("/b", ws)
    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening() as server:
            client = await connect(server, "/a")
            await opened.reach(1)
        assert told(caplog) == [
            "Shutting down; closing 1 connections over 0.0 s",
            "Stopped after # s; of 1 connections, 0 were cut off",
        ]
    await client.wait_closed()


# ---- All connections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_shutdown_closes_every_connection_with_1012_and_runs_every_on_close(kind: str) -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(of_kind(kind, lambda conn, code, reason: closed.add(conn, code)))
    async with App().listening() as server:
        clients = [await connect(server) for _ in range(5)]
        await opened.reach(5)
    assert {conn for conn, _ in closed.seen} == set(opened.seen)
    assert [code for _, code in closed.seen] == [1012] * 5
    for client in clients:
        await client.wait_closed()
        assert client.close_code == 1012


@on_each_loop
async def test_shutdown_accepts_no_more() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server:
        async with upgraded(server) as client:
            await opened.reach(1)
            stopping = asyncio.create_task(server.stop())
            assert (await client.frame()).code == 1012
            with pytest.raises(ConnectionRefusedError):
                async with tcp(server):
                    pass
        await stopping


@on_each_loop
async def test_shutdown_ends_connections_that_have_not_sent_a_request() -> None:
    ws = WebSocketServer()
    async with asyncio.timeout(GUARD), App(shutdown_timeout=2 * GUARD).listening() as server:
        async with tcp(server) as silent, tcp(server) as half, tcp(server) as idle:
            await half.send(handshake(ws.path)[:30])
            await idle.send(request("/"))
            assert (await idle.answer()).status == 404
            async with upgraded(server, ws.path) as other:
                await other.round_trip()
            stopping = asyncio.create_task(server.stop())
            assert [await client.eof() for client in (silent, half, idle)] == [b""] * 3
        await stopping


@on_each_loop
async def test_one_connection_that_was_reset_does_not_keep_others_from_being_closed() -> None:
    """The server has not read of the reset yet when it is asked to stop."""
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server:
        clients = [await connect(server) for _ in range(3)]
        raw = [await asyncio.open_connection(server.host, server.port) for _ in range(3)]
        await opened.reach(3)
        async with upgraded(server) as other:
            await other.round_trip()
        for _, writer in raw:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            writer.transport.abort()
        await asyncio.sleep(0)
    for client in clients:
        await client.wait_closed()
        assert client.close_code == 1012


@on_each_loop
async def test_stopping_twice_is_a_no_op() -> None:
    ws, closed = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with App().listening() as server:
        client = await connect(server)
        await server.stop()
        await server.stop()
    await client.wait_closed()
    assert closed.seen == [1012]


# ---- Codes of RFC 6455 -----------------------------------------------------------------------------------------------


@on_each_loop
async def test_1001_in_place_of_1012(direct: bool) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App(close_codes="rfc6455").listening(direct=direct) as server:
        async with upgraded(server) as client:
            stopping = asyncio.ensure_future(server.stop())
            close = await client.frame()
            assert close.code == 1001 and re.fullmatch(r"retry-after=\d\.\d\d", close.reason)
            await client.send(close_frame(1001))
        await stopping
        assert events.seen == [1001]


@on_each_loop
async def test_1001_in_place_of_1013_and_what_the_program_says_stays(direct: bool) -> None:
    ws, opened, events = WebSocketServer(max_backlog=1000), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    async with App(close_codes="rfc6455").listening(direct=direct) as server:
        async with upgraded(server):
            (slow,) = await opened.reach(1)
            while slow.is_open():
                slow.send_binary(bytes(1 << 20))
            ((code, reason),) = await events.reach(1)
            assert code == 1001 and reason.startswith("the peer reads too slowly")
        async with upgraded(server) as client:
            (await opened.reach(2))[1].close(1013, "come back")
            assert (await client.frame()).code == 1013


@pytest.mark.parametrize(("value", "error"), [("RFC6455", ValueError), (None, TypeError), (True, TypeError)])
def test_codes_that_are_no_choice(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="close_codes must be"):
        App(close_codes=value)
