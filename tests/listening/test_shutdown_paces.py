"""crest.listening.shutdown: connections are closed in paces, others are served meanwhile, and it can be hurried."""

import asyncio
import logging
import re
import socket
from contextlib import AsyncExitStack
from typing import Any

import pytest
from support.client import GUARD, TEXT, Frame, close_frame, frame, handshake, request, tcp, upgraded
from support.events import Events, on_each_loop, turns
from support.shutdown import ENDLESS, begun, paced, told

from crest import App, WebSocketServer

# ---- In paces --------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_cancelled_again_it_comes_to_its_end_all_the_same(direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    ws, events = WebSocketServer(close_timeout=ENDLESS), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    with caplog.at_level(logging.INFO, "crest"):
        async with paced().listening(direct=direct) as server, upgraded(server) as client:
            stopping = asyncio.create_task(server.stop())
            await client.frame()
            for _ in range(3):
                stopping.cancel()
                await turns()
            with pytest.raises(asyncio.CancelledError):
                await stopping
            assert events.seen == [1006]
            assert server.protocols == []
    assert told(caplog)[-1] == "Stopped after # s; of 1 connections, 1 were cut off"


@pytest.mark.parametrize(
    ("app", "counted"),
    [
        pytest.param({"close_rate": None}, "open", id="without a rate"),
        pytest.param({"close_rate": 0.001, "shutdown_timeout": ENDLESS}, "open", id="hurried"),
        pytest.param({"shutdown_timeout": 0}, "there", id="out of time"),
        pytest.param({"close_rate": None}, "without a request", id="requests"),
    ],
)
@on_each_loop
async def test_the_loop_turns_while_many_are_ended(
    app: dict[str, Any], counted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crest.listening.shutdown.AT_ONCE", 2)
    ws, seen = WebSocketServer(), set()

    def count() -> int:
        if counted == "open":
            return ws.connection_count()
        return sum(counted == "there" or each.opening is not None for each in server.protocols)

    async with App(**app).listening() as server, AsyncExitStack() as stack:
        for _ in range(6):
            client = await stack.enter_async_context(tcp(server))
            await client.send(request("/"))
            await client.answer()
            if counted != "without a request":
                await client.upgrade()
        stopping = asyncio.create_task(server.stop())
        async with asyncio.timeout(GUARD):
            while left := count():
                seen.add(left)
                await asyncio.sleep(0)
                if left == 5:
                    server.hurry()
        await stack.aclose()
        await stopping
    assert seen & {1, 2, 3, 4}


@on_each_loop
async def test_those_that_are_not_closed_yet_are_served_as_ever(direct: bool) -> None:
    ws = WebSocketServer()
    ws.on_message(lambda conn, message: ws.broadcast(message))
    async with paced().listening(direct=direct) as server:
        async with upgraded(server) as first, upgraded(server) as second, upgraded(server) as third:
            stopping = await begun(server, first)
            await second.send(frame(TEXT, "still here"))
            for client in (second, third):
                assert await client.frame() == Frame(TEXT, b"still here")
            server.hurry()
            for client in (second, third):
                assert (await client.frame()).code == 1012
        await stopping


@pytest.mark.parametrize(
    ("retry_after", "least", "most"), [(0, 1500, 1500), (7.5, 1507.5, 1515)], ids=["at once", "later"]
)
@on_each_loop
async def test_the_reason_says_when_to_come_back(retry_after: float, least: float, most: float) -> None:
    WebSocketServer()
    async with paced(retry_after=retry_after, shutdown_timeout=3000).listening() as server:
        async with upgraded(server) as first, upgraded(server):
            stopping = asyncio.create_task(server.stop())
            reason = (await first.frame()).reason
            assert re.fullmatch(r"retry-after=\d+\.\d\d", reason)
            assert least <= float(reason.partition("=")[2]) <= most
            server.hurry()
        await stopping


@on_each_loop
async def test_without_a_time_to_come_back_the_code_is_1001() -> None:
    ws = WebSocketServer()
    async with paced(retry_after=None).listening() as server:
        async with upgraded(server) as first, upgraded(server), tcp(server) as late:
            stopping = asyncio.create_task(server.stop())
            closed = await first.frame()
            assert (closed.code, closed.reason) == (1001, "the server is shutting down")
            await late.send(handshake(ws.path))
            answer = await late.answer()
            assert answer.status == 503 and "retry-after" not in answer.headers
            server.hurry()
        await stopping


@on_each_loop
async def test_meanwhile_requests_get_503(direct: bool) -> None:
    """On a connection that is new, on one that was there, and on one whose request was on its way."""
    app, ws = paced(shutdown_timeout=3000), WebSocketServer()
    app.get("/")(lambda request: "page")
    async with app.listening(direct=direct) as server:
        async with upgraded(server) as first, upgraded(server), tcp(server) as idle, tcp(server) as half:
            await idle.send(request("/"))
            assert (await idle.answer()).body == b"page"
            await half.send(handshake()[:30])
            await first.round_trip()
            stopping = await begun(server, first)
            await idle.send(request("/"))
            await half.send(handshake()[30:])
            async with tcp(server) as new:
                await new.send(handshake())
                for client in (new, idle, half):
                    answer = await client.answer()
                    assert (answer.status, answer.body) == (503, b"the server is shutting down\n")
                    assert 1500 < int(answer.headers["retry-after"]) <= 1504
                    assert answer.headers["connection"] == "close"
                    assert await client.eof() == b""
            assert ws.refused == {"shutdown": 2}
            server.hurry()
        await stopping


@on_each_loop
async def test_a_shutdown_is_over_when_the_last_client_has_left() -> None:
    """Nobody waits for batches in which there is nobody any more."""
    WebSocketServer()
    async with paced().listening() as server:
        async with upgraded(server) as first, upgraded(server) as second, upgraded(server) as third:
            stopping = await begun(server, first)
            for client in (second, third):
                await client.send(close_frame(1000))
                assert (await client.frame()).code == 1000
        async with asyncio.timeout(GUARD):
            await stopping


@on_each_loop
async def test_a_client_that_says_nothing_does_not_outlast_the_others() -> None:
    """Neither does it keep the server from ending, nor is it closed before it had a chance."""
    WebSocketServer()
    async with paced().listening() as server:
        async with upgraded(server) as first, upgraded(server) as second:
            stopping = await begun(server, first)
            async with tcp(server) as silent:
                server.hurry()
                assert (await second.frame()).code == 1012
                assert await silent.eof() == b""
        await stopping


@on_each_loop
async def test_listening_sockets_that_crest_has_made_may_be_closed_first() -> None:
    WebSocketServer()
    async with paced(keep_listening=False).listening() as server:
        async with upgraded(server) as first, upgraded(server) as second:
            stopping = await begun(server, first)
            with pytest.raises(ConnectionRefusedError):
                async with tcp(server):
                    pass
            await second.round_trip()
            server.hurry()
        await stopping


@on_each_loop
async def test_listening_sockets_that_were_passed_are_left_to_others_at_once(direct: bool) -> None:
    """Who comes then waits for the process that accepts next."""
    WebSocketServer()
    with socket.create_server(("127.0.0.1", 0)) as shared:
        shared.setblocking(False)
        async with paced().listening(listen=shared.dup(), direct=direct) as server:
            async with upgraded(server) as first, upgraded(server) as second:
                stopping = await begun(server, first)
                async with tcp(server) as client:
                    accepted, _ = await asyncio.get_running_loop().sock_accept(shared)
                    with accepted:
                        accepted.send(b"from the next")
                    assert await client.eof() == b"from the next"
                await second.round_trip()
                server.hurry()
            await stopping


# ---- Hurry -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, ENDLESS], ids=["no time", "hurried"])
@on_each_loop
async def test_even_without_any_time_clients_are_told(timeout: float) -> None:
    ws, closed = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with App(shutdown_timeout=timeout).listening() as server:
        async with upgraded(server) as one, upgraded(server) as two:
            stopping = asyncio.create_task(server.stop())
            server.hurry()
            async with asyncio.timeout(GUARD):
                await stopping
            assert closed.seen == [1006, 1006]
            for client in (one, two):
                assert (await client.frame()).code == 1012
                assert await client.eof() == b""


@on_each_loop
async def test_everyone_who_stops_it_waits_for_the_end() -> None:
    ws, release = WebSocketServer(), asyncio.Event()
    ws.on_close(lambda conn, code, reason: release.wait())
    async with App().listening() as server:
        async with upgraded(server) as client:
            tasks = [asyncio.create_task(server.stop()) for _ in range(3)]
            assert (await client.frame()).code == 1012
            await client.send(close_frame(1012))
            assert await client.eof() == b""
        await turns(3)
        assert not any(each.done() for each in tasks)
        release.set()
        await asyncio.gather(*tasks)


@on_each_loop
async def test_cancelling_the_stop_hurries_it() -> None:
    ws, closed = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with paced().listening() as server, upgraded(server) as client, upgraded(server) as other:
        stopping = asyncio.create_task(server.stop())
        assert (await client.frame()).code == 1012
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert closed.seen == [1006, 1006]
        assert (await other.frame()).code == 1012
