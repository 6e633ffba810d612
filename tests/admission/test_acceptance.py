"""crest.admission.acceptance: limits of one connection, which on_upgrade gives it, over real sockets."""

import asyncio
import gc
import logging
import math
import weakref
from typing import Any

import pytest
from support.client import CLOSE, PING, TEXT, connect, frame, handshake, tcp, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop

from crest import Accept, App, Request, WebSocketServer

VIP = {"Cookie": "vip=1"}


def two_kinds(ws: WebSocketServer, kind: str = "plain", **limits: Any) -> None:
    """Have on_upgrade give those limits to clients with a cookie, and nothing to others."""

    def upgrade(request: Request) -> Any:
        return Accept("vip", **limits) if "vip" in request.cookies else "other"

    ws.on_upgrade(of_kind(kind, upgrade))


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_the_user(kind: str, direct: bool) -> None:
    ws, opened = WebSocketServer(), Events()
    two_kinds(ws, kind)
    ws.on_connect(opened.add)
    async with App().listening(direct=direct) as server, upgraded(server, changed=VIP), upgraded(server):
        first, second = await opened.reach(2)
        assert (first.user, second.user) == ("vip", "other")
        assert ws.connection_count() == 2


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_max_message_size(kind: str, direct: bool) -> None:
    ws = WebSocketServer(max_message_size=10)
    ws.on_message(lambda conn, message: conn.send(f"{len(message)}"))
    two_kinds(ws, kind, max_message_size=1000)
    async with App().listening(direct=direct) as server:
        async with connect(server, additional_headers=VIP) as client:
            await client.send("x" * 1000)
            assert await client.recv() == "1000"
        for changed, size in ((VIP, 1001), ({}, 11)):
            async with upgraded(server, changed=changed) as client:
                await client.send(frame(TEXT, "x" * size))
                assert (await client.until_close())[-1].code == 1009


@on_each_loop
async def test_rates_are_the_servers_but_for_what_is_given(direct: bool) -> None:
    ws, events = WebSocketServer(max_message_rate=(0.001, 2), on_rate="drop"), Events()
    ws.on_message(lambda conn, message: events.add(conn.user, message))
    two_kinds(ws, max_message_rate=(0.001, 4))
    async with App().listening(direct=direct) as server:
        for changed, count in (({}, 2), (VIP, 4)):
            events.seen.clear()
            async with upgraded(server, changed=changed) as client:
                (conn,) = ws.get_connections()
                await client.send(frame(TEXT, "x") * 9)
                await client.round_trip()
                assert len(events.seen) == count and conn.discarded == 9 - count


@on_each_loop
async def test_one_without_a_rate_and_one_with_another_policy(direct: bool) -> None:
    ws = WebSocketServer(max_message_rate=(0.001, 2), max_byte_rate=1000, count_inflated=True)
    ws.on_message(lambda conn, message: conn.send(message))
    async with App().listening(direct=direct) as server:
        two_kinds(ws, max_message_rate=None, max_byte_rate=None)
        async with upgraded(server, changed=VIP) as client:
            await client.send(frame(TEXT, "x") * 500)
            assert [(await client.frame()).payload for _ in range(500)] == [b"x"] * 500
        two_kinds(ws, on_rate="drop")
        async with upgraded(server, changed=VIP) as client:
            await client.send(frame(TEXT, "x") * 500)
            assert [(await client.frame()).payload for _ in range(2)] == [b"x"] * 2
            await client.round_trip()
        async with upgraded(server) as client:
            await client.send(frame(TEXT, "x") * 500)
            assert (await client.until_close())[-1].code == 1008


@on_each_loop
async def test_heartbeat(direct: bool) -> None:
    ws = WebSocketServer(ping_interval=None)
    two_kinds(ws, ping_interval=0.05, ping_timeout=0.05)
    async with App().listening(direct=direct) as server:
        async with upgraded(server) as other, upgraded(server, changed=VIP) as client:
            assert (await client.frame()).opcode == PING
            closing = (await client.until_close())[-1]
            assert (closing.opcode, closing.code) == (CLOSE, 1011)
            await other.round_trip()
        two_kinds(ws, idle_timeout=0.05)
        async with connect(server, additional_headers=VIP) as idle:
            await idle.wait_closed()
            assert idle.close_code == 1001


@on_each_loop
async def test_max_backlog_of_one_client(direct: bool) -> None:
    """Beside one with the server's: both get the broadcasts, and own messages, as far as theirs goes."""
    ws, opened = WebSocketServer(max_backlog=1 << 26, on_backlog="drop"), Events()
    two_kinds(ws, max_backlog=100_000)
    ws.on_connect(opened.add)
    async with App().listening(direct=direct) as server:
        async with upgraded(server, changed=VIP), upgraded(server):
            small, large = await opened.reach(2)
            for _ in range(40):
                for conn in (small, large):
                    conn.send_binary(bytes(500_000))
                ws.broadcast_binary(bytes(500_000))
            assert (small.dropped > 0, large.dropped) == (True, 0)
            assert large.buffered > small.buffered


@on_each_loop
async def test_max_queue(direct: bool) -> None:
    ws = WebSocketServer()
    two_kinds(ws, max_queue=1)
    async with App().listening(direct=direct) as server, upgraded(server, changed=VIP), upgraded(server):
        assert ws._hub.max_queue == 16
        assert [each.max_queue for each in ws._hub.variants()] == [1]


@on_each_loop
async def test_handlers_that_are_registered_later(direct: bool) -> None:
    ws = WebSocketServer()
    two_kinds(ws, max_queue=5)
    async with App().listening(direct=direct) as server, connect(server, additional_headers=VIP) as client:
        for answer in ("first", "second"):
            ws.on_message(lambda conn, message, answer=answer: conn.send(answer))
            await client.send("x")
            assert await client.recv() == answer
        ws.broadcast("all")
        assert await client.recv() == "all"


@on_each_loop
async def test_the_same_limits_are_kept_once_and_not_for_ever() -> None:
    ws = WebSocketServer()
    two_kinds(ws, max_queue=5)
    async with App().listening() as server:
        async with upgraded(server, changed=VIP), upgraded(server, changed=VIP):
            (variant,) = ws._hub.variants()
            gone = weakref.ref(variant)
            del variant
        while server.protocols:
            await asyncio.sleep(0)
        gc.collect()
        assert gone() is None and ws._hub.variants() == []
    async with App().listening() as server:
        assert server.servers == {}
    app = App()
    app.mount("/ws", ws)
    async with app.listening() as server, connect(server, additional_headers=VIP) as client:
        ws.broadcast("again")
        assert await client.recv() == "again"


# ---- Limits that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"max_message_size": 0}, ValueError),
        ({"max_message_size": "1"}, TypeError),
        ({"max_queue": True}, TypeError),
        ({"max_backlog": -1}, ValueError),
        ({"max_message_rate": (1, 0)}, ValueError),
        ({"max_byte_rate": "fast"}, TypeError),
        ({"on_rate": "open"}, ValueError),
        ({"on_rate": None}, TypeError),
        ({"ping_interval": 0}, ValueError),
        ({"ping_timeout": math.nan}, ValueError),
        ({"idle_timeout": 1e9}, ValueError),
        ({"max_fragments": 3}, TypeError),
    ],
    ids=repr,
)
def test_a_limit_that_is_none_is_refused_by_name(limits: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(limits))):
        Accept("Alice", **limits)


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_in_on_upgrade_that_is_the_handlers_error(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    ws = WebSocketServer(max_connections=1)
    two_kinds(ws, kind, max_queue=0)
    async with App().listening() as server:
        with caplog.at_level(logging.ERROR, "crest"):
            async with tcp(server) as client:
                await client.send(handshake("/ws", VIP))
                assert (await client.answer()).status == 500
        assert "max_queue must be at least 1, not 0" in caplog.text
        assert ws.refused == {"error": 1} and ws.connection_count() == 0
        async with upgraded(server):
            pass


def test_repr() -> None:
    assert repr(Accept("Alice", max_queue=3, idle_timeout=None)) == "Accept('Alice', max_queue=3, idle_timeout=None)"
    assert repr(Accept()) == "Accept(None)"
